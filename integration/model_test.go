package integration

import (
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"stasis/integration/harness"
)

const (
	// modelOps is how many operations the model check does, and modelSteps how many steps one
	// run from empty directories has on average; the second of each is with full counts.
	modelOps, modelSoak        = 1500, 220_000
	modelSteps, modelSoakSteps = 60, 150
	// modelCalm is how many steps are single operations for each that restarts the daemon or
	// waits for it, which take as long as hundreds.
	modelCalm, modelSoakCalm = 10, 100
	// modelBurst is the most operations a worker does beside the others in one step.
	modelBurst = 8
	// modelSlots is how many files a worker has open in what all share, and as many again in
	// what is its own.
	modelSlots = 4
	// modelReport is after how many runs the test says how far it is.
	modelReport = 50
	// modelWait bounds a `stasis wait` between operations.
	modelWait = time.Minute
)

func kindsOf[V any](ops map[string]V) map[string]bool {
	all := map[string]bool{}
	for kind := range ops {
		all[kind] = true
	}
	return all
}

func sorted(all []string) []string { return slices.Sorted(slices.Values(all)) }

// modelCheck does operations from several processes to a directory on ext4 and to a
// mount, and compares all that a program sees of them. The workers take turns on what they
// share, where the order decides; each has a directory of its own besides, where they all
// work at once.
type modelCheck struct {
	t         testing.TB
	want, got string // where the directories of a run are made
	workers   []*worker
	vault     *harness.Vault // nil: got is a directory too
	runs      int
	done      int // operations in all runs
}

// modelRun is one run from empty directories.
type modelRun struct {
	*modelCheck
	want, got string
	pool      []rawText
	last      []reply // of each worker
	history   []string
}

func newModelCheck(t testing.TB, vault *harness.Vault, want, got, lose string) *modelCheck {
	c := &modelCheck{t: t, want: want, got: got, vault: vault}
	binary := workerBinary(t)
	users := []*syscall.Credential{nil, nil, {Uid: modelUser, Gid: modelUser}, {Uid: modelOther, Gid: modelOther, Groups: []uint32{modelUser, modelGroup}}}
	for i, who := range users {
		name := fmt.Sprintf("worker %d", i)
		if os.Geteuid() != 0 {
			who = nil
		}
		if who != nil {
			name += fmt.Sprintf(" (user %d)", who.Uid)
		}
		c.workers = append(c.workers, startWorker(t, binary, name, who, lose))
	}
	return c
}

// begin makes the directories of a run, and in them one for each worker.
func (c *modelCheck) begin(t *rapid.T) *modelRun {
	if c.vault != nil && c.vault.PID() == 0 {
		c.vault.Start() // the run before ended with a kill
	}
	c.runs++
	name := strconv.Itoa(c.runs)
	r := &modelRun{modelCheck: c, want: filepath.Join(c.want, name), got: filepath.Join(c.got, name)}
	r.last = make([]reply, len(c.workers))
	r.pool = slices.Concat(modelPaths, strangeNames(rapid.Uint64Range(0, 1<<16).Draw(t, "strange names")))
	for _, root := range []string{r.want, r.got} {
		dirs := []string{root}
		for i := range c.workers {
			dirs = append(dirs, filepath.Join(root, ownDir(i)))
		}
		for _, dir := range dirs {
			if err := os.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range c.workers {
		r.ask(t, i, request{Fresh: true})
	}
	return r
}

// ownPrefix begins the names of the workers' own directories, which no operation makes.
const ownPrefix = "worker"

func ownDir(i int) string { return fmt.Sprint(ownPrefix, i) }

// fail tells what was done so far; rapid looks for a shorter history then.
func (r *modelRun) fail(t *rapid.T, format string, args ...any) {
	t.Fatalf("%s\nafter these steps:\n%s", fmt.Sprintf(format, args...), strings.Join(r.history, "\n"))
}

func (r *modelRun) ask(t *rapid.T, i int, q request) reply {
	q.Want, q.Got = filepath.Join(r.want, q.Want), filepath.Join(r.got, q.Got)
	p, err := r.workers[i].ask(q)
	if err != nil {
		r.fail(t, "%v", err)
	}
	r.done += p.Done
	r.last[i] = p
	return p
}

// state is what a worker has to work with, in what all share, or from slot modelSlots on in
// what is its own.
func (r *modelRun) state(t *rapid.T, i, base int) *modelState {
	st := &modelState{pool: r.pool, base: base}
	top := r.want
	if base > 0 {
		top = filepath.Join(r.want, ownDir(i))
	}
	err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == top {
			return err
		}
		if filepath.Dir(path) == r.want && strings.HasPrefix(e.Name(), ownPrefix) {
			return fs.SkipDir
		}
		st.paths = append(st.paths, rawText(path[len(top)+1:]))
		return nil
	})
	if err != nil {
		r.fail(t, "look at what is there: %v", err)
	}
	inRange := func(slots []int, n int) (all []int) {
		for _, slot := range slots {
			if slot >= base && slot < base+n {
				all = append(all, slot)
			}
		}
		return all
	}
	last := r.last[i]
	st.files, st.taken, st.maps = inRange(last.Files, modelSlots), inRange(last.Taken, modelSlots), inRange(last.Maps, modelMaps)
	return st
}

