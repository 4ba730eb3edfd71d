package router

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"stasis/store"
	"stasis/store/storetest/fault"
)

// Draws of more than a grant, while a node is well, killed, stopped or slow: but for the one
// that finds out they take no time, none takes longer than the bound, and what the node lacks
// it gets when it is back.
func TestDrawsDontWait(t *testing.T) {
	for name, c := range map[string]struct {
		trouble func(*fault.Store)
		waiting bool // nodes in this trouble are found to be silent
	}{
		"well":    {func(*fault.Store) {}, false},
		"killed":  {(*fault.Store).Down, true},
		"stopped": {func(f *fault.Store) { f.Stall(fault.Any, 0) }, true},
		"slow":    {func(f *fault.Store) { f.Delay(fault.Any, 0, 3*time.Second) }, false}, // space is asked for in time
	} {
		t.Run(name, func(t *testing.T) {
			farRig(t, 2, func(g *rig, l []*link) {
				l[1].latency = 20 * time.Millisecond
				g.start()
				c.trouble(g.places[1].fault)
				plans, took := g.drawOften(t, 200, 6*mib) // 1.2 GiB, of grants of 512 MiB
				slices.Sort(took)
				if p99, most := took[len(took)*99/100-1], took[len(took)-1]; p99 > time.Millisecond || most > ReserveLimit+50*time.Millisecond {
					t.Errorf("p99 %s, the longest %s", p99, most)
				}
				waiting := 0
				for _, p := range plans {
					if p.Waiting != "" {
						waiting++
					}
				}
				if (waiting > 0) != c.waiting {
					t.Errorf("%d plans wait for the node", waiting)
				}
				g.places[1].fault.Heal()
				for _, p := range plans {
					g.r.Return(p)
				}
				crates, _ := g.add(two, 8192)
				g.waitCopies(2, crates...)
				if err := g.leak(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// drawOften draws many times, a while apart, and gives how long each draw took.
func (g *rig) drawOften(t *testing.T, times int, bytes int64) (plans []Plan, took []time.Duration) {
	for range times {
		begin := time.Now()
		p, err := g.r.Draw(context.Background(), DrawRequest{Policy: two, Bytes: store.Charge(bytes)})
		if err != nil || len(p.Targets) != 2 {
			t.Fatalf("%+v, %v", p, err)
		}
		took = append(took, time.Since(begin))
		plans = append(plans, p)
		time.Sleep(100 * time.Millisecond)
	}
	return plans, took
}

// A node that stops while it is being asked for space is known to be silent within ten
// seconds.
func TestStoppedIsSeenSoon(t *testing.T) {
	farRig(t, 1, func(g *rig, l []*link) {
		g.start()
		time.Sleep(ProbeEvery + time.Millisecond)
		g.places[0].fault.Stall(fault.Any, 0)
		g.r.mu.Lock()
		g.r.named("n0").grant.renewed -= GrantRenew // a renewal is due
		g.r.named("n0").tendSoon()
		g.r.mu.Unlock()
		time.Sleep(10*time.Second - StatusLimit)
		if s := g.nodeStatus("n0"); s.State != Unreachable || s.LastError == "" {
			t.Errorf("%+v", s)
		}
		g.places[0].fault.Heal()
	})
}

// A disk that is kept busy gives what is read from it late, and no error: not while the node
// answers when it is asked how it is. One that does not answer at all is given up in time, and
// so is a node far away.
func TestReadsWaitForABusyDisk(t *testing.T) {
	for name, c := range map[string]struct {
		kind    string
		trouble func(*fault.Store)
		fails   time.Duration // by when; 0: not at all
	}{
		"busy":         {"directory", func(f *fault.Store) { f.Delay(fault.Open, 0, 5*ReadLimit) }, 0},
		"never":        {"directory", func(f *fault.Store) { f.Stall(fault.Open, 0) }, NearReadLimit + time.Second},
		"hangs":        {"directory", func(f *fault.Store) { f.Stall(fault.Any, 0) }, ReadLimit + ProbeEvery + ProbeLimit},
		"busy and far": {"grpc", func(f *fault.Store) { f.Delay(fault.Open, 0, 5*ReadLimit) }, ReadLimit + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, 64*mib, 64*mib)
				for _, p := range g.places {
					p.kind = c.kind
				}
				g.start()
				crate := g.placed(2, 3*mib)
				for _, p := range g.places {
					c.trouble(p.fault)
				}
				begin := time.Now()
				err := g.read(crate)
				switch took := time.Since(begin); {
				case c.fails == 0 && err != nil:
					t.Errorf("after %s: %v", took, err)
				case c.fails != 0 && (!errors.Is(err, store.Unavailable) || took > c.fails):
					t.Errorf("after %s: %v, want %v by %s", took, err, store.Unavailable, c.fails)
				}
				for _, p := range g.places {
					p.fault.Heal()
				}
				time.Sleep(time.Second) // the fetch that was given up ends
				if err := g.read(crate); err != nil {
					t.Errorf("once it is well: %v", err)
				}
				g.stop()
			})
		})
	}
}
