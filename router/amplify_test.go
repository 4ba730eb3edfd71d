package router

import (
	"context"
	"encoding/binary"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"stasis/store"
)

// A peer that names a new leaf each time it is asked, and gives receipts for one it has not named,
// is asked again now and then.
func TestStrayLoop(t *testing.T) {
	besideLiar(t, func(g *rig, l *liar) {
		var asks atomic.Uint64
		const most = 5000
		l.put = func(_ store.PutRequest, rcs []store.Receipt, err error) ([]store.Receipt, error) {
			if err == nil && l.puts.Load() < most {
				out := slices.Clone(rcs)
				for i := range out {
					out[i].Leaf = store.NodeID{9, 9}
				}
				return append(slices.Clone(rcs), out...), nil
			}
			return rcs, err
		}
		l.reserve = func(s []store.Share) []store.Share {
			n := asks.Add(1)
			more := s[0]
			more.Leaf = store.NodeID{1}
			binary.BigEndian.PutUint64(more.Leaf[8:], n)
			return append(slices.Clone(s), more)
		}
		g.start()
		crates, _ := g.add(two, 4096)
		g.waitCopies(2, crates...)
		// now it has it; asked puts answer with the stray leaf alone
		l.put = func(_ store.PutRequest, rcs []store.Receipt, err error) ([]store.Receipt, error) {
			out := slices.Clone(rcs)
			if l.puts.Load() < most {
				for i := range out {
					out[i].Leaf = store.NodeID{9, 9}
				}
			}
			return out, err
		}
		p, a := l.puts.Load(), asks.Load()
		l.tell <- store.Event{Kind: store.EventCopies, Crate: &crates[0].ID}
		time.Sleep(time.Minute)
		if n := l.puts.Load() - p; n > 100 || asks.Load()-a > 100 {
			t.Errorf("%d asked puts in a minute after one event", n)
		}
	})
}

// A peer that takes the bytes, refuses them, and says that it has space again is not sent them for
// that.
func TestSpaceResetsPauses(t *testing.T) {
	for _, evil := range []bool{false, true} {
		besideLiar(t, func(g *rig, l *liar) {
			l.put = func(store.PutRequest, []store.Receipt, error) ([]store.Receipt, error) {
				return nil, &store.Error{Kind: store.Invalid, Op: "put"}
			}
			l.verify = func() error { return &store.Error{Kind: store.Corrupt, Op: "verify"} }
			g.start()
			crates, _ := g.add(two, 8*mib)
			g.waitCopies(1, crates...)
			begun, before := time.Now(), l.came.Load()
			for time.Since(begun) < 5*time.Minute {
				if evil {
					l.tell <- store.Event{Kind: store.EventSpace}
					_ = l.Store.Discard(context.Background(), store.DiscardRequest{Crate: crates[0].ID})
				}
				time.Sleep(100 * time.Millisecond)
			}
			if n := (l.came.Load() - before) / (8 * mib); n > 20 {
				t.Errorf("space events %v: it was sent %d times in five minutes", evil, n)
			}
		})
	}
}