// one lets a worker do an operation in what all share.
func (r *modelRun) one(t *rapid.T) {
	i := drawIndex(t, "worker", len(r.workers))
	op := drawOp(t, allKinds, r.state(t, i, 0))
	r.history = append(r.history, fmt.Sprintf("%s: %v", r.workers[i].name, op))
	if p := r.ask(t, i, request{Ops: []modelOp{op}}); p.Difference != "" {
		r.fail(t, "%s: %v\n%s", r.workers[i].name, op, p.Difference)
	}
}

// burst lets all workers work at once, each in its own directory; killed: and kills the
// daemon at some moment.
func (r *modelRun) burst(t *rapid.T, killed bool) {
	kinds, most := allKinds, modelBurst
	if killed {
		kinds, most = undivided, 4*modelBurst
	}
	ops := make([][]modelOp, len(r.workers))
	for i, w := range r.workers {
		st := r.state(t, i, modelSlots)
		for range drawIndex(t, "operations", most+1) {
			op := drawOp(t, kinds, st)
			st.expect(op)
			ops[i] = append(ops[i], op)
			r.history = append(r.history, fmt.Sprintf("at once, %s: %v", w.name, op))
		}
	}
	delay := time.Duration(0)
	if killed {
		delay = time.Duration(drawIndex(t, "kill after us", 5000)) * time.Microsecond
		r.history = append(r.history, fmt.Sprintf("kill -9 %s into that, start", delay))
	}
	for i, w := range r.workers {
		q := request{Want: filepath.Join(r.want, ownDir(i)), Got: filepath.Join(r.got, ownDir(i)), Ops: ops[i], Killed: killed}
		if err := w.send(q); err != nil {
			r.fail(t, "%s: %v", w.name, err)
		}
	}
	if killed {
		time.Sleep(delay)
		r.vault.Kill()
	}
	replies := make([]reply, len(r.workers))
	for i, w := range r.workers {
		var err error
		if replies[i], err = w.receive(); err != nil {
			r.fail(t, "%v", err)
		}
		r.done += replies[i].Done
		r.last[i] = replies[i]
	}
	for i, p := range replies {
		if p.Difference != "" {
			r.fail(t, "%s: %v\n%s", r.workers[i].name, ops[i][p.Done], p.Difference)
		}
	}
	if killed {
		r.revive(t, ops, replies)
	}
}

