package router

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/storetest"
	"stasis/store/storetest/fault"
)

const gib = 1 << 30

var two = Policy{Copies: 2}

// What is handed over arrives, is counted, and leaves no space promised behind.
func TestPlaces(t *testing.T) {
	g := newRig(t, gib, gib, gib)
	g.start()
	crates, plan := g.add(two, 1, 4096, 300<<10, 3<<20+5)
	if len(plan.Targets) != 2 || plan.Short != "" || plan.Waiting != "" {
		t.Fatalf("plan %+v", plan)
	}
	g.waitCopies(2, crates...)
	g.until("no leak", func() bool { return g.leak() == nil })
	for _, c := range crates {
		m, err := g.r.Manifest(c.ID)
		if err != nil || m.Origin != 7 || m.Wanted != 2 || m.form(store.Plain).Root != c.Root() {
			t.Errorf("manifest %+v, %v", m, err)
		}
		if err := g.read(c); err != nil {
			t.Error(err)
		}
		g.until("the observer is told", func() bool { // of one or two: two nodes tell it in any order
			g.seen.mu.Lock()
			defer g.seen.mu.Unlock()
			p := g.seen.placed[c.ID]
			return p.Copies() > 0
		})
	}
	if p := g.r.Pending(); p.Crates != 0 || p.Bytes != 0 || !p.Oldest.IsZero() {
		t.Errorf("pending %+v", p)
	}
}

// A range is read as io.ReaderAt says, and never past the end.
func TestReadRanges(t *testing.T) {
	g := newRig(t, gib)
	g.start()
	crates, _ := g.add(Policy{}, 2*store.BlockSize+77)
	c := crates[0]
	g.waitCopies(1, c)
	for _, r := range []struct{ off, n int }{{0, 1}, {store.BlockSize - 1, 2}, {100, 2 * store.BlockSize}, {2*store.BlockSize + 70, 7}, {2*store.BlockSize + 70, 100}, {len(c.Data), 5}, {0, 0}} {
		p := make([]byte, r.n)
		n, err := g.r.ReadAt(context.Background(), c.ID, p, int64(r.off))
		want := c.Data[r.off:min(len(c.Data), r.off+r.n)]
		if !bytes.Equal(p[:n], want) {
			t.Errorf("%+v: other bytes", r)
		}
		if short := r.off+r.n > len(c.Data); short != (err == io.EOF) || err != nil && err != io.EOF {
			t.Errorf("%+v: %d, %v", r, n, err)
		}
	}
	if _, err := g.r.ReadAt(context.Background(), c.ID, nil, -1); store.KindOf(err) != store.Invalid {
		t.Errorf("before the start: %v", err)
	}
	if _, err := g.r.ReadAt(context.Background(), store.NewCrateID(), nil, 0); store.KindOf(err) != store.NotFound {
		t.Errorf("unknown crate: %v", err)
	}
}

// A draw that fails gives back all that it took, at every node.
func TestDrawFailsWhole(t *testing.T) {
	g := newRig(t, 64<<20, 1<<20)
	g.start()
	before := []store.Status{status(t, g.places[0]), status(t, g.places[1])}
	q := DrawRequest{Policy: Policy{Copies: 2, Least: 2}, Bytes: 32 << 20}
	if _, err := g.r.Draw(context.Background(), q); !errors.Is(err, store.NoSpace) {
		t.Fatalf("got %v, want no space", err)
	}
	if err := g.leak(); err != nil {
		t.Error(err)
	}
	for i, b := range before {
		if s := status(t, g.places[i]); s.Free < b.Free {
			t.Errorf("node %d has %d free, had %d", i, s.Free, b.Free)
		}
	}
	// With less wanted it is merely short.
	q.Policy.Least = 1
	p, err := g.r.Draw(context.Background(), q)
	if err != nil || len(p.Targets) != 1 || p.Short == "" {
		t.Fatalf("%+v, %v", p, err)
	}
	// A draw that replaces it gives back what is not needed.
	q.Held, q.Bytes = p, 8<<20
	p, err = g.r.Draw(context.Background(), q)
	if err != nil || p.Targets[0].Bytes != 8<<20 {
		t.Fatalf("%+v, %v", p, err)
	}
	g.r.Return(p)
	if err := g.leak(); err != nil {
		t.Error(err)
	}
}

