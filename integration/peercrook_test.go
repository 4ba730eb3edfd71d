package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"stasis/integration/harness"
	"stasis/peer/identity"
	"stasis/store"
	"stasis/store/directory"
)

const (
	// lieTime is for how long at most lies are told to each vault, beside the time of what is
	// asserted at the end; soakTime is that with full counts.
	lieTime  = 35 * time.Second
	soakTime = 2 * time.Hour
	// liveFiles is about how many files there are at a time; each turn writes turnFiles.
	liveFiles, turnFiles = 40, 4
	// turnTime is how long a turn waits for a lie to be told.
	turnTime = 250 * time.Millisecond
	// settleWithin bounds how long a vault may take to come to rest when its peer is honest again.
	settleWithin = 60 * time.Second
	// mostMemory is how much a daemon may take amid lies, in bytes.
	mostMemory = 700 << 20
	// mostCalls is how many calls a second a liar may bring about.
	mostCalls = 400
	// mostSent is how many bytes may go to a liar for each that was written.
	mostSent = 40
)

// deceived is a vault beside a crook, and what should be in it.
type deceived struct {
	t       *testing.T
	v       *harness.Vault
	c       *crook
	peer    *harness.Peer // the honest node, unless that is a directory
	alone   bool          // the honest node is away
	seed    uint64
	rand    *rand.Rand
	files   map[string][]byte
	ever    map[store.Digest]bool // roots of all that was ever written
	next    int
	written int64 // bytes
	cpu     time.Duration
	peak    int64 // bytes
}

// No lie of a peer, in whatever field of whatever answer, has a program read a wrong byte, spoils
// the honest node, or counts as a copy what nobody vouches for; and none makes endless work.
func TestPeerLies(t *testing.T) {
	for _, s := range []struct{ protocol, honest string }{{"grpc", "directory"}, {"http", "peer"}, {"http", "directory"}, {"grpc", "peer"}} {
		if !harness.Soak() && (s.protocol == "grpc") != (s.honest == "directory") {
			continue
		}
		t.Run(s.protocol+", beside an honest "+s.honest, func(t *testing.T) {
			t.Parallel() // most of its time a vault waits for the next lie
			d := newDeceived(t, s.protocol, s.honest, 2)
			v, c := d.v, d.c
			took := d.hear(allLies(), harness.Count(500, 25_000), true)
			calls, told, received := c.figures()
			d.measure()
			d.cpu += cpuOf(t, v.PID())
			t.Logf("%d lies of %d kinds in %s; %d calls (%.0f a second), %.1f MiB sent to the liar for %.1f MiB written; the daemon took %s of a core, %.0f MiB at most",
				told, len(c.kinds()), took.Round(time.Second), calls, float64(calls)/took.Seconds(), mib(received), mib(d.written), d.cpu.Round(time.Millisecond), mib(d.peak))
			t.Logf("told: %s", strings.Join(c.kinds(), "; "))
			if d.peak > mostMemory {
				t.Errorf("the daemon took %.0f MiB, want at most %.0f", mib(d.peak), mib(mostMemory))
			}
			if n := float64(calls) / took.Seconds(); n > mostCalls {
				t.Errorf("%.0f calls a second, want at most %d", n, mostCalls)
			}
			if received > mostSent*d.written+64<<20 {
				t.Errorf("%.1f MiB were sent for %.1f MiB written", mib(received), mib(d.written))
			}
			d.settle()
		})
	}
}

// A vault that wants one copy, and whose honest node is away, has its files on the liar or in
// bodies: no lie that leaves the bytes as they are loses one, whatever it is that is counted.
func TestPeerLiesWhileTheOtherIsAway(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			d := newDeceived(t, protocol, "directory", 1)
			place := localPlace(t, "near", nearPath(d.v))
			place.away()
			back := sync.OnceFunc(place.back)
			defer back()
			eventuallyNode(t, d.v, "near", "missing")
			d.alone = true
			took := d.hear(named("receipt: ", "receipts: ", "batch: ", "share", "status: ", "list: ", "event: ", "renew", "put: conflict", "put: corrupt", "put: invalid", "put: no space"), harness.Count(100, 10_000), false)
			_, told, _ := d.c.figures()
			t.Logf("%d lies of %d kinds in %s", told, len(d.c.kinds()), took.Round(time.Second))
			d.c.be(nil)
			d.v.OK("resume", d.v.Point, "crook")
			d.v.Unmount()
			d.v.Start()
			isRight(t, d.v, "after a mount", d.files)
			back()
			eventuallyNode(t, d.v, "near", "online")
			drained(t, d.v, settleWithin)
			isRight(t, d.v, "with the honest node back", d.files)
			d.v.Unmount()
			forgetLocal(t, d.v)
			d.v.Start()
			isRight(t, d.v, "from the nodes alone", d.files)
			d.v.Unmount()
		})
	}
}

