package integration

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"stasis/integration/harness"
)

const (
	// modelOps is how many operations the model check does, modelSoak with full counts, and
	// modelSteps how many steps one run from empty directories has on average.
	modelOps, modelSoak = 1500, 50_000
	modelSteps          = 60
	// modelBurst is the most operations a worker does beside the others in one step.
	modelBurst = 8
	// modelSlots is how many files a worker has open in what all share, and as many again in
	// what is its own.
	modelSlots = 4
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
	history   []string
}

func newModelCheck(t testing.TB, vault *harness.Vault, want, got, lose string) *modelCheck {
	c := &modelCheck{t: t, want: want, got: got, vault: vault}
	binary := workerBinary(t)
	users := []uint32{0, 0, modelUser}
	if os.Geteuid() != 0 {
		users = []uint32{0, 0, 0} // as who we are
	}
	for i, uid := range users {
		c.workers = append(c.workers, startWorker(t, binary, fmt.Sprintf("worker %d (user %d)", i, uid), uid, lose))
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
	return r
}

func ownDir(i int) string { return fmt.Sprintf("w%d", i) }

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
	return p
}

// one lets a worker do an operation in what all share.
func (r *modelRun) one(t *rapid.T) {
	i := rapid.IntRange(0, len(r.workers)-1).Draw(t, "worker")
	op := drawOp(t, allKinds, 0)
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
		for range rapid.IntRange(0, most).Draw(t, "operations") {
			op := drawOp(t, kinds, modelSlots)
			ops[i] = append(ops[i], op)
			r.history = append(r.history, fmt.Sprintf("at once, %s: %v", w.name, op))
		}
	}
	delay := time.Duration(0)
	if killed {
		delay = time.Duration(rapid.IntRange(0, 5000).Draw(t, "kill after us")) * time.Microsecond
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
	r.closeAll(t)
	r.vault.Start()
	for i, p := range replies {
		if !p.Cut {
			continue
		}
		own := request{Want: ownDir(i), Got: ownDir(i), Compare: true}
		before := r.ask(t, 0, own).Difference
		if before == "" {
			continue
		}
		cut := ops[i][p.Done]
		r.ask(t, i, request{Want: own.Want, Got: own.Got, Ops: []modelOp{cut}, OnlyWant: true})
		// Compared by root: a worker may not read all that there is.
		if after := r.ask(t, 0, own).Difference; after != "" {
			r.fail(t, "%s: neither done nor not done is %v, which the kill cut off\nas if not done: %s\nas if done: %s", r.workers[i].name, cut, before, after)
		}
	}
	r.compare(t)
}

func (r *modelRun) closeAll(t *rapid.T) {
	for i := range r.workers {
		r.ask(t, i, request{Closes: true})
	}
}

// compare compares the whole trees.
func (r *modelRun) compare(t *rapid.T) {
	if p := r.ask(t, 0, request{Compare: true}); p.Difference != "" {
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
	kinds := slices.Repeat([]string{"one"}, 40)
	kinds = append(kinds, "burst", "burst", "burst", "compare")
	if r.vault != nil {
		kinds = append(kinds, "remount", "kill", "kill in a burst", "wait")
	}
	switch rapid.SampledFrom(kinds).Draw(t, "step") {
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
	// A step is 1.2 operations on average.
	setRapid(t, map[string]string{
		"rapid.checks": strconv.Itoa(max(1, operations*5/(modelSteps*6))), "rapid.steps": strconv.Itoa(modelSteps),
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
	c.run(t, 300)
	for _, lose := range []string{"pwrite", "rename"} {
		want, got := &side{root: harness.Mkdir(t, dir, lose, "want"), files: map[int]int{}}, &side{root: harness.Mkdir(t, dir, lose, "got"), files: map[int]int{}, lose: lose}
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
	v.Flags = []string{"--allow-other"}
	v.Start()
	c := newModelCheck(t, v, harness.Mkdir(t, dir, "want"), v.Point, "-")
	c.run(t, harness.Count(modelOps, modelSoak))
	v.Wait(modelWait)
	v.OK("check", "--read", v.Point)
	v.Unmount()
}