// revive starts the vault after a kill. What a worker had been told is there; of the one
// operation that was cut off, all or nothing.
func (r *modelRun) revive(t *rapid.T, ops [][]modelOp, replies []reply) {
	var unsure []uint64
	for _, p := range r.last {
		unsure = append(unsure, p.Writing...)
	}
	r.closeAll(t)
	r.vault.Start()
	r.ask(t, 0, request{Unsure: unsure})
	for i, p := range replies {
		if !p.Cut {
			continue
		}
		own := request{Want: ownDir(i), Got: ownDir(i), Compare: true, Births: true}
		before := r.ask(t, 0, own).Difference
		if before == "" {
			continue
		}
		cut := ops[i][p.Done]
		if r.cleared(t, own, cut) {
			continue
		}
		r.ask(t, i, request{Want: own.Want, Got: own.Got, Ops: []modelOp{cut}, OnlyWant: true})
		var st unix.Stat_t
		if unix.Stat(filepath.Join(r.want, own.Want)+"/"+string(cut.Path), &st) == nil {
			own.Unsure = append(own.Unsure, st.Ino)
		}
		// Compared by root: a worker may not read all that there is.
		if after := r.ask(t, 0, own).Difference; after != "" {
			r.fail(t, "%s: neither done nor not done is %v, which the kill cut off\nas if not done: %s\nas if done: %s", r.workers[i].name, cut, before, after)
		}
	}
	r.compare(t)
}

// cleared reports whether all that is left of an operation is that set-user-id and the like
// were cleared, which comes before a change of content, or the capability alone, which the
// kernel has removed before it changes the owner.
func (r *modelRun) cleared(t *rapid.T, own request, cut modelOp) bool {
	path := filepath.Join(r.want, own.Want) + "/" + string(cut.Path)
	if cut.Kind == "truncate" || cut.Kind == "patch" {
		var err error
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return false
		}
	} else if cut.Kind != "chown" {
		return false
	}
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil || cut.Kind != "chown" && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	was, stripped := st.Mode&0o7777, st.Mode&0o7777
	if cut.Kind != "chown" {
		stripped &^= unix.S_ISUID
		if stripped&unix.S_IXGRP != 0 {
			stripped &^= unix.S_ISGID
		}
	}
	const capability = "security.capability"
	value := make([]byte, 64)
	n, err := unix.Lgetxattr(path, capability, value)
	may := func(err error) {
		if err != nil {
			r.fail(t, "%q: %v", path, err)
		}
	}
	if err == nil {
		may(unix.Lremovexattr(path, capability))
	}
	if was != stripped {
		may(unix.Chmod(path, stripped))
	}
	if r.ask(t, 0, own).Difference == "" {
		return true
	}
	if was != stripped {
		may(unix.Chmod(path, was))
	}
	if err == nil {
		may(unix.Lsetxattr(path, capability, value[:n], 0))
	}
	return false
}

func (r *modelRun) closeAll(t *rapid.T) {
	for i := range r.workers {
		r.ask(t, i, request{Closes: true})
	}
}

// compare compares the whole trees.
func (r *modelRun) compare(t *rapid.T) {
	if p := r.ask(t, 0, request{Compare: true, Births: r.vault != nil}); p.Difference != "" {
		r.fail(t, "the trees differ at %s", p.Difference)
	}
}

func (r *modelRun) remount(t *rapid.T) {
	r.history = append(r.history, "unmount, mount")
	r.closeAll(t)
	r.vault.Unmount()
	r.vault.Start()
	r.compare(t)
}

func (r *modelRun) kill(t *rapid.T) {
	r.history = append(r.history, "kill -9, start")
	r.vault.Kill()
	r.revive(t, nil, nil)
}

// wait has what was written go to the nodes, so that what follows meets crates.
func (r *modelRun) wait(t *rapid.T) {
	r.history = append(r.history, "stasis wait")
	r.vault.Wait(modelWait)
	r.compare(t)
}

// step is one action of the state machine.
func (r *modelRun) step(t *rapid.T) {
	calm := harness.Count(modelCalm, modelSoakCalm)
	kinds := slices.Repeat([]string{"one"}, 4*calm)
	kinds = append(kinds, slices.Repeat([]string{"burst", "burst", "burst", "compare"}, calm/10)...)
	if r.vault != nil {
		kinds = append(kinds, "remount", "kill", "kill in a burst", "wait")
	}
	switch draw(t, "step", kinds) {
	case "one":
		r.one(t)
	case "burst":
		r.burst(t, false)
	case "compare":
		r.compare(t)
	case "remount":
		r.remount(t)
	case "kill":
		r.kill(t)
	case "kill in a burst":
		r.burst(t, true)
	case "wait":
		r.wait(t)
	}
}