const (
	// closeRounds is how often closes beside the liar and beside the same peer when it is honest
	// are measured by turns, roundFiles how many files each round writes.
	closeRounds, roundFiles = 7, 100
	// mostSlower is how much slower closes may be beside a liar. They share the processors with
	// what the lies bring about, and the machine with other tests.
	mostSlower = 2.5
)

// What a program writes is closed as soon beside a liar as beside an honest peer.
func TestClosesBesideALiar(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			d := newDeceived(t, protocol, "directory", 2)
			var honest, lied []time.Duration
			for round := range 2 * closeRounds {
				into, p := &honest, (*plan)(nil)
				if round%2 == 1 {
					into, p = &lied, newPlan(d.seed+uint64(round), 0.7, allLies()...)
				}
				d.c.be(p)
				d.v.OK("resume", d.v.Point, "crook")
				*into = append(*into, d.closes()...)
			}
			_, told, _ := d.c.figures()
			slices.Sort(honest)
			slices.Sort(lied)
			at := func(of []time.Duration, part float64) time.Duration {
				return of[int(part*float64(len(of)-1))].Round(time.Microsecond)
			}
			ratio := float64(at(lied, 0.5)) / float64(at(honest, 0.5))
			t.Logf("a file written and closed beside an honest peer: %s, of a hundred the slowest %s; beside %d lies: %s, %s; %.2f x",
				at(honest, 0.5), at(honest, 0.99), told, at(lied, 0.5), at(lied, 0.99), ratio)
			if told < closeRounds || ratio > mostSlower {
				t.Errorf("beside %d lies closes took %.2f x the time, want at most %.1f x", told, ratio, mostSlower)
			}
			d.settle()
		})
	}
}

// closes writes files, and gives how long each took to its close.
func (d *deceived) closes() (took []time.Duration) {
	for n := range roundFiles {
		start := time.Now()
		d.write(fmt.Sprintf("c%d", n), 4096)
		took = append(took, time.Since(start))
	}
	return took
}

// newDeceived makes a vault beside a crook and an honest node, a directory or a peer.
func newDeceived(t *testing.T, protocol, honest string, copies int) *deceived {
	t.Helper()
	d := &deceived{t: t, seed: harness.Seed(t), files: make(map[string][]byte), ever: make(map[store.Digest]bool)}
	d.rand = rand.New(rand.NewPCG(d.seed, 1))
	if honest == "directory" {
		d.v, d.c = besideCrook(t, protocol, copies)
		return d
	}
	d.c, d.peer, d.v = newCrook(t), harness.NewPeer(t), harness.NewVault(t)
	d.peer.Start()
	d.v.Settings("copies = %d\n", copies)
	d.v.Start()
	addPeer(t, d.v, "near", d.peer, protocol)
	d.v.OK("node", "add", d.v.Point, "crook", "peer", d.c.invitation(t), "--protocol", protocol)
	d.c.besides(t, d.v.Status().Node(t, "near").ID)
	return d
}

// hear has programs work until so many lies were told, or for its time, and gives how long that
// took.
func (d *deceived) hear(lies []untruth, want int, remounts bool) time.Duration {
	start, limit := time.Now(), lieTime
	if harness.Soak() {
		limit = soakTime
	}
	d.rand.Shuffle(len(lies), func(i, j int) { lies[i], lies[j] = lies[j], lies[i] })
	for turn, told := 0, 0; told < want && time.Since(start) < limit && !d.t.Failed(); turn++ {
		some, rate := lies[turn%len(lies):turn%len(lies)+1], 1.0
		if turn%2 == 1 { // many at once
			some, rate = lies, 0.1+0.8*d.rand.Float64()
		}
		d.turn(newPlan(d.seed+uint64(turn), rate, some...))
		if remounts && turn%25 == 24 {
			d.remount()
		}
		_, told, _ = d.c.figures()
	}
	return time.Since(start)
}

// kinds are the lies told so far, and how often.
func (c *crook) kinds() (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.told)) {
		all = append(all, fmt.Sprintf("%s %d", name, c.told[name]))
	}
	return all
}

