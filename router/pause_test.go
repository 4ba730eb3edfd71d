package router

import (
	"context"
	"testing"
	"time"

	"stasis/store"
)

func (g *rig) nodeStatus(name string) NodeStatus {
	for _, s := range g.r.Status(context.Background()) {
		if s.Name == name {
			return s
		}
	}
	return NodeStatus{}
}

// Nothing goes to a paused node, across a restart too, until it is resumed or the time is
// over; what waited goes then.
func TestPause(t *testing.T) {
	farRig(t, 2, func(g *rig, l []*link) {
		g.start()
		if err := g.r.Pause("n1", time.Time{}); err != nil {
			t.Fatal(err)
		}
		if err := g.r.Pause("nobody", time.Time{}); store.KindOf(err) != store.NotFound {
			t.Errorf("pausing nobody: %v", err)
		}
		crates, plan := g.add(two, 8192, 3*mib)
		if len(plan.Targets) != 2 || !plan.Targets[1].Reserved {
			t.Errorf("plan %+v", plan)
		}
		g.waitCopies(1, crates...)
		g.stop()
		g.start()
		time.Sleep(time.Minute)
		s := g.nodeStatus("n1")
		if s.State != Online || !s.Paused || s.LastError == "" || s.PendingCrates != 2 || l[1].took() != 0 {
			t.Errorf("%+v; %d bytes went there", s, l[1].took())
		}
		if err := g.r.Resume(""); err != nil {
			t.Fatal(err)
		}
		g.waitCopies(2, crates...)
		if err := g.r.Pause("", time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		crates, _ = g.add(two, 8192, 3*mib)
		time.Sleep(59 * time.Minute)
		if g.copies(crates[1].ID) != 0 || !g.nodeStatus("n0").Paused {
			t.Error("it is not paused")
		}
		time.Sleep(3 * time.Minute)
		if g.copies(crates[1].ID) != 2 || g.nodeStatus("n0").Paused || g.nodeStatus("n0").LastError != "" {
			t.Error("the pause did not end by itself")
		}
	})
}

// A pause breaks off what is under way, at once, and without blame.
func TestPauseAmidTransfer(t *testing.T) {
	farRig(t, 1, func(g *rig, l []*link) {
		g.rate = mib
		g.start()
		crates, _ := g.add(Policy{}, 20*mib)
		time.Sleep(5 * time.Second)
		if err := g.r.Pause("", time.Time{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		went := l[0].took()
		if time.Sleep(time.Minute); l[0].took() != went || went < 4*mib || went > 6*mib {
			t.Errorf("%d bytes went, %d after the pause", went, l[0].took()-went)
		}
		if s := g.nodeStatus("n0"); s.State != Online {
			t.Errorf("%+v", s)
		}
		if err := g.r.Resume("n0"); err != nil {
			t.Fatal(err)
		}
		g.waitCopies(1, crates...)
	})
}

// A rate bounds what goes to a node, and not what is read here to know the checksums.
func TestRate(t *testing.T) {
	farRig(t, 1, func(g *rig, l []*link) {
		g.rate = mib
		g.start()
		begin := time.Now()
		crates, _ := g.add(Policy{}, 5*mib, 5*mib)
		g.waitCopies(1, crates...)
		if d := time.Since(begin); d < 9500*time.Millisecond || d > 11*time.Second || l[0].took() != 10*mib {
			t.Errorf("%d bytes in %s", l[0].took(), d)
		}
	})
}

// A name that begins with another's stays when that one is removed.
func TestRemoveKeepsLongerName(t *testing.T) {
	g := newRig(t)
	g.place("n", gib)
	g.place("nas", gib)
	g.start()
	if err := g.r.Pause("nas", time.Time{}); err != nil {
		t.Fatal(err)
	}
	if m, err := g.r.RemoveNode(context.Background(), "n", false, false); err != nil || !m.Removed {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, ok, err := g.r.local.Get(nameKey("nas")); !ok || err != nil {
		t.Errorf("its record: %v, %v", ok, err)
	}
	if !g.nodeStatus("nas").Paused {
		t.Error("it is not paused any more")
	}
}