// end compares all once more and removes it.
func (r *modelRun) end(t *rapid.T) {
	r.compare(t)
	r.closeAll(t)
	r.compare(t)
	for _, root := range []string{r.want, r.got} {
		if err := os.RemoveAll(root); err != nil {
			r.fail(t, "remove all: %v", err)
		}
	}
}

// run does about so many operations.
func (c *modelCheck) run(t *testing.T, operations int) {
	steps := harness.Count(modelSteps, modelSoakSteps)
	// A step is two operations on average.
	setRapid(t, map[string]string{
		"rapid.checks": strconv.Itoa(max(1, operations/(2*steps))), "rapid.steps": strconv.Itoa(steps),
		"rapid.seed": strconv.FormatUint(harness.Seed(t)|1, 10), "rapid.nofailfile": "true",
	})
	rapid.Check(t, func(t *rapid.T) {
		r := c.begin(t)
		defer func() {
			if t.Failed() {
				// The next run, shorter, begins with closed files.
				for i := range r.workers {
					_, _ = r.workers[i].ask(request{Closes: true})
				}
			}
		}()
		t.Repeat(map[string]func(*rapid.T){"step": r.step})
		r.end(t)
		if c.runs%modelReport == 0 {
			c.t.Logf("%d operations so far", c.done)
		}
	})
	t.Logf("%d operations in %d runs", c.done, c.runs)
}

// setRapid sets flags of package rapid, which takes its settings from nowhere else.
func setRapid(t *testing.T, flags map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		f := flag.Lookup(name)
		was := f.Value.String()
		if err := f.Value.Set(flags[name]); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Value.Set(was) })
	}
}

// ext4Dir is a directory on ext4, which is what programs are written for.
func ext4Dir(t *testing.T) string {
	dir := harness.Dir(t)
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	if s.Type == unix.EXT4_SUPER_MAGIC {
		return dir
	}
	return harness.NewDisk(t, "ext4", 1<<30).Point
}

// A comparison that can't fail would say nothing: two plain directories agree, and a
// side that loses writes, or renames, is caught.
func TestModelTellsRightFromWrong(t *testing.T) {
	dir := ext4Dir(t)
	c := newModelCheck(t, nil, harness.Mkdir(t, dir, "want"), harness.Mkdir(t, dir, "got"), "-")
	c.run(t, harness.Count(300, 20_000))
	for _, lose := range []string{"pwrite", "rename"} {
		want, got := newSide(harness.Mkdir(t, dir, lose, "want"), ""), newSide(harness.Mkdir(t, dir, lose, "got"), lose)
		ops := []modelOp{
			{Kind: "open", Path: "a", Flags: unix.O_RDWR | unix.O_CREAT, Mode: 0o644},
			{Kind: "pwrite", Size: 100, Offset: 4090, Seed: 1},
			{Kind: "close"},
			{Kind: "rename", Path: "a", To: "b"},
		}
		if r := answer(request{Want: want.root, Got: got.root, Ops: ops, Compare: true}, want, got); r.Difference == "" {
			t.Errorf("a lost %s was not noticed", lose)
		}
	}
}

// Whatever programs do, a vault answers as ext4 does, and neither a remount nor kill -9
// changes what it answered.
func TestModelAgainstExt4(t *testing.T) {
	dir := ext4Dir(t)
	v := harness.NewVault(t)
	v.Directories(2, filepath.Join(v.Base, "one"), filepath.Join(v.Base, "two"))
	v.Flags = []string{"--allow-other", "-o", "dev,suid"}
	v.Start()
	c := newModelCheck(t, v, harness.Mkdir(t, dir, "want"), v.Point, "-")
	c.run(t, harness.Count(modelOps, modelSoak))
	v.Wait(modelWait)
	v.OK("check", "--read", v.Point)
	v.Unmount()
}