// write makes or replaces a file.
func (d *deceived) write(name string, size int) {
	d.next++
	content := harness.Bytes(uint64(d.next)<<20|uint64(size), size)
	if err := os.WriteFile(d.v.Path(name), content, 0o644); err != nil {
		d.t.Fatalf("write %s: %v", name, err)
	}
	d.files[name] = content
	d.written += int64(size)
	d.ever[rootOf(content)] = true
}

func rootOf(content []byte) store.Digest {
	var h store.Hasher
	_, _ = h.Write(content) // never fails
	return h.Sums().Root()
}

// some is the name of a file that is there.
func (d *deceived) some() string {
	all := slices.Sorted(maps.Keys(d.files))
	return all[d.rand.IntN(len(all))]
}

// turn has programs work while the peer lies as planned.
func (d *deceived) turn(p *plan) {
	// Whatever the vault holds against the peer is forgiven, so that there are more lies.
	if r := d.v.Stasis("resume", d.v.Point, "crook"); r.Code != 0 {
		d.t.Fatal(r)
	}
	_, before, _ := d.c.figures()
	d.c.be(p)
	for range turnFiles {
		d.write(fmt.Sprintf("f%d", d.next), 1+d.rand.IntN(200_000))
	}
	switch d.rand.IntN(6) {
	case 0:
		d.write(fmt.Sprintf("large%d", d.rand.IntN(3)), 2<<20+d.rand.IntN(2<<20))
	case 1:
		d.write(d.some(), 1+d.rand.IntN(200_000))
	case 2:
		from := d.some()
		to := from + "r"
		if err := os.Rename(d.v.Path(from), d.v.Path(to)); err != nil {
			d.t.Fatal(err)
		}
		d.files[to] = d.files[from]
		delete(d.files, from)
	case 3:
		if r := d.v.Stasis("wait", "--timeout", "300ms", d.v.Point); r.Code != 0 && r.Code != 3 && r.Code != 4 {
			d.t.Error(r)
		}
	case 4:
		if r := d.v.StasisIn(harness.Command{Limit: checkWithin}, "check", "--read", d.v.Point); !d.alone && r.Code > 1 || strings.Contains(r.Stdout, " is lost: ") && !d.alone {
			d.t.Errorf("a check amid lies: %v", r)
		}
	}
	if d.rand.IntN(4) == 0 {
		name := d.some()
		for _, args := range [][]string{{"status", d.v.Point}, {"status", "--json", d.v.Point}, {"why", d.v.Path(name)}, {"node", "list", d.v.Point}} {
			r := d.v.Stasis(args...)
			plain(d.t, strings.Join(args, " "), r.Stdout+r.Stderr)
		}
	}
	for len(d.files) > liveFiles {
		name := d.some()
		if err := os.Remove(d.v.Path(name)); err != nil {
			d.t.Fatal(err)
		}
		delete(d.files, name)
	}
	for end := time.Now().Add(turnTime); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, told, _ := d.c.figures(); told > before+turnFiles {
			break
		}
	}
	name := d.some()
	d.reads(name)
	d.counts(name)
	if d.t.Failed() {
		d.t.Logf("the plan was: %+v", p)
	}
	d.measure()
}

// reads reads a file amid lies. Where the liar has the only copy it may be out of reach; no byte
// is ever wrong.
func (d *deceived) reads(name string) {
	got, err := os.ReadFile(d.v.Path(name))
	switch {
	case err != nil && !d.alone:
		d.t.Errorf("amid lies %s can't be read: %v", name, err)
	case err == nil && !bytes.Equal(got, d.files[name]):
		d.t.Errorf("amid lies %s has wrong bytes", name)
	}
}

// plain fails for a text that plays with the terminal.
func plain(t *testing.T, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); line != store.Printable(line, len(line)) {
			t.Errorf("%s plays with the terminal: %.500q", what, line)
		}
	}
}

// counts has a file count no more copies than there are places.
func (d *deceived) counts(name string) {
	n, err := strconv.Atoi(d.v.Xattr("copies", name))
	if err != nil || n > 2 {
		d.t.Errorf("%s counts %q copies on %q; there are two places", name, d.v.Xattr("copies", name), d.v.Xattr("nodes", name))
	}
}

// measure notes what the daemon has taken so far.
func (d *deceived) measure() {
	if u, err := d.v.Usage(); err == nil {
		d.peak = max(d.peak, u.Peak)
	}
}

