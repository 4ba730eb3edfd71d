package router

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/storetest"
	"stasis/store/storetest/fault"
)

// teller is a store that tells what it is told to, and has a spool: a put that broke off
// goes on at the block up to which it has the bytes.
type teller struct {
	store.Store
	tell chan store.Event

	mu    sync.Mutex
	after []store.Cursor // that it was asked for
	spool map[store.CrateID][]byte
	brk   int64 // puts break off after so many bytes; 0: they don't
	came  int64 // bytes
	under map[store.ReservationID]bool
}

func newTeller(s store.Store) *teller {
	return &teller{Store: s, tell: make(chan store.Event), spool: make(map[store.CrateID][]byte), under: make(map[store.ReservationID]bool)}
}

func (s *teller) Close() error { return nil }

func (s *teller) Status(ctx context.Context) (store.Status, error) {
	st, err := s.Store.Status(ctx)
	st.Durable = true
	return st, err
}

func (s *teller) Events(ctx context.Context, after store.Cursor, give func(store.Event) error) error {
	s.mu.Lock()
	s.after = append(s.after, after)
	s.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-s.tell:
			if e.Kind == "" {
				return &store.Error{Kind: store.Unavailable, Op: "listen"}
			}
			if err := give(e); err != nil {
				return err
			}
		}
	}
}

func (s *teller) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	s.mu.Lock()
	have := s.spool[r.Crate]
	have = have[:len(have)/store.BlockSize*store.BlockSize]
	s.under[r.Reservation] = true
	brk := s.brk
	s.mu.Unlock()
	rc, err := r.Source.OpenAt(ctx, int64(len(have)))
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	left := io.Reader(rc)
	if brk > 0 {
		left = io.LimitReader(rc, brk)
	}
	more, err := io.ReadAll(left)
	if err != nil {
		return nil, err
	}
	have = append(have, more...)
	s.mu.Lock()
	s.came += int64(len(more))
	s.spool[r.Crate] = have
	s.mu.Unlock()
	if int64(len(have)) < r.Size {
		return nil, &store.Error{Kind: store.Unavailable, Op: "push crate", Detail: "the link broke"}
	}
	r.Source = storetest.BytesSource(have)
	return s.Store.Put(ctx, r)
}

func tellerRig(t *testing.T, f func(*rig, *teller)) {
	farRig(t, 1, func(g *rig, l []*link) {
		s := newTeller(l[0])
		g.extra = []NodeSpec{{Name: "peer", Kind: "grpc", Durable: true, Open: func(context.Context, store.NodeID) (store.Store, error) { return s, nil }}}
		g.places = nil
		g.place("disk", gib)
		g.start()
		f(g, s)
	})
}

// What a node tells of damage is repaired; after a gap, what it lists is compared; what it
// tells of room is passed on; and a broken stream goes on where it was.
func TestEvents(t *testing.T) {
	tellerRig(t, func(g *rig, s *teller) {
		crates, _ := g.add(two, 8192, 3*mib)
		g.waitCopies(2, crates...)
		ctx := context.Background()
		at := func(n uint64) store.Cursor { return store.Cursor{Incarnation: "one", Sequence: n} }
		lose := func(c storetest.Crate) {
			if err := s.Store.Discard(ctx, store.DiscardRequest{Crate: c.ID, Holder: g.owner()}); err != nil {
				t.Fatal(err)
			}
		}
		there := func(c storetest.Crate) func() bool {
			return func() bool {
				_, err := s.Store.Stat(ctx, c.ID)
				return err == nil && g.copies(c.ID) == 2
			}
		}
		lose(crates[0])
		s.tell <- store.Event{Cursor: at(1), Kind: store.EventDamaged, Crate: &crates[0].ID}
		g.until("repaired", there(crates[0]))
		lose(crates[1])
		s.tell <- store.Event{Cursor: at(2), Kind: store.EventGap}
		g.until("found and repaired", there(crates[1]))
		g.seen.mu.Lock()
		changes := g.seen.changes
		g.seen.mu.Unlock()
		s.tell <- store.Event{Cursor: at(3), Kind: store.EventSpace}
		s.tell <- store.Event{}
		g.until("it is told of room", func() bool {
			g.seen.mu.Lock()
			defer g.seen.mu.Unlock()
			return g.seen.changes > changes
		})
		g.until("it listens again", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.after) == 2 && s.after[0] == store.Cursor{} && s.after[1] == at(3)
		})
	})
}

// A large transfer that breaks off again and again goes on: under the same reservation, and
// nothing is sent twice but for the block that was on its way.
func TestTransferResumes(t *testing.T) {
	tellerRig(t, func(g *rig, s *teller) {
		const size, breaks = 40 * mib, 4
		s.mu.Lock()
		s.brk = 10*mib - 7
		s.mu.Unlock()
		crates, _ := g.add(two, size)
		g.waitCopies(2, crates...)
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.under) != 1 || s.came > size+(breaks+1)*mib {
			t.Errorf("%d reservations, %d bytes for %d", len(s.under), s.came, size)
		}
	})
}

// A check does not take for lost what comes while it looks.
func TestCheckAmidPuts(t *testing.T) {
	g := newRig(t, gib)
	g.start()
	g.places[0].fault.Delay(fault.Stat, 0, time.Millisecond)
	for range 10 {
		crates, _ := g.add(Policy{}, 4096, 4096, 4096)
		sum, err := g.r.Check(context.Background(), false, func(f Finding) {
			if f.Problem {
				t.Errorf("%+v", f)
			}
		})
		if err != nil || sum.Problems > 0 {
			t.Errorf("%+v, %v", sum, err)
		}
		g.waitCopies(1, crates...)
	}
}
