package router

import (
	"context"
	"sync"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/storetest/fault"
)

// shifted is the system's clock with another time of day.
type shifted struct {
	mu sync.Mutex
	by time.Duration
}

func (c *shifted) Boot() time.Duration { return System.Boot() }

func (c *shifted) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.by)
}

// What a node has that is away past its grace is kept elsewhere too.
func TestGrace(t *testing.T) {
	g := newRig(t, gib, gib, gib)
	clock := &shifted{}
	g.clock = clock
	g.start()
	crates, plan := g.add(two, 4096, 1<<20)
	g.waitCopies(2, crates...)
	g.stop()
	g.start() // the audit looks at what is older than the router
	lost := g.r.byName(g.r.NodeName(plan.Targets[0].Node))
	for _, p := range g.places {
		if p.name == lost.name {
			p.fault.Down()
			p.unplug(true)
		}
	}
	lost.rouse(wakeKeeper)
	g.until("silent", lost.away)
	clock.mu.Lock()
	clock.by = Grace + time.Hour
	clock.mu.Unlock()
	g.r.again <- struct{}{}
	g.waitCopies(3, crates...)
	p, err := g.r.Draw(context.Background(), DrawRequest{Policy: Policy{Copies: 3}, Bytes: 8192})
	if err != nil || len(p.Targets) != 2 || p.Short == "" {
		t.Errorf("a node past its grace is still planned for: %+v, %v", p, err)
	}
	g.r.Return(p)
}

// A node that hangs holds a draw up once, for a bounded time, and its copy is made later.
func TestDrawPastHangingNode(t *testing.T) {
	g := newRig(t, gib, gib)
	g.start()
	g.places[0].fault.Stall(fault.Reserve, 0)
	// What the grant covers is no question.
	begin := time.Now()
	small, err := g.r.Draw(context.Background(), DrawRequest{Policy: two, Bytes: 8192})
	if d := time.Since(begin); err != nil || small.Waiting != "" || d > ReserveLimit/2 {
		t.Errorf("%+v, %v after %s", small, err, d)
	}
	var plans []Plan
	for i, most := range []time.Duration{2 * ReserveLimit, ReserveLimit / 2} {
		begin := time.Now()
		p, err := g.r.Draw(context.Background(), DrawRequest{Policy: two, Bytes: 300 << 20})
		if d := time.Since(begin); err != nil || d > most || p.Waiting == "" || len(p.Targets) != 2 {
			t.Errorf("draw %d: %+v, %v after %s", i, p, err, d)
		}
		plans = append(plans, p)
	}
	g.places[0].fault.Heal()
	for _, p := range append(plans, small) {
		g.r.Return(p)
	}
	if err := g.leak(); err != nil {
		t.Error(err)
	}
}

// A close ends within its bound although a node hangs.
func TestCloseWithHangingNode(t *testing.T) {
	g := newRig(t, gib, gib)
	g.start()
	g.places[0].fault.Stall(fault.Put, 0)
	g.places[0].fault.Stall(fault.Status, 0)
	crates, _ := g.add(two, 4096)
	g.waitCopies(1, crates...)
	begin := time.Now()
	g.stop()
	if d := time.Since(begin); d > CloseLimit {
		t.Errorf("took %s", d)
	}
	g.places[0].fault.Heal()
	g.start()
	g.waitCopies(2, crates...)
}

// A node left out of the configuration keeps its queue, and goes on when it is back,
// under another name too.
func TestSetNodes(t *testing.T) {
	g := newRig(t, gib, gib)
	g.start()
	all := g.specs()
	g.places[1].fault.Fail(fault.Put, 0, &store.Error{Kind: store.Unavailable, Op: "put"})
	crates, _ := g.add(two, 4096)
	g.waitCopies(1, crates...)
	if err := g.r.SetNodes(all[:1]); err != nil {
		t.Fatal(err)
	}
	s := g.r.Status(context.Background())
	if len(s) != 2 || s[1].Configured || s[1].PendingCrates != 1 {
		t.Errorf("%+v", s)
	}
	g.places[1].fault.Heal()
	renamed := all[1]
	renamed.Name = "other"
	if err := g.r.SetNodes([]NodeSpec{renamed, all[0]}); err != nil {
		t.Fatal(err)
	}
	g.waitCopies(2, crates...)
	g.until("no leak", func() bool { return g.leak() == nil })
	if s := g.r.Status(context.Background()); len(s) != 2 || s[0].Name != "other" || s[0].State != Online {
		t.Errorf("%+v", s)
	}
	// Two ways to one place are one place.
	double := all[0]
	double.Name = "double"
	err := g.r.AddNode(context.Background(), double, store.NodeID{})
	if store.KindOf(err) != store.Conflict {
		t.Errorf("a second way to a node: %v", err)
	}
	if s := g.r.Status(context.Background()); len(s) != 2 {
		t.Errorf("%+v", s)
	}
}

// With little room the crates that fit go, and the others go elsewhere or wait.
func TestReroutes(t *testing.T) {
	g := newRig(t, 1<<20, gib, gib)
	g.start()
	full := g.places[0]
	full.fault.Down()
	full.unplug(true)
	n := g.r.byName("n0")
	n.rouse(wakeKeeper)
	g.until("silent", n.away)
	g.places[2].fault.Down()
	g.r.byName("n2").rouse(wakeKeeper)
	g.until("silent", g.r.byName("n2").away)
	crates, plan := g.add(Policy{Copies: 3}, 2<<20, 4096)
	if len(plan.Targets) != 3 || plan.Waiting == "" {
		t.Fatalf("%+v", plan)
	}
	p := g.place("spare", gib)
	err := g.r.AddNode(context.Background(), NodeSpec{Name: "spare", Kind: "directory", Durable: true, Open: p.open}, status(t, p).Leaf)
	if err != nil {
		t.Fatal(err)
	}
	full.fault.Heal()
	full.unplug(false)
	g.until("the large one went elsewhere", func() bool { return status(t, p).Crates == 1 && status(t, full).Crates == 1 })
	g.places[2].fault.Heal()
	g.waitCopies(3, crates...)
	g.until("no leak", func() bool { return g.leak() == nil })
}
