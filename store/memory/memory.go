package memory

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/tidwall/btree"

	"stasis/store"
	"stasis/store/blocks"
	"stasis/store/booking"
	"stasis/store/keyed"
)

// Options may be left zero.
type Options struct {
	Leaf  store.NodeID  // zero: one is minted
	Clock booking.Clock // nil: the system's
}

// Store keeps crates in memory.
type Store struct {
	leaf     store.NodeID
	capacity int64
	clock    booking.Clock
	book     *booking.Book
	puts     keyed.Locks[store.CrateID] // one change of a crate at a time

	mu     sync.RWMutex
	crates btree.Map[string, *crate] // by the bytes of the id
	damage int64
	closed bool
	busy   sync.WaitGroup
}

var _ store.Store = (*Store)(nil)

// crate is immutable once it is in the map.
type crate struct {
	info   store.CrateInfo
	sums   store.Checksums
	blocks [][]byte
}

// New makes an empty store of capacity bytes, counted as store.Charge counts.
func New(capacity int64, o Options) (*Store, error) {
	if capacity <= 0 {
		return nil, &store.Error{
			Kind: store.Invalid, Op: "make a memory node", Detail: fmt.Sprintf("capacity of %d bytes", capacity),
			Hint: "give it a capacity, such as 256MiB",
		}
	}
	if o.Leaf.IsZero() {
		o.Leaf = store.NewNodeID()
	}
	if o.Clock == nil {
		o.Clock = booking.System
	}
	s := &Store{leaf: o.Leaf, capacity: capacity, clock: o.Clock}
	s.book = booking.New(booking.Options{Leaf: o.Leaf, Capacity: capacity, Clock: o.Clock}, booking.Totals{}, nil)
	return s, nil
}

// enter counts a call in, so that Close waits for it; leave must be called.
func (s *Store) enter(ctx context.Context, op string) (leave func(), err error) {
	if err := context.Cause(ctx); err != nil {
		return nil, &store.Error{Kind: store.Unavailable, Op: op, Subject: "on memory node " + s.leaf.String(), Err: err}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, &store.Error{Kind: store.Unavailable, Op: op, Subject: "on memory node " + s.leaf.String(), Detail: "it is closed"}
	}
	s.busy.Add(1)
	return s.busy.Done, nil
}

// Reserve is store.Store's; see booking.Book.
func (s *Store) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	leave, err := s.enter(ctx, "reserve space")
	if err != nil {
		return nil, err
	}
	defer leave()
	share, err := s.book.Reserve(ctx, r)
	if err != nil {
		return nil, err
	}
	return []store.Share{share}, nil
}

// Release is store.Store's.
func (s *Store) Release(ctx context.Context, id store.ReservationID) error {
	leave, err := s.enter(ctx, "release reservation")
	if err != nil {
		return err
	}
	defer leave()
	return s.book.Release(ctx, id)
}

// Put is store.Store's. Memory is taken block by block as the source gives it.
func (s *Store) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	leave, err := s.enter(ctx, opPut)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := blocks.CheckPut(r); err != nil {
		return nil, err
	}
	unlock, err := s.puts.Lock(ctx, r.Crate)
	if err != nil {
		return nil, blocks.Ended(opPut, r.Crate, err)
	}
	defer unlock()
	if c := s.get(r.Crate); c != nil {
		return s.repeat(ctx, c, r)
	}
	draw, err := s.book.Draw(r.Reservation, r.Crate, store.Charge(r.Size))
	if err != nil {
		return nil, err
	}
	defer draw.Undo()
	c := &crate{}
	c.sums, err = blocks.Ingest(ctx, r, func(block []byte) error {
		c.blocks = append(c.blocks, bytes.Clone(block))
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.info = store.CrateInfo{ID: r.Crate, Form: r.Form, Size: r.Size, Root: c.sums.Root()}
	s.mu.Lock()
	s.crates.Set(string(r.Crate[:]), c)
	s.mu.Unlock()
	draw.Commit()
	return s.receipt(c), nil
}

const opPut = "put crate"

// repeat answers a Put for a crate that is there.
func (s *Store) repeat(ctx context.Context, c *crate, r store.PutRequest) ([]store.Receipt, error) {
	if err := blocks.Same(ctx, c.info, r); err != nil {
		return nil, err
	}
	return s.receipt(c), nil
}

func (s *Store) receipt(c *crate) []store.Receipt {
	return []store.Receipt{{Leaf: s.leaf, Sums: c.sums, Time: s.clock.Wall()}}
}

func (s *Store) get(id store.CrateID) *crate {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c, _ := s.crates.Get(string(id[:]))
	return c
}

// Discard is store.Store's. Readers that have the crate open go on.
func (s *Store) Discard(ctx context.Context, r store.DiscardRequest) error {
	leave, err := s.enter(ctx, "discard crate")
	if err != nil {
		return err
	}
	defer leave()
	unlock, err := s.puts.Lock(ctx, r.Crate)
	if err != nil {
		return blocks.Ended("discard crate", r.Crate, err)
	}
	defer unlock()
	s.mu.Lock()
	c, there := s.crates.Delete(string(r.Crate[:]))
	s.mu.Unlock()
	if there {
		s.book.Freed(store.Charge(c.info.Size))
	}
	return nil
}

// Status is store.Store's.
func (s *Store) Status(ctx context.Context) (store.Status, error) {
	leave, err := s.enter(ctx, "tell the status")
	if err != nil {
		return store.Status{}, err
	}
	defer leave()
	u, err := s.book.Usage(ctx)
	if err != nil {
		return store.Status{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return store.Status{
		Leaf: s.leaf, Capacity: s.capacity, Used: u.Used, Reserved: u.Reserved, Free: u.Free,
		Crates: u.Crates, Damage: s.damage,
	}, nil
}

// Close waits for the calls under way and gives the memory up. Readers that are
// still open go on.
func (s *Store) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	s.busy.Wait()
	if was {
		return nil
	}
	s.book.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crates.Clear()
	return nil
}
