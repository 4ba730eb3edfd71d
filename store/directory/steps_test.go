package directory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/storetest"
)

// The step tests stop an operation at each of its steps in turn: by an error of that
// step, by an error of it and all that follow, by the death of the process, by a power
// cut. What must hold afterwards is the same.

// stepOps are the operations, each on a store of its own.
func stepOps() []string {
	ops := []string{"put", "batch", "adopt", "discard", "again", "reserve"}
	if storetest.Soak() {
		ops = append(ops, "large")
	}
	return ops
}

// sampled passes over most of the steps that an operation does again and again.
func sampled(p probe) probe {
	if storetest.Soak() {
		return p
	}
	var mu sync.Mutex
	seen := make(map[string]int)
	return func(step string) error {
		mu.Lock()
		k := seen[step]
		seen[step]++
		mu.Unlock()
		if k > 2 && k%24 != 0 {
			return nil
		}
		return p(step)
	}
}

// stepCrates are the crates of an operation: they follow from its name.
func stepCrates(op string) []storetest.Crate {
	g := storetest.NewGen(5)
	switch op {
	case "large":
		return []storetest.Crate{g.Crate((inlineBlocks + 1) * store.BlockSize)}
	case "batch":
		var cs []storetest.Crate
		for range 50 { // more than one update of the index takes
			cs = append(cs, g.Crate(2000))
		}
		return cs
	}
	return []storetest.Crate{g.Crate(70000)}
}

// steps is one run of an operation.
type steps struct {
	base string
	op   string
	s    *Store
	r    store.ReservationID
	cs   []storetest.Crate
}

