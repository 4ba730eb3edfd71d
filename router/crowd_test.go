package router

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stasis/store"
)

// A peer that takes the bytes of each crate and refuses it for a reason of the crate's own is sent
// each now and then, be it more crates than are remembered one by one.
func TestManyRefusedCrates(t *testing.T) {
	for _, crates := range []int{512, MaxFailing * 3 / 2} {
		besideLiar(t, func(g *rig, l *liar) {
			l.put = func(store.PutRequest, []store.Receipt, error) ([]store.Receipt, error) {
				return nil, &store.Error{Kind: store.Invalid, Op: "put"}
			}
			g.start()
			sizes := make([]int, 256)
			for i := range sizes {
				sizes[i] = 4096
			}
			for range crates / len(sizes) {
				g.add(two, sizes...)
			}
			time.Sleep(6 * time.Minute) // the pauses are as long as they get
			puts, came := l.puts.Load(), l.came.Load()
			const minutes = 4
			time.Sleep(minutes * time.Minute)
			puts, came = l.puts.Load()-puts, l.came.Load()-came
			each := float64(puts) / float64(crates) / minutes
			t.Logf("%d crates of 4 KiB: sent %.1f times a minute each, %d KiB in all", crates, each, came>>10)
			if each > 1.5 {
				t.Errorf("each of %d refused crates is sent %.1f times a minute, though the longest pause is %v", crates, each, CrateRetryCap)
			}
			l.put = nil
			more, _ := g.add(two, 4096, 300<<10)
			g.waitCopies(2, more...) // at once, beside those that wait
		})
	}
}

// keeps is a store that discards none of some crates, and says so.
type keeps struct {
	store.Store
	mu    sync.Mutex
	these map[store.CrateID]bool
	asks  atomic.Int64
}

func (k *keeps) Discard(ctx context.Context, r store.DiscardRequest) error {
	k.mu.Lock()
	is := k.these[r.Crate]
	k.mu.Unlock()
	if !is {
		return k.Store.Discard(ctx, r)
	}
	k.asks.Add(1)
	return &store.Error{Kind: store.Conflict, Op: "discard crate"}
}

// The same for discards; and what is dead beside them goes.
func TestManyKeptCrates(t *testing.T) {
	for _, crates := range []int{512, MaxFailing * 3 / 2} {
		besideLiar(t, func(g *rig, l *liar) {
			k := &keeps{Store: l.Store, these: make(map[store.CrateID]bool)}
			l.Store = k
			g.start()
			sizes := make([]int, 256)
			for i := range sizes {
				sizes[i] = 100
			}
			var ids []store.CrateID
			for range crates / len(sizes) {
				added, _ := g.add(two, sizes...)
				for _, c := range added {
					ids = append(ids, c.ID)
				}
				g.waitCopies(2, added...)
			}
			k.mu.Lock()
			for _, id := range ids {
				k.these[id] = true
			}
			k.mu.Unlock()
			g.kill(ids...)
			time.Sleep(time.Minute)
			asks := k.asks.Load()
			const seconds = 60
			time.Sleep(seconds * time.Second)
			asks = k.asks.Load() - asks
			t.Logf("%d dead crates that the peer keeps: %d discards a second", crates, asks/seconds)
			if asks/seconds > int64(crates)/10 {
				t.Errorf("a peer that keeps %d crates is asked %d times a second to discard them", crates, asks/seconds)
			}
			more, _ := g.add(two, 100, 100)
			g.waitCopies(2, more...)
			g.kill(more[0].ID, more[1].ID)
			g.until("what it does not keep is gone", func() bool {
				for _, c := range more {
					if _, err := l.Stat(context.Background(), c.ID); store.KindOf(err) != store.NotFound {
						return false
					}
				}
				return true
			})
		})
	}
}

// A node that has more crates made again in turn than are remembered one by one gets them again less
// and less often; one that has as many made again once does not wait.
func TestManyRepairs(t *testing.T) {
	besideLiar(t, func(g *rig, _ *liar) {
		g.start()
		n := g.r.byName("liar")
		ids := make([]store.CrateID, 3*MaxRepairs)
		for i := range ids {
			ids[i] = store.NewCrateID()
		}
		round := func() (again int) { // of all, as often as they may
			g.r.mu.Lock()
			defer g.r.mu.Unlock()
			for _, id := range ids {
				if n.repairable(id, g.clock.Boot()) == 0 {
					n.repaired(id)
					again++
				}
			}
			return again
		}
		if first := round(); first < len(ids)*99/100 {
			t.Errorf("%d of %d are made again at first", first, len(ids))
		}
		hour := func() (again int) {
			for range 360 {
				time.Sleep(10 * time.Second)
				again += round()
			}
			return again
		}
		if first, then := hour(), hour(); first > 10*len(ids) || then > 2*len(ids) {
			t.Errorf("%d crates are made again %d times in the first hour, %d in the next", len(ids), first, then)
		}
	})
}

// The crates of a crowd have one pause, which grows; others have none.
func TestCrowd(t *testing.T) {
	var c crowd
	in, out := store.CrateID{15: 1}, store.CrateID{15: 2}
	now := time.Hour
	for _, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, time.Minute, time.Minute} {
		if c.rests(in, now) != 0 {
			t.Fatal("it rests after the pause")
		}
		c.add(in, now, 10*time.Second, time.Minute)
		if is := c.rests(in, now); is != want {
			t.Errorf("rests for %v, want %v", is, want)
		}
		if c.rests(out, now) != 0 {
			t.Error("another rests")
		}
		now += want
	}
	if c.add(in, now+2*time.Minute, 10*time.Second, time.Minute); c.rests(in, now+2*time.Minute) != 10*time.Second {
		t.Error("it does not begin anew after a quiet while")
	}
}