// onHonest waits until the honest node has all files.
func (d *deceived) onHonest() {
	harness.Eventually(d.t, settleWithin, "all files on the honest node", func() (bool, string) {
		for name := range d.files {
			if !slices.Contains(strings.Split(d.v.Xattr("nodes", name), ","), "near") {
				return false, fmt.Sprintf("%s is %s on %q", name, d.v.Xattr("state", name), d.v.Xattr("nodes", name))
			}
		}
		return true, ""
	})
}

// remount takes all that is local away, so that reads go to the nodes.
func (d *deceived) remount() {
	d.onHonest()
	d.measure()
	d.cpu += cpuOf(d.t, d.v.PID())
	d.v.Unmount()
	forgetLocal(d.t, d.v)
	d.v.Start()
	isRight(d.t, d.v, "from the nodes amid lies", d.files)
}

// cpuOf is the time that a process has run.
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0 // it has ended
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		t.Fatalf("the stat of process %d: %s", pid, text)
	}
	ticks := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// settle has the peer be honest again, and looks at what there is.
func (d *deceived) settle() {
	t, v := d.t, d.v
	d.c.be(nil)
	if r := v.Stasis("resume", v.Point, "crook"); r.Code != 0 {
		t.Error(r)
	}
	d.onHonest()
	harness.Eventually(t, settleWithin, "nothing pending, and a crate for each file", func() (bool, string) {
		s := v.Status()
		n := s.Node(t, "near")
		return s.Pending.Crates == 0 && s.Unplaced.Files == 0 && n.Crates == int64(len(d.files)), fmt.Sprintf("%d files; %+v\n%s", len(d.files), s, v.OK("status", v.Point))
	})
	isRight(t, v, "after the lies", d.files)
	if n := logged(t, v, "retired"); n > 0 {
		t.Errorf("the log says %d times that a crate is retired", n)
	}
	r := v.StasisIn(harness.Command{Limit: checkWithin}, "check", "--read", v.Point)
	if r.Code > 1 || strings.Contains(r.Stdout, " is lost: ") || strings.Contains(r.Stdout, `problem: the copy`) && strings.Contains(r.Stdout, `on node "near"`) {
		t.Errorf("the check after the lies: %v", r)
	}
	plain(t, "the log", harness.Read(t, v.State, "stasis.log"))
	has, lost := d.c.keeps(t)
	for name, content := range d.files {
		d.counts(name)
		root := rootOf(content)
		if v.Copies(name) > 1 && !has[root] && !lost[root] {
			t.Errorf("%s counts a copy at the liar, who has none", name)
		}
	}
	start := time.Now()
	v.Unmount()
	t.Logf("unmounted in %s", time.Since(start).Round(time.Millisecond))
	d.honestHas()
	forgetLocal(t, v)
	v.Start()
	isRight(t, v, "from the nodes at the end", d.files)
	v.Unmount()
}

// honestHas compares what lies at the honest node, read without the vault, with what was
// written.
func (d *deceived) honestHas() {
	t := d.t
	if d.peer != nil {
		d.peer.OK("check", d.peer.State, "--read")
		return
	}
	key, err := identity.Load(filepath.Join(d.v.State, identity.FileName))
	if err != nil {
		t.Fatal(err)
	}
	s, err := directory.Open(t.Context(), nearPath(d.v), store.NodeID{}, key.Owner(), directory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	found := make(map[store.Digest]bool)
	for cursor := []byte(nil); ; {
		p, err := s.List(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range p.Crates {
			root, err := readRoot(t.Context(), s, i)
			if err != nil {
				t.Errorf("crate %s at the honest node: %v", i.ID, err)
			} else if !d.ever[root] {
				t.Errorf("crate %s at the honest node has what nobody wrote", i.ID)
			}
			found[root] = true
		}
		if cursor = p.Next; cursor == nil {
			break
		}
	}
	for name, content := range d.files {
		if !found[rootOf(content)] {
			t.Errorf("the honest node has no copy of %s", name)
		}
	}
}

// readRoot reads a crate and gives the root of its bytes.
func readRoot(ctx context.Context, s store.Store, i store.CrateInfo) (d store.Digest, err error) {
	rc, err := s.Open(ctx, i.ID, 0, -1)
	if err != nil {
		return d, err
	}
	var h store.Hasher
	if _, err := io.Copy(&h, rc); err != nil {
		return d, errors.Join(err, rc.Close())
	}
	return h.Sums().Root(), rc.Close()
}