// newSteps makes the store and what the operation finds.
func newSteps(t testing.TB, base, op string) *steps {
	t.Helper()
	x := &steps{base: base, op: op, r: store.ReservationID{1}, cs: stepCrates(op)}
	if err := os.Mkdir(filepath.Join(base, "bodies"), 0o700); err != nil {
		t.Fatal(err)
	}
	x.s = admitted(t, makeStore(t, filepath.Join(base, "node"), 1<<30, Options{}))
	ctx := context.Background()
	if _, err := x.s.Reserve(ctx, store.ReserveRequest{ID: x.r, Bytes: 150 << 20}); err != nil {
		t.Fatal(err)
	}
	if op == "discard" || op == "again" {
		if _, err := x.s.Put(ctx, x.cs[0].Put(x.r)); err != nil {
			t.Fatal(err)
		}
	}
	if op == "again" { // over the mark and the tombstone of a discard
		if err := x.s.Discard(ctx, store.DiscardRequest{Crate: x.cs[0].ID}); err != nil {
			t.Fatal(err)
		}
	}
	if op == "adopt" {
		if err := os.WriteFile(x.body(), x.cs[0].Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

func (x *steps) body() string { return filepath.Join(x.base, "bodies", x.cs[0].ID.String()) }

// run does the operation once.
func (x *steps) run() error {
	ctx := context.Background()
	switch x.op {
	case "batch":
		var rs []store.PutRequest
		for _, c := range x.cs {
			rs = append(rs, c.Put(x.r))
		}
		var err error
		for _, res := range x.s.PutBatch(ctx, rs) {
			err = errors.Join(err, res.Err)
		}
		return err
	case "adopt":
		_, err := x.s.Adopt(ctx, x.cs[0].Put(x.r), x.body())
		return err
	case "discard":
		return x.s.Discard(ctx, store.DiscardRequest{Crate: x.cs[0].ID})
	case "reserve":
		_, err := x.s.Reserve(ctx, store.ReserveRequest{ID: store.ReservationID{2}, Bytes: 1 << 20})
		return err
	}
	_, err := x.s.Put(ctx, x.cs[0].Put(x.r))
	return err
}

// set makes the store ask p before each step; nil ends that.
func (x *steps) set(p probe) {
	if p != nil {
		p = sampled(p)
	}
	x.s.tree.probe, x.s.index.probe = p, p
}

// memoryDir gives a directory in memory, where there is room: to be stopped by an
// error or a kill is the same there, and the many stores are made faster.
func memoryDir(t *testing.T) string {
	t.Helper()
	var st unix.Statfs_t
	if unix.Statfs("/dev/shm", &st) != nil || int64(st.Bavail)*st.Bsize < 2<<30 {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "stasis-test")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// failFrom fails the nth step, and all that follow if forever. hit tells whether it
// came to that.
func failFrom(n int64, forever bool) (p probe, hit func() string) {
	var count atomic.Int64
	var at atomic.Value
	at.Store("")
	return func(step string) error {
		k := count.Add(1)
		if k == n {
			at.Store(step)
		}
		if k == n || forever && k > n {
			return fmt.Errorf("the test fails %q: %w", step, unix.EIO)
		}
		return nil
	}, func() string { return at.Load().(string) }
}

// ended checks the store after an operation that was stopped: acked says that it had
// been acknowledged. Then it does the operation again, which must succeed.
func (x *steps) ended(t *testing.T, acked bool) {
	t.Helper()
	expect := newExpected()
	for range 2 {
		there := make(map[string]bool)
		var used int64
		page, err := x.s.List(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range page.Crates {
			there[info.ID.String()] = true
			used += store.Charge(info.Size)
		}
		for _, c := range x.cs {
			id := c.ID.String()
			if there[id] {
				has(t, x.s, c)
			}
			if acked && there[id] != (x.op != "discard") && x.op != "reserve" {
				t.Errorf("acknowledged, and crate %s there: %v", id, there[id])
			}
		}
		if _, err := os.Stat(x.body()); x.op == "adopt" && there[x.cs[0].ID.String()] == (err == nil) {
			t.Errorf("the body is at its path: %v, in the store: %v", err == nil, there[x.cs[0].ID.String()])
		}
		st := status(t, x.s)
		if st.Used != used || st.Crates != int64(len(there)) {
			t.Errorf("%d crates charge %d, the status says %+v", len(there), used, st)
		}
		expect.noLeaks(t, filepath.Join(x.base, "node"), there)
		if err := x.run(); err != nil {
			t.Fatalf("once more: %v", err)
		}
		acked = true
	}
}

// reopen closes the store and opens it again.
func (x *steps) reopen(t *testing.T) {
	t.Helper()
	x.set(nil)
	if err := x.s.Close(); err != nil {
		t.Fatal(err)
	}
	x.s = admitted(t, openStore(t, filepath.Join(x.base, "node"), Options{}))
}

// TestFailedStep fails each step of each operation.
func TestFailedStep(t *testing.T) {
	for _, op := range stepOps() {
		for _, forever := range []bool{false, true} {
			if forever && !storetest.Soak() {
				continue
			}
			t.Run(fmt.Sprintf("%s/forever=%v", op, forever), func(t *testing.T) {
				for n := int64(1); ; n++ {
					hit := failedStep(t, op, n, forever)
					if t.Failed() {
						t.Fatalf("step %d, %q", n, hit)
					}
					if hit == "" {
						t.Logf("%d steps", n-1)
						return
					}
				}
			})
		}
	}
}

func failedStep(t *testing.T, op string, n int64, forever bool) string {
	base := memoryDir(t)
	x := newSteps(t, base, op)
	defer func() { _ = x.s.Close() }()
	before := status(t, x.s)
	p, hit := failFrom(n, forever)
	x.set(p)
	err := x.run()
	x.set(nil)
	if err != nil && !forever && op != "discard" {
		// One failure is undone on the spot.
		now := status(t, x.s)
		if now.Position.Count < before.Position.Count {
			t.Errorf("its position goes from %v to %v", before.Position, now.Position)
		}
		now.Position = before.Position // what is undone has changed it all the same
		if x.op == "batch" {           // some of it may be there
			now.Used, now.Reserved, now.Crates = before.Used, now.Reserved+now.Used-before.Used, before.Crates
		}
		if now != before {
			t.Errorf("failed with %v, and the status is %+v, was %+v", err, now, before)
		}
	}
	if err != nil && !errors.Is(err, store.Unavailable) {
		t.Errorf("the error has another kind: %v", err)
	}
	x.reopen(t)
	x.ended(t, err == nil)
	return hit()
}

const (
	stepVar  = "STASIS_STEP_CHILD"  // "base op n"
	cutAtVar = "STASIS_STEP_CUT_AT" // a mount to cut, rather than only to die
)

// stepChild does an operation and dies before its nth step. It prints where it starts, its
// position and crates, and "acked" with where it is if it comes to its end.
func stepChild(spec string) error {
	f := strings.Fields(spec)
	n, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil {
		return err
	}
	x := &steps{base: f[0], op: f[1], r: store.ReservationID{1}, cs: stepCrates(f[1])}
	ctx := context.Background()
	if x.s, err = Open(ctx, filepath.Join(x.base, "node"), store.NodeID{}, owner, Options{}); err != nil {
		return err
	}
	if err := x.s.Fence(ctx, nil, store.NewToken(), true); err != nil {
		return err
	}
	begun, err := placed(x.s)
	if err != nil {
		return err
	}
	fmt.Println(begun)
	var count atomic.Int64
	x.set(func(string) error {
		if count.Add(1) != n {
			return nil
		}
		if at := os.Getenv(cutAtVar); at != "" {
			if err := shutdown(at); err != nil {
				return err
			}
		}
		fmt.Println("died")
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {} // until the signal comes
	})
	if err := x.run(); err != nil {
		return err
	}
	ended, err := placed(x.s)
	if err != nil {
		return err
	}
	fmt.Println("acked")
	fmt.Println(ended)
	return nil
}

// whereabouts is a position of a store with the crates that it had there, as text.
type whereabouts struct {
	position store.Position
	crates   string
}

func (w whereabouts) String() string {
	return fmt.Sprintf("%d %d %s", w.position.Count, w.position.Mark, w.crates)
}

// placed tells the whereabouts of a store.
func placed(s *Store) (w whereabouts, err error) {
	ctx := context.Background()
	st, err := s.Status(ctx)
	if err != nil {
		return w, err
	}
	w.position = st.Position
	page, err := s.List(ctx, nil)
	for _, c := range page.Crates {
		w.crates += c.ID.String() + ","
	}
	return w, err
}

// checkPlaced compares where a store is with where it said that it was, before it was
// stopped.
func checkPlaced(t *testing.T, s *Store, said []string) {
	t.Helper()
	now, err := placed(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range said {
		var was whereabouts
		if n, _ := fmt.Sscanf(line, "%d %d %s", &was.position.Count, &was.position.Mark, &was.crates); n < 2 {
			continue
		}
		if now.position.Count < was.position.Count {
			t.Errorf("it is at %v, and said that it was at %v", now.position, was.position)
		}
		if (now.position == was.position) != (now.crates == was.crates) {
			t.Errorf("its position goes from %v to %v, its crates from %q to %q", was.position, now.position, was.crates, now.crates)
		}
	}
}

// runStepChild gives what the child said, in lines.
func runStepChild(t *testing.T, base, op string, n int, cutAt string) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", stepVar, base, op, n), cutAtVar+"="+cutAt)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if complaint.Len() > 0 {
		t.Fatalf("the child: %v: %s", err, complaint.String())
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// TestKilledAtStep kills the process before each step of each operation.
func TestKilledAtStep(t *testing.T) {
	for _, op := range stepOps() {
		t.Run(op, func(t *testing.T) {
			for n := 1; ; n++ {
				base, err := os.MkdirTemp(memoryDir(t), "x")
				if err != nil {
					t.Fatal(err)
				}
				said := stoppedAt(t, base, op, n, func() []string { return runStepChild(t, base, op, n, "") })
				if t.Failed() {
					t.Fatalf("step %d: %s", n, said)
				}
				if said == "acked" {
					t.Logf("%d steps", n-1)
					return
				}
			}
		})
	}
}

// TestPowerCutAtStep cuts the power before each step of each operation.
func TestPowerCutAtStep(t *testing.T) {
	kinds := []string{"xfs"}
	if storetest.Soak() {
		kinds = append(kinds, "ext4")
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			l := newLoop(t, kind, 512<<20)
			for _, op := range stepOps() {
				for n := 1; ; n++ {
					base, err := os.MkdirTemp(l.dir, "x")
					if err != nil {
						t.Fatal(err)
					}
					said := stoppedAt(t, base, op, n, func() []string {
						run(t, "sync", "-f", l.dir)
						said := runStepChild(t, base, op, n, l.dir)
						if slices.Contains(said, "died") {
							l.unmount(t)
							l.mount(t)
						}
						return said
					})
					if err := os.RemoveAll(base); err != nil {
						t.Fatal(err)
					}
					if t.Failed() {
						t.Fatalf("%s, step %d: %s", op, n, said)
					}
					if said == "acked" {
						break
					}
				}
			}
		})
	}
}

// stoppedAt prepares a store, lets child stop in the middle of an operation on it,
// and checks what is left.
func stoppedAt(t *testing.T, base, op string, n int, child func() []string) string {
	t.Helper()
	x := newSteps(t, base, op)
	if err := x.s.Close(); err != nil {
		t.Fatal(err)
	}
	said := child()
	x.s = openStore(t, filepath.Join(base, "node"), Options{})
	defer func() { _ = x.s.Close() }()
	checkPlaced(t, x.s, said)
	admitted(t, x.s)
	if !slices.Contains(said, "acked") {
		x.ended(t, false)
		return "died"
	}
	x.ended(t, true)
	return "acked"
}