// Without any durable node content is short, not refused.
func TestDrawWithoutNodes(t *testing.T) {
	g := newRig(t)
	g.start()
	p, err := g.r.Draw(context.Background(), DrawRequest{Policy: two, Bytes: 8192})
	if err != nil || len(p.Targets) != 0 || p.Short == "" {
		t.Fatalf("%+v, %v", p, err)
	}
}

// A node that is away gets its copy when it is back, by itself.
func TestCatchesUp(t *testing.T) {
	g := newRig(t, gib, gib)
	g.start()
	away := g.places[1]
	away.fault.Down()
	away.unplug(true)
	g.r.byName("n1").rouse(wakeKeeper)
	g.until("silent", func() bool { return g.r.byName("n1").away() })
	crates, plan := g.add(two, 4096, 1<<20)
	if len(plan.Targets) != 2 || plan.Waiting == "" {
		t.Fatalf("plan %+v", plan)
	}
	g.waitCopies(1, crates...)
	// A copy is counted a moment before it is taken out of the queue.
	g.until("2 pending", func() bool { p := g.r.Pending(); return p.Crates == 2 && !p.Oldest.IsZero() })
	g.until("seen to be missing", func() bool {
		s := g.node("n1")
		return s.State == Missing && s.LastError != "" && s.PendingCrates == 2
	})
	away.fault.Heal()
	away.unplug(false)
	g.waitCopies(2, crates...)
	g.until("no leak", func() bool { return g.leak() == nil })
}

// Nodes that are missing at the start don't hold it up, and what waited for them goes
// out when they are there.
func TestRestartWithQueue(t *testing.T) {
	g := newRig(t, gib, gib)
	g.start()
	g.places[1].fault.Fail(fault.Put, 0, &store.Error{Kind: store.Unavailable, Op: "put"})
	crates, _ := g.add(two, 4096, 300<<10)
	g.waitCopies(1, crates...)
	g.stop()
	g.places[1].unplug(true)
	g.start()
	if p := g.r.Pending(); p.Crates != 2 {
		t.Errorf("pending %+v", p)
	}
	for _, c := range crates {
		if err := g.read(c); err != nil {
			t.Error(err)
		}
	}
	g.places[1].fault.Heal()
	g.places[1].unplug(false)
	g.waitCopies(2, crates...)
	g.until("no leak", func() bool { return g.leak() == nil })
}

// A plan that was recorded but not handed over before a restart still has its space.
func TestRestorePlan(t *testing.T) {
	g := newRig(t, gib)
	g.start()
	p, err := g.r.Draw(context.Background(), DrawRequest{Bytes: 200 << 20})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := p.MarshalBinary()
	g.stop()
	var q Plan
	if err := q.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	g.start(q)
	g.until("the grant covers the plan", func() bool { return status(t, g.places[0]).Reserved >= 200<<20 })
	g.r.Return(q)
	if err := g.leak(); err != nil {
		t.Error(err)
	}
}

// A dead crate goes from every node, one that was away included, and no other does.
func TestDiscards(t *testing.T) {
	g := newRig(t, gib, gib)
	g.start()
	crates, _ := g.add(two, 4096, 8192, 3<<20)
	g.waitCopies(2, crates...)
	g.places[1].fault.Fail(fault.Discard, 2, &store.Error{Kind: store.Unavailable, Op: "discard"})
	g.kill(crates[0].ID, crates[2].ID)
	for _, p := range g.places {
		g.until("discarded", func() bool { return status(t, p).Crates == 1 })
	}
	if err := g.read(crates[1]); err != nil {
		t.Error(err)
	}
	if _, err := g.r.Manifest(crates[0].ID); store.KindOf(err) != store.NotFound {
		t.Errorf("manifest of a dead crate: %v", err)
	}
	g.until("no record is left", func() bool {
		pairs, err := g.r.shared.Scan([]byte{tableDead}, []byte{tableDead + 1}, 0)
		sums, err2 := g.r.shared.Scan([]byte{tableSums}, []byte{tableSums + 1}, 0)
		return err == nil && err2 == nil && len(pairs) == 0 && len(sums) == 0
	})
}

