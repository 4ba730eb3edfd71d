package router

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/storetest/fault"
)

// One Stat without an answer amid a recount makes no missing copy count.
func TestStatAmidRecount(t *testing.T) {
	g := newRig(t, gib, gib)
	g.start()
	crates, _ := g.add(two, 4096, 300<<10)
	g.waitCopies(2, crates...)
	g.settledPositions()
	for _, c := range crates {
		g.bodies.drop(c.ID)
		if err := g.places[1].mem.Discard(context.Background(), store.DiscardRequest{Crate: c.ID, Holder: g.owner()}); err != nil {
			t.Fatal(err)
		}
	}
	g.places[1].fault.Fail(fault.Stat, 0, &store.Error{Kind: store.Unavailable, Op: "stat", Detail: "busy"})
	n := g.r.byName("n1")
	g.r.mu.Lock()
	n.doubtAll(wasPutBack)
	g.r.mu.Unlock()
	n.rouse(wakeKeeper)
	time.Sleep(3 * time.Second)
	g.places[1].fault.Heal()
	g.settledPositions()
	time.Sleep(4 * time.Second)
	for _, c := range crates {
		if _, err := g.places[1].mem.Stat(context.Background(), c.ID); store.KindOf(err) == store.NotFound && g.copies(c.ID) == 2 {
			t.Errorf("crate %s: 2 copies are counted, node n1 is known, and does not have it", c.ID)
		}
	}
}

// The only copy is damaged and the body has changed: the crate is retired.
func TestRottenBodyAndDamagedCopy(t *testing.T) {
	for _, kind := range []string{"directory", "grpc"} {
		t.Run(kind, func(t *testing.T) {
			g := newRig(t, gib)
			g.places[0].kind = kind
			g.start()
			crates, _ := g.add(Policy{Copies: 2, Least: 1}, 8192)
			c := crates[0]
			g.waitCopies(1, c)
			changed := c
			changed.Data = g.gen.Bytes(8192)
			g.bodies.add(t, changed)
			if err := g.places[0].mem.Discard(context.Background(), store.DiscardRequest{Crate: c.ID, Holder: g.owner()}); err != nil {
				t.Fatal(err)
			}
			if _, err := g.r.damaged(g.r.byName("n0"), c.ID, errTold); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				time.Sleep(6 * time.Second)
				g.seen.mu.Lock()
				is := g.seen.retired[c.ID]
				g.seen.mu.Unlock()
				if is {
					return
				}
				g.stop()
				g.start() // what is remembered of the body is forgotten
			}
			m, _ := g.r.Manifest(c.ID)
			t.Errorf("not retired: %d copies, %d outstanding, %+v", m.Copies(), m.Outstanding(), m.Destinations)
		})
	}
}

// flaky gives an error once, after the first ok calls.
type flaky struct {
	*bodies
	mu     sync.Mutex
	ok     int
	failed bool
}

func (f *flaky) Body(c store.CrateID) (Body, error) {
	f.mu.Lock()
	f.ok--
	fail := f.ok == -1
	f.failed = f.failed || fail
	f.mu.Unlock()
	if fail {
		b, err := f.bodies.Body(c)
		b.Path = "/proc/self/nofile/" + filepath.Base(b.Path)
		if err == nil {
			err = &store.Error{Kind: store.Unavailable, Op: "open", Err: os.ErrPermission}
		}
		return Body{}, err
	}
	return f.bodies.Body(c)
}

// An error that passes, at opening a body that was hashed before, does not give the body up.
func TestPassingErrorGivesBodyUp(t *testing.T) {
	g := newRig(t, gib)
	g.places[0].kind = "grpc"
	g.start()
	f := &flaky{bodies: g.bodies, ok: 1} // expect reads the body, the send does not open it
	g.r.o.Bodies = f
	crates, _ := g.add(Policy{}, 8192)
	c := crates[0]
	for end := time.Now().Add(15 * time.Second); g.copies(c.ID) != 1 && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	if g.copies(c.ID) != 1 {
		t.Errorf("failed once: %v; the body is there, the node is well, and there are %d copies; rotten: %v", f.failed, g.copies(c.ID), g.r.isRotten(c.ID))
	}
}

