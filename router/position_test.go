package router

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/storetest"
	"stasis/store/storetest/fault"
)

// copyTree copies a directory as it is.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func (g *rig) settledPositions() {
	g.t.Helper()
	g.until("nothing is unknown", func() bool { return g.r.unsure.Load() == 0 })
}

// A directory that was put back from an older copy is not up to date, be it put back between two
// starts or below a running router: what it lacks does not count any more, and is made again.
func TestPutBack(t *testing.T) {
	for name, running := range map[string]bool{"between two starts": false, "while it is used": true} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			a, b := g.disk("a"), g.disk("b")
			g.startWith(a, b)
			old, _ := g.add(two, 4096, 300<<10)
			g.waitCopies(2, old...)
			g.settledPositions()
			if !running {
				g.stop()
			}
			path, kept := filepath.Join(g.dir, "b"), filepath.Join(g.dir, "kept")
			copyTree(t, path, kept)
			if !running {
				g.startWith(a, b)
				g.settledPositions()
			}
			lost, _ := g.add(two, 4096, 300<<10, 2*mib)
			g.waitCopies(2, lost...)
			for _, c := range append(old, lost...) {
				g.bodies.drop(c.ID)
			}
			if !running {
				g.stop()
				copyTree(t, kept, path)
				g.startWith(a, b)
			} else {
				copyTree(t, kept, path+".new")
				if err := os.Rename(path, path+".gone"); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(path+".new", path); err != nil {
					t.Fatal(err)
				}
				g.until("it is noticed", func() bool { return g.copies(lost[0].ID) == 1 || g.node("b").State != Online || g.r.unsure.Load() > 0 })
			}
			g.settledPositions()
			g.waitCopies(2, append(old, lost...)...)
			g.until("they are there", func() bool { return g.node("b").Crates == int64(len(old)+len(lost)) && g.leak() == nil })
			g.stop()
			g.startWith(b) // the other is gone
			for _, c := range append(old, lost...) {
				if err := g.read(c); err != nil {
					t.Error(err)
				}
			}
			if n := g.node("b"); n.LastError != "" {
				t.Errorf("%+v", n)
			}
		})
	}
}

// What is put back was copied while the node was in use, the files of its crates first and its index
// after them: the index has crates without files. They do not count, and are made again.
func TestPutBackInParts(t *testing.T) {
	g := newRig(t)
	a, b := g.disk("a"), g.disk("b")
	g.startWith(a, b)
	first, _ := g.add(two, 4096, 300<<10)
	g.waitCopies(2, first...)
	g.settledPositions()
	path, kept, later := filepath.Join(g.dir, "b"), filepath.Join(g.dir, "kept"), filepath.Join(g.dir, "later")
	copyTree(t, path, kept)
	amid, _ := g.add(two, 4096, 300<<10)
	g.waitCopies(2, amid...)
	copyTree(t, path, later)
	if err := os.RemoveAll(filepath.Join(later, "crates")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(kept, "crates"), filepath.Join(later, "crates")); err != nil {
		t.Fatal(err)
	}
	after, _ := g.add(two, 4096)
	g.waitCopies(2, after...)
	all := slices.Concat(first, amid, after)
	for _, c := range all {
		g.bodies.drop(c.ID)
	}
	g.stop()
	copyTree(t, later, path)
	g.startWith(a, b)
	g.settledPositions()
	g.waitCopies(2, all...)
	g.until("they are there", func() bool { return g.leak() == nil })
	g.stop()
	g.startWith(b) // the other is gone
	for _, c := range all {
		if err := g.read(c); err != nil {
			t.Error(err)
		}
	}
}