// A crate that dies in the queue never arrives, one that dies on its way does not
// stay, and the space of both is free again.
func TestDiesInQueue(t *testing.T) {
	g := newRig(t, gib)
	g.start()
	p := g.places[0]
	p.fault.Stall(fault.Put, 1)
	crates, _ := g.add(Policy{}, 4096)
	g.until("on its way", func() bool { return p.fault.Calls(fault.Put) == 1 })
	more, _ := g.add(Policy{}, 1<<20, 1<<20, 1<<20)
	g.kill(more[2].ID, crates[0].ID)
	g.bodies.add(t, crates[0]) // the node has read it already
	g.waitCopies(1, more[0], more[1])
	g.until("the other is discarded", func() bool { return status(t, p).Crates == 2 })
	time.Sleep(20 * time.Millisecond) // for a discard that must not be
	p.fault.Heal()
	g.until("no leak", func() bool { return g.leak() == nil })
	g.until("discarded", func() bool { return status(t, p).Crates == 2 && g.r.Status(context.Background())[0].Discards == 0 })
	time.Sleep(20 * time.Millisecond) // for a crate that comes late
	if s := status(t, p); s.Crates != 2 || s.Reserved != g.room() {
		t.Errorf("%+v", s)
	}
}

// Wrong bytes from one node are neither returned nor kept: the copy is made again.
func TestRepairs(t *testing.T) {
	for _, size := range []int{4096, 300 << 10, 2<<20 + 1} {
		g := newRig(t, gib, gib)
		g.start()
		crates, _ := g.add(two, size)
		c := crates[0]
		g.waitCopies(2, c)
		g.bodies.drop(c.ID)
		bad := g.places[0]
		if err := bad.mem.Discard(context.Background(), store.DiscardRequest{Crate: c.ID}); err != nil {
			t.Fatal(err)
		}
		if err := g.read(c); err != nil {
			t.Errorf("%d: %v", size, err)
		}
		g.until("repaired", func() bool { return status(t, bad).Crates == 1 && g.copies(c.ID) == 2 })
		g.until("no leak", func() bool { return g.leak() == nil })
	}
}

// Bits that a node gets wrong on their way never reach a reader; the copy, which is
// right where it lies, counts again.
func TestFlippedBits(t *testing.T) {
	for _, size := range []int{4096, 1<<20 + 1} {
		g := newRig(t, gib, gib)
		g.start()
		crates, _ := g.add(two, size)
		g.waitCopies(2, crates...)
		for _, p := range g.places {
			p.fault.Flip(fault.Open, 0, 100)
		}
		if err := g.read(crates[0]); store.KindOf(err) != store.Corrupt {
			t.Errorf("%d, all wrong: %v", size, err)
		}
		g.places[1].fault.Heal()
		g.until("read", func() bool { return g.read(crates[0]) == nil })
		g.places[0].fault.Heal()
		g.waitCopies(2, crates...)
		g.until("no leak", func() bool { return g.leak() == nil })
	}
}

// A node that hangs costs a read a bounded delay, and the next none.
func TestReadPastHangingNode(t *testing.T) {
	g := newRig(t, gib, gib, gib)
	g.start()
	crates, _ := g.add(Policy{Copies: 3}, 4096, 8192)
	g.waitCopies(3, crates...)
	g.places[0].fault.Stall(fault.Open, 0)
	g.places[1].fault.Stall(fault.Open, 0)
	begin := time.Now()
	if err := g.read(crates[0]); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > 4*time.Second {
		t.Errorf("took %s", d)
	}
	begin = time.Now()
	if err := g.read(crates[1]); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("the second read took %s", d)
	}
	for _, p := range g.places {
		p.fault.Heal()
	}
}

// A body that changed since its first copy was made is given up for that copy, from which the
// next ones come, on this machine and on others.
func TestRottenBody(t *testing.T) {
	for _, kind := range []string{"directory", "grpc"} {
		g := newRig(t, gib, gib)
		g.places[1].kind = kind
		g.start()
		g.places[1].fault.Fail(fault.Put, 0, &store.Error{Kind: store.Unavailable, Op: "put"})
		crates, _ := g.add(two, 8192)
		c := crates[0]
		g.waitCopies(1, c)
		changed := c
		changed.Data = g.gen.Bytes(8192)
		g.bodies.add(t, changed)
		g.places[1].fault.Heal()
		g.waitCopies(2, c)
		g.seen.mu.Lock()
		if !g.seen.rotten[c.ID] || g.seen.retired[c.ID] {
			t.Errorf("%s: rotten %v, retired %v", kind, g.seen.rotten[c.ID], g.seen.retired[c.ID])
		}
		g.seen.mu.Unlock()
		g.places[0].fault.Down()
		if err := g.read(c); err != nil {
			t.Error(err)
		}
		g.places[0].fault.Heal()
		g.until("no leak", func() bool { return g.leak() == nil })
		g.stop()
	}
}

