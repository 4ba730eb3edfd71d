package router

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/storetest"
	"stasis/store/storetest/fault"
)

const mib = 1 << 20

// placed makes a crate that all nodes have, and takes its body away.
func (g *rig) placed(copies, size int) storetest.Crate {
	g.t.Helper()
	crates, _ := g.add(Policy{Copies: copies}, size)
	g.waitCopies(copies, crates...)
	g.bodies.drop(crates[0].ID)
	return crates[0]
}

// A reader in order of a node far away goes at the speed of the link, not of its latency.
func TestReadAheadFar(t *testing.T) {
	farRig(t, 1, func(g *rig, l []*link) {
		g.start()
		c := g.placed(1, 64*mib)
		l[0].set(func() { l[0].latency, l[0].rate = 100*time.Millisecond, 100*mib })
		begin := time.Now()
		g.readOn(c)
		if d := time.Since(begin); d > 1500*time.Millisecond {
			t.Errorf("took %s, the bytes alone 640ms, each block by itself 7s", d)
		}
		// A reader who has gone on for a while has several blocks come in one stream.
		if n := l[0].asked(); n > 40 {
			t.Errorf("the node was asked %d times for 64 blocks", n)
		}
	})
}

// A slow link is not asked for so much ahead that the reads themselves come late.
func TestReadAheadSlow(t *testing.T) {
	farRig(t, 1, func(g *rig, l []*link) {
		g.start()
		c := g.placed(1, 24*mib)
		l[0].set(func() { l[0].rate = mib })
		begin := time.Now()
		longest := g.readOn(c)
		if d := time.Since(begin); d > 32*time.Second || longest > 4*time.Second {
			t.Errorf("took %s, one read %s", d, longest)
		}
	})
}

// Whoever leaves the order finds no long queue of what is read ahead: neither behind it, nor
// at its end.
func TestReadAheadIsShort(t *testing.T) {
	for _, rate := range []int64{2 * mib, 4 * mib, 16 * mib} {
		farRig(t, 1, func(g *rig, l []*link) {
			g.start()
			c := g.placed(1, 64*mib)
			l[0].set(func() { l[0].latency, l[0].rate = 20*time.Millisecond, rate })
			head := c
			head.Data = head.Data[:20*mib]
			g.readOn(head)
			for _, ahead := range []int{21, 24, 28, 34, 60} {
				p := make([]byte, 4096)
				begin := time.Now()
				if _, err := g.r.ReadAt(context.Background(), c.ID, p, int64(ahead)*mib); err != nil || string(p) != string(c.Data[ahead*mib:ahead*mib+4096]) {
					t.Errorf("at %d MiB: %v, or other bytes", ahead, err)
				}
				if d := time.Since(begin); d > 1500*time.Millisecond {
					t.Errorf("at %d MiB a second the read at %d took %s", rate/mib, ahead, d)
				}
			}
		})
	}
}

// Of the nodes that are far the nearest is asked, whatever their order.
func TestNearestFirst(t *testing.T) {
	farRig(t, 2, func(g *rig, l []*link) {
		l[0].latency, l[1].latency = 300*time.Millisecond, 20*time.Millisecond
		g.start()
		c := g.placed(2, 8*mib)
		time.Sleep(3 * ProbeEvery)
		g.readOn(c)
		if l[0].asked() > 0 || l[1].asked() == 0 {
			t.Errorf("the far one was asked %d times, the near one %d", l[0].asked(), l[1].asked())
		}
	})
}

