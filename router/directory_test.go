package router

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/directory"
	"stasis/store/storetest/fault"
)

// disk makes a directory node.
func (g *rig) disk(name string) NodeSpec {
	g.t.Helper()
	path := filepath.Join(g.dir, name)
	if _, err := directory.Create(path, g.owner(), 0, directory.Options{}); err != nil {
		g.t.Fatal(err)
	}
	return NodeSpec{Name: name, Kind: "directory", Durable: true, Open: func(ctx context.Context, want store.NodeID) (store.Store, error) {
		return directory.Open(ctx, path, want, g.owner(), directory.Options{})
	}}
}

func (g *rig) owner() store.OwnerID { return store.OwnerID{1, 2, 3} }

func (g *rig) startWith(specs ...NodeSpec) {
	g.t.Helper()
	g.extra = specs
	g.start()
}

// A large body is moved into the first directory on its filesystem, and copied to the
// others from there; a small one is copied.
func TestAdopts(t *testing.T) {
	g := newRig(t)
	g.startWith(g.disk("a"), g.disk("b"))
	ctx := context.Background()
	c := g.gen.Crate(5<<20 + 3)
	c.ID = store.NewCrateID()
	g.bodies.add(t, c)
	plan, err := g.r.Draw(ctx, DrawRequest{Policy: two, Bytes: c.Charge(), Resident: c.Charge()})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Targets[0].Resident != c.Charge() || plan.Targets[1].Resident != 0 {
		t.Fatalf("%+v", plan)
	}
	if err := g.enqueue(plan, c); err != nil {
		t.Fatal(err)
	}
	g.waitCopies(2, c)
	// It is told after the copy is recorded.
	g.until("the first directory adopting it", func() bool {
		g.seen.mu.Lock()
		defer g.seen.mu.Unlock()
		return g.seen.adopted[c.ID] == plan.Targets[0].Node
	})
	if _, err := os.Lstat(filepath.Join(g.bodies.dir, c.ID.String())); !os.IsNotExist(err) {
		t.Errorf("the body is where it was: %v", err)
	}
	if err := g.read(c); err != nil {
		t.Error(err)
	}
	f, err := g.r.File(ctx, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != string(c.Data) {
		t.Errorf("the file has %d bytes, %v", len(b), err)
	}
	g.until("no leak", func() bool { return g.leak() == nil })
	small, _ := g.add(two, 4096)
	g.waitCopies(2, small...)
	if !g.bodies.there(small[0].ID) {
		t.Error("a small body was adopted")
	}
}

// File notices a file that was changed, and has it made again.
func TestFileVerifies(t *testing.T) {
	g := newRig(t)
	g.startWith(g.disk("a"), g.disk("b"))
	ctx := context.Background()
	crates, _ := g.add(two, 300<<10)
	c := crates[0]
	g.waitCopies(2, c)
	g.bodies.drop(c.ID)
	f, err := g.r.File(ctx, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	first := f.Name()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(first, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt([]byte{c.Data[77] ^ 1}, 77); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err = g.r.File(ctx, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(f); err != nil || string(b) != string(c.Data) || f.Name() == first {
		t.Errorf("wrong bytes, %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	g.until("repaired", func() bool { return g.copies(c.ID) == 2 })
}

// A mount whose history a node does not know is kept away from it; the one it knows
// goes on after a restart.
func TestFences(t *testing.T) {
	g := newRig(t)
	spec := g.disk("a")
	g.startWith(spec)
	crates, _ := g.add(Policy{}, 4096)
	g.waitCopies(1, crates...)
	g.stop()
	g.start()
	g.until("online after a restart", func() bool { return g.r.Status(context.Background())[0].State == Online })
	g.stop()
	other := newRig(t)
	other.startWith(spec)
	s := other.r.Status(context.Background())[0]
	if s.State != Unreachable || s.LastError == "" {
		t.Errorf("%+v", s)
	}
}

// Many small crates at once arrive in batches, and some failures among them cost no
// others.
func TestBatches(t *testing.T) {
	g := newRig(t)
	spec := g.disk("a")
	open := spec.Open
	spec.Open = func(ctx context.Context, want store.NodeID) (store.Store, error) {
		s, err := open(ctx, want)
		if err != nil {
			return nil, err
		}
		f, _ := fault.WrapFull(s)
		for i := range 5 {
			f.Fail(fault.Put, 10+i*7, &store.Error{Kind: store.Invalid, Op: "put"})
			f.LoseAnswer(fault.Put, 13+i*11, &store.Error{Kind: store.Unavailable, Op: "put"})
		}
		return f, nil
	}
	g.startWith(spec)
	sizes := make([]int, 300)
	for i := range sizes {
		sizes[i] = 1 + i*37
	}
	crates, _ := g.add(Policy{}, sizes...)
	g.waitCopies(1, crates...)
	for _, c := range crates {
		if err := g.read(c); err != nil {
			t.Fatal(err)
		}
	}
	g.until("no leak", func() bool { return g.leak() == nil })
}

// BenchmarkDirectories is BenchmarkPlace with directories.
func BenchmarkDirectories(b *testing.B) {
	g := newRig(b)
	g.startWith(g.disk("a"), g.disk("b"))
	sizes := make([]int, b.N)
	for i := range sizes {
		sizes[i] = 4096
	}
	time.Sleep(200 * time.Millisecond)
	b.ResetTimer()
	g.add(two, sizes...)
	for g.r.Pending().Crates > 0 {
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "crates/s")
}