// A body that changed after it was hashed and before it had a copy retires the crate: not one of
// its other bytes leaves for another machine.
func TestRetires(t *testing.T) {
	for _, size := range []int{8192, 3*mib + 5} {
		g := newRig(t, gib)
		g.places[0].kind = "grpc"
		g.start()
		g.places[0].fault.Fail(fault.Put, 0, &store.Error{Kind: store.Unavailable, Op: "put"})
		crates, _ := g.add(Policy{}, size)
		c := crates[0]
		g.until("hashed", func() bool { m, err := g.r.Manifest(c.ID); return err == nil && m.Known(store.Plain) })
		changed := c
		changed.Data = append([]byte(nil), c.Data...)
		changed.Data[size-1] ^= 1
		g.bodies.add(t, changed)
		g.places[0].fault.Heal()
		g.until("retired", func() bool {
			g.seen.mu.Lock()
			defer g.seen.mu.Unlock()
			return g.seen.retired[c.ID]
		})
		if m, err := g.r.Manifest(c.ID); err != nil || !m.Retired || m.Copies() != 0 || m.form(store.Plain).Root != c.Root() {
			t.Errorf("%+v, %v", m, err)
		}
		if n := status(t, g.places[0]).Crates; n != 0 {
			t.Errorf("the node has %d crates", n)
		}
		g.until("no leak", func() bool { return g.leak() == nil })
		g.stop()
	}
}

// Content that lacks copies gets them when a node is there to take them.
func TestReconsider(t *testing.T) {
	g := newRig(t, gib)
	g.start()
	crates, plan := g.add(two, 4096, 1<<20)
	if plan.Short == "" || len(plan.Targets) != 1 {
		t.Fatalf("%+v", plan)
	}
	g.waitCopies(1, crates...)
	if _, err := g.r.Reconsider(context.Background(), crates[0].ID, two); store.KindOf(err) != store.NoSpace {
		t.Errorf("with one node: %v", err)
	}
	p := g.place("late", gib)
	err := g.r.AddNode(context.Background(), NodeSpec{Name: "late", Kind: "directory", Durable: true, Open: p.open}, status(t, p).Leaf)
	if err != nil {
		t.Fatal(err)
	}
	g.bodies.drop(crates[1].ID) // then the other node has it
	for _, c := range crates {
		m, err := g.r.Reconsider(context.Background(), c.ID, two)
		if err != nil || len(m.Destinations) != 2 {
			t.Errorf("%+v, %v", m, err)
		}
	}
	g.waitCopies(2, crates...)
	g.until("no leak", func() bool { return g.leak() == nil })
}

// Removing a node is refused while it would cost copies, and forgets it otherwise.
func TestRemoveNode(t *testing.T) {
	g := newRig(t, gib, gib, gib)
	g.start()
	crates, plan := g.add(two, 4096, 1<<20)
	g.waitCopies(2, crates...)
	single, _ := g.add(Policy{Avoid: []string{"n1", "n2"}}, 8192)
	g.waitCopies(1, single...)
	ctx := context.Background()
	m, err := g.r.RemoveNode(ctx, "n0", true, false)
	if err != nil || !m.Refused || m.Removed || m.Only != 1 || m.OnlyFiles != 1 {
		t.Fatalf("the only copy: %+v, %v", m, err)
	}
	g.kill(single[0].ID)
	name := g.r.NodeName(plan.Targets[0].Node)
	if m, err = g.r.RemoveNode(ctx, name, false, false); err != nil || !m.Refused || m.Below != 2 || m.Files != 1 {
		t.Fatalf("below: %+v, %v", m, err)
	}
	if m, err = g.r.RemoveNode(ctx, name, true, false); err != nil || !m.Removed {
		t.Fatalf("forced: %+v, %v", m, err)
	}
	for _, c := range crates {
		if n := g.copies(c.ID); n != 1 {
			t.Errorf("%d copies", n)
		}
		if _, err := g.r.Reconsider(ctx, c.ID, two); err != nil {
			t.Error(err)
		}
	}
	g.waitCopies(2, crates...)
	if n := len(g.r.Status(ctx)); n != 2 {
		t.Errorf("%d nodes are left", n)
	}
	if _, err = g.r.RemoveNode(ctx, name, true, false); store.KindOf(err) != store.NotFound {
		t.Errorf("again: %v", err)
	}
}