// The body changed while the one verified copy was believed to be right: when that proves missing the
// crate is retired.
func TestRottenBodyBesideMissingCopy(t *testing.T) {
	g := newRig(t, gib, gib)
	g.places[1].kind = "grpc"
	g.start()
	g.places[0].fault.Fail(fault.Put, 0, &store.Error{Kind: store.Unavailable, Op: "put"})
	crates, _ := g.add(two, 8192)
	c := crates[0]
	g.waitCopies(1, c)
	if err := g.places[1].mem.Discard(context.Background(), store.DiscardRequest{Crate: c.ID, Holder: g.owner()}); err != nil {
		t.Fatal(err)
	}
	changed := c
	changed.Data = g.gen.Bytes(8192)
	g.bodies.add(t, changed)
	g.places[0].fault.Heal()
	time.Sleep(20 * time.Second)
	g.seen.mu.Lock()
	defer g.seen.mu.Unlock()
	if !g.seen.retired[c.ID] {
		m, _ := g.r.Manifest(c.ID)
		t.Errorf("rotten %v, not retired: %d copies, %+v", g.seen.rotten[c.ID], m.Copies(), m.Destinations)
	}
}

// A reader that is under way when its crate dies says nothing of the other copies on the node.
func TestReadOfDeadCrateDoubtsAll(t *testing.T) {
	farRig(t, 1, func(g *rig, _ []*link) {
		g.start()
		keep := g.placed(1, 4096)
		for i := range 6 {
			c := g.placed(1, 4096)
			m, err := g.r.Manifest(c.ID)
			if err != nil {
				t.Fatal(err)
			}
			g.kill(c.ID)
			g.until("discarded", func() bool { _, err := g.places[0].mem.Stat(context.Background(), c.ID); return err != nil })
			_, _ = g.r.fetch(context.Background(), &m, 0, nil, nil) // as a reader that began before
			begun := time.Now()
			if n := g.copies(keep.ID); n != 1 {
				t.Logf("%d: another crate has %d copies now", i, n)
			}
			for g.r.unsure.Load() > 0 && time.Since(begun) < 3*time.Hour {
				time.Sleep(time.Second)
			}
			if d := time.Since(begun); d > 5*time.Second {
				t.Errorf("%d: all copies of the peer were unknown for %s, as one crate was deleted while it was read", i, d)
			}
		}
	})
}

// A peer that never lists to the end has them made elsewhere after a while.
func TestUnknownForEver(t *testing.T) {
	besideLiar(t, func(g *rig, l *liar) {
		g.start()
		crates, _ := g.add(two, 4096)
		g.waitCopies(2, crates...)
		g.place("spare", gib)
		if err := g.r.SetNodes(g.specs()); err != nil {
			t.Fatal(err)
		}
		g.until("spare", func() bool { return g.node("spare").State == Online })
		l.list = func([]byte) (store.Page, error) {
			return store.Page{}, &store.Error{Kind: store.Unavailable, Op: "list"}
		}
		n := g.r.byName("liar")
		g.r.mu.Lock()
		n.doubtAll(wasPutBack)
		g.r.mu.Unlock()
		n.rouse(wakeKeeper)
		time.Sleep(10 * 24 * time.Hour)
		m, err := g.r.Reconsider(context.Background(), crates[0].ID, two)
		if m.Copies() < 2 {
			t.Errorf("after ten days %d copies, %d destinations, %v; the liar is %s", m.Copies(), len(m.Destinations), err, g.node("liar").State)
		}
	})
}

// A node that has refused space for something, and whose copies are unknown, is said to be both.
func TestFullAndUnknown(t *testing.T) {
	g := newRig(t, gib, gib)
	g.start()
	crates, _ := g.add(two, 4096)
	g.waitCopies(2, crates...)
	g.settledPositions()
	if s := g.node("n1"); s.Unknown != "" || s.Uncounted {
		t.Errorf("%+v", s)
	}
	g.places[1].fault.Stall(fault.List, 0)
	n := g.r.byName("n1")
	g.r.mu.Lock()
	n.refused("has too little room for what was asked for") // as a draw does that went to another node
	n.doubtAll(wasPutBack)
	g.r.mu.Unlock()
	if s := g.node("n1"); s.State != Full || !strings.Contains(s.Unknown, "counted anew") || s.Uncounted {
		t.Errorf("%+v", s)
	}
	g.places[1].fault.Heal()
	g.settledPositions()
}