// While the copies on a node are counted anew they don't count, are not replaced, and are read.
func TestUnknownCopies(t *testing.T) {
	g := newRig(t, gib, gib, gib)
	g.start()
	crates, _ := g.add(two, 4096, 300<<10)
	g.waitCopies(2, crates...)
	g.settledPositions()
	for _, p := range g.places {
		p.fault.Stall(fault.List, 0)
	}
	n := g.r.byName("n1")
	g.r.mu.Lock()
	n.doubtAll(wasPutBack)
	g.r.mu.Unlock()
	n.rouse(wakeKeeper)
	for _, c := range crates {
		m, err := g.r.Manifest(c.ID)
		if err != nil || m.Copies() != 1 || m.Outstanding() != 1 {
			t.Errorf("%d copies, %d outstanding, %v", m.Copies(), m.Outstanding(), err)
		}
		if m, err = g.r.Reconsider(context.Background(), c.ID, two); err != nil || len(m.Destinations) != 2 {
			t.Errorf("%+v, %v", m, err)
		}
		g.bodies.drop(c.ID)
	}
	if s := g.node("n1"); s.LastError == "" {
		t.Error("the status says nothing")
	}
	for _, i := range []int{0, 2} {
		g.places[i].fault.Down()
	}
	for _, c := range crates {
		if err := g.read(c); err != nil {
			t.Error(err)
		}
	}
	for _, p := range g.places {
		p.fault.Heal()
	}
	g.settledPositions()
	g.waitCopies(2, crates...)
	if s := g.node("n1"); s.LastError != "" {
		t.Errorf("%+v", s)
	}
}

// Calls of ours explain that a position moves, in whatever order answers come; others don't, and
// nothing explains that it moves back.
func TestPositions(t *testing.T) {
	at := func(count uint64) store.Position { return store.Position{Count: count, Mark: count * 7} }
	for name, c := range map[string]struct {
		do   func(*node) vantage
		says store.Position
		want bool // the copies are unknown
	}{
		"the same":                  {func(n *node) vantage { return n.vantage() }, at(5), false},
		"nobody has moved it":       {func(n *node) vantage { return n.vantage() }, at(6), true},
		"it is further back":        {func(n *node) vantage { n.changing()(nil); return n.vantage() }, at(4), true},
		"another of the same count": {func(n *node) vantage { n.changing(); return n.vantage() }, store.Position{Count: 5, Mark: 1}, true},
		"a call moves it":           {func(n *node) vantage { v := n.vantage(); n.changing()(nil); return v }, at(6), false},
		"a call moved it":           {func(n *node) vantage { n.changing()(nil); return n.vantage() }, at(6), false},
		"a call is moving it":       {func(n *node) vantage { n.changing(); return n.vantage() }, at(9), false},
		"a call that failed may":    {func(n *node) vantage { n.changing()(&store.Error{Kind: store.Unavailable}); return n.vantage() }, at(6), false},
		"a receipt came meanwhile": {func(n *node) vantage {
			v := n.vantage()
			n.changing()(nil)
			n.at.reached(at(7))
			return v
		}, at(6), false},
		"none at all": {func(n *node) vantage { return n.vantage() }, store.Position{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			g.start()
			n := newNode(g.r, "n")
			n.at = standing{base: at(5), recorded: at(5), known: true}
			from := c.do(n)
			n.stands(c.says, from)
			if is := n.at.unsure != ""; is != c.want {
				t.Errorf("unknown: %v, %s", is, n.at.unsure)
			}
			g.r.unsure.Store(0)
		})
	}
}

// A daemon that was killed, and one that ended well, find the node as they left it, or count it.
func TestPositionOverRestarts(t *testing.T) {
	g := newRig(t)
	a := g.disk("a")
	g.startWith(a)
	crates, _ := g.add(Policy{}, 4096, 4096, 2*mib)
	g.waitCopies(1, crates...)
	g.settledPositions()
	g.kill(crates[0].ID)
	g.until("it is discarded", func() bool { return g.node("a").Crates == 2 })
	for range 3 {
		g.stop()
		g.startWith(a)
		g.r.mu.Lock()
		if s := g.r.named("a").at; s.unsure != "" || !s.known {
			t.Errorf("after an end in order: %+v", s)
		}
		g.r.mu.Unlock()
	}
	var more []storetest.Crate
	more, _ = g.add(Policy{}, 4096)
	g.waitCopies(1, more...)
	time.Sleep(10 * time.Millisecond)
	g.stop()
	g.startWith(a)
	g.settledPositions()
	g.waitCopies(1, more...)
}