// A check finds what is missing and what is not known, and nothing where all is well.
func TestCheck(t *testing.T) {
	g := newRig(t, gib, gib)
	g.start()
	crates, _ := g.add(two, 4096, 8192, 1<<20)
	g.waitCopies(2, crates...)
	ctx := context.Background()
	var found []Finding
	check := func(read bool) Checked {
		t.Helper()
		found = nil
		sum, err := g.r.Check(ctx, read, func(f Finding) { found = append(found, f) })
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	if sum := check(true); sum.Problems != 0 || sum.Crates != 3 || sum.Copies != 6 || sum.Bytes == 0 || len(found) != 0 {
		t.Fatalf("%+v %+v", sum, found)
	}
	stranger := g.gen.Crate(100)
	res := store.NewReservationID()
	if _, err := g.places[0].mem.Reserve(ctx, store.ReserveRequest{ID: res, Bytes: stranger.Charge()}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.places[0].mem.Put(ctx, stranger.Put(res)); err != nil {
		t.Fatal(err)
	}
	if err := g.places[1].mem.Discard(ctx, store.DiscardRequest{Crate: crates[1].ID}); err != nil {
		t.Fatal(err)
	}
	if sum := check(false); sum.Problems != 1 || sum.Orphans != 1 || len(found) != 2 {
		t.Fatalf("%+v %+v", sum, found)
	}
	g.waitCopies(2, crates...)
	if sum := check(true); sum.Problems != 0 || sum.Orphans != 1 {
		t.Fatalf("%+v %+v", sum, found)
	}
	if s := status(t, g.places[0]); s.Crates != 4 {
		t.Errorf("the unknown crate is gone")
	}
}

// Memory nodes serve reads and fill no wanted copy.
func TestMemoryNodes(t *testing.T) {
	g := newRig(t, gib)
	m := g.place("memory", gib)
	g.places = g.places[:1]
	g.start()
	spec := NodeSpec{Name: "memory", Kind: "memory", Open: func(context.Context, store.NodeID) (store.Store, error) { return plainMemory{m.fault}, nil }}
	if err := g.r.AddNode(context.Background(), spec, store.NodeID{}); err != nil {
		t.Fatal(err)
	}
	crates, plan := g.add(two, 4096)
	if len(plan.Targets) != 1 || plan.Short == "" {
		t.Fatalf("%+v", plan)
	}
	g.until("copied", func() bool { return status(t, m).Crates == 1 })
	if n := g.copies(crates[0].ID); n != 1 {
		t.Errorf("%d copies", n)
	}
	g.places[0].fault.Fail(fault.Open, 0, &store.Error{Kind: store.Unavailable, Op: "open"})
	g.until("served from memory", func() bool { return g.read(crates[0]) == nil })
}

type plainMemory struct{ store.Store }

func (plainMemory) Close() error { return nil }

func (r *Router) byName(name string) *node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.named(name)
}

var _ = storetest.Soak

// unproven claims to have verified what it is asked for, without a look.
type unproven struct{ store.Store }

func (unproven) Verify(context.Context, store.CrateID, int64, int64, store.Digest) (store.Digest, error) {
	return store.Digest{1, 2, 3}, nil
}

// A check does not take a peer's word for it that it has verified a copy: it compares the
// proof with that of a copy near by, or of bytes that were sent.
func TestCheckWantsProof(t *testing.T) {
	for _, near := range []bool{true, false} {
		g := newRig(t)
		if near {
			g.place("near", gib)
		}
		for _, name := range []string{"honest", "liar"} {
			g.place(name, gib).kind = "grpc"
		}
		places := g.places
		liar := places[len(places)-1]
		g.places = places[:len(places)-1]
		g.extra = []NodeSpec{{Name: "liar", Kind: "grpc", Durable: true,
			Open: func(context.Context, store.NodeID) (store.Store, error) { return unproven{lasting{liar.fault}}, nil }}}
		g.start()
		crates, _ := g.add(Policy{Copies: len(places)}, 4096, 2<<20)
		g.waitCopies(len(places), crates...)
		var found []Finding
		sum, err := g.r.Check(context.Background(), true, func(f Finding) { found = append(found, f) })
		if err != nil {
			t.Fatal(err)
		}
		if sum.Problems != 2 || len(found) != 2 || found[0].Node != "liar" || found[1].Node != "liar" || sum.Copies != int64(2*len(places)-2) {
			t.Errorf("near %v: %+v %+v", near, sum, found)
		}
	}
}