// A node that stops, in the middle of a block, amid a long read costs that read about a
// second, and the following ones nothing; so does one that dies or starts to lie.
func TestReadGoesOn(t *testing.T) {
	for name, f := range map[string]func(*link, *fault.Store){
		"hangs": func(l *link, _ *fault.Store) { l.set(func() { l.hang = 100 << 10 }) },
		"lies":  func(l *link, _ *fault.Store) { l.set(func() { l.lie = true }) },
		"dies":  func(_ *link, s *fault.Store) { s.Down() },
		"slow":  func(l *link, _ *fault.Store) { l.set(func() { l.rate = 64 << 10 }) },
	} {
		t.Run(name, func(t *testing.T) {
			farRig(t, 2, func(g *rig, l []*link) {
				l[0].latency, l[1].latency = 5*time.Millisecond, 40*time.Millisecond
				l[0].rate, l[1].rate = 100*mib, 100*mib
				g.start()
				c := g.placed(2, 24*mib)
				time.Sleep(2 * ProbeEvery)
				head := c
				head.Data = head.Data[:8*mib]
				g.readOn(head)
				near := l[0].asked()
				if near == 0 || l[1].asked() > 0 {
					t.Errorf("the nearest was asked %d times, the other %d", near, l[1].asked())
				}
				f(l[0], g.places[0].fault)
				begin := time.Now()
				longest := g.readOn(c)
				if d := time.Since(begin); longest > 2500*time.Millisecond || d > 5*time.Second {
					t.Errorf("took %s, one read %s", d, longest)
				}
				g.places[0].fault.Heal()
				l[0].set(func() { l[0].hang, l[0].lie, l[0].rate = -1, false, 0 })
			})
		})
	}
}

// What was read from far is read from the disk the next time, after a restart too, and
// only while its bytes are right. What a local node has is not kept twice.
func TestCacheOnDisk(t *testing.T) {
	g := newRig(t, gib, gib)
	g.cache = filepath.Join(g.dir, "cache")
	g.places[0].kind, g.places[1].kind = "grpc", "grpc"
	g.start()
	c := g.placed(2, 3*mib+5)
	if err := g.read(c); err != nil {
		t.Fatal(err)
	}
	g.until("4 blocks are kept", func() bool { n, _ := g.r.disk.Size(); return n == 4 })
	g.stop()
	g.start()
	for _, p := range g.places {
		p.fault.Fail(fault.Open, 0, &store.Error{Kind: store.Unavailable, Op: "read"})
	}
	if err := g.read(c); err != nil {
		t.Errorf("with the nodes away: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(g.cache, "*", c.ID.String()+".00000001"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[7] ^= 4
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	g.stop()
	g.start()
	if err := g.read(c); store.KindOf(err) != store.Unavailable {
		t.Errorf("with a wrong block: %v", err)
	}
	for _, p := range g.places {
		p.fault.Heal()
	}
	g.forgetBlocks()
	if err := g.read(c); err != nil {
		t.Error(err)
	}
	g.place("near", gib)
	if err := g.r.SetNodes(g.specs()); err != nil {
		t.Fatal(err)
	}
	g.until("it is there", func() bool { return !g.r.byName("near").away() })
	d := g.placed(3, 2*mib)
	if err := g.read(d); err != nil {
		t.Error(err)
	}
	if files, _ := filepath.Glob(filepath.Join(g.cache, "*", d.ID.String()+"*")); len(files) > 0 {
		t.Errorf("%v are kept although a local node has them", files)
	}
}

// The cache may drop what has a copy, or is dead, and nothing else.
func TestSpare(t *testing.T) {
	g := newRig(t, gib)
	g.start()
	c := g.placed(1, 8192)
	if !g.r.spare(c.ID) || !g.r.spare(store.NewCrateID()) {
		t.Error("what has a copy, or is dead, can't be spared")
	}
	g.stop()
	g.places[0].unplug(true)
	g.start()
	if _, err := g.r.damaged(g.r.byName("n0"), c.ID, errTold); err != nil {
		t.Fatal(err)
	}
	if g.r.spare(c.ID) {
		t.Error("what has no copy can be spared")
	}
	g.places[0].unplug(false)
}

// Many readers of a node that is far wait for each other, and none of them is refused; the
// node is not taken for silent meanwhile.
func TestManyReaders(t *testing.T) {
	farRig(t, 1, func(g *rig, l []*link) {
		g.start()
		sizes := make([]int, 150)
		for i := range sizes {
			sizes[i] = 4096 + i
		}
		crates, _ := g.add(Policy{}, sizes...)
		g.waitCopies(1, crates...)
		l[0].set(func() { l[0].latency = 400 * time.Millisecond })
		h := g.r.byName("n0").handle
		var all sync.WaitGroup
		for _, c := range crates {
			all.Go(func() {
				if err := g.read(c); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, c := range crates[:3] {
			g.forgetBlocks()
			if err := g.read(c); err != nil {
				t.Error(err)
			}
		}
		if n := len(h.reads); n != 0 || g.r.byName("n0").handle != h {
			t.Errorf("%d reads are still under way, or the store was opened anew", n)
		}
	})
}
