package container

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/store"
	"stasis/store/booking"
	"stasis/store/keyed"
)

// Options may be left zero.
type Options struct {
	// Clock is what leases are counted on; nil: the system's.
	Clock booking.Clock
	// Log takes what an operator should know, damage above all; nil discards it.
	Log logrus.FieldLogger
}

// filled gives the options with what was left zero.
func (o Options) filled() Options {
	if o.Clock == nil {
		o.Clock = booking.System
	}
	if o.Log == nil {
		l := logrus.New()
		l.SetOutput(io.Discard)
		o.Log = l
	}
	return o
}

// Store is an open container. All methods may be called concurrently.
type Store struct {
	path  string
	leaf  store.NodeID
	f     file
	v     *volume
	check func() error // that the path still leads to the file
	clock booking.Clock
	log   logrus.FieldLogger
	book  *booking.Book
	room  *room
	ids   keyed.Locks[store.CrateID] // one change of a crate at a time
	// writes has a place for each block or header that is being written.
	writes chan struct{}
	queue  *queue
	run    chan struct{} // closed when the committer has ended

	limitOfReservations int
	nextSeq             atomic.Uint64
	epoch               atomic.Uint64 // grows with each sync that failed
	fenced              atomic.Bool
	replaced            atomic.Bool // somebody else has written to the file
	standing            standing
	damage              damages

	mu sync.RWMutex
	st *state // changed by the committer alone, with mu held

	gate   sync.Mutex
	closed bool
	busy   sync.WaitGroup
}

var (
	_ store.Store      = (*Store)(nil)
	_ store.Batcher    = (*Store)(nil)
	_ store.Fencer     = (*Store)(nil)
	_ store.Unverified = (*Store)(nil)
)

// enter counts a call in, so that Close waits for it.
func (s *Store) enter(ctx context.Context, op string) error {
	if err := context.Cause(ctx); err != nil {
		return s.fail(store.Unavailable, op, "", err)
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.closed {
		return s.fail(store.Unavailable, op, "it is closed", nil)
	}
	if s.replaced.Load() {
		return s.otherContent(op)
	}
	s.busy.Add(1)
	return nil
}

// access says what a call needs of the container beyond being open.
type access int

const (
	toRead   access = iota // the index or the data
	toLook                 // the file where it should be
	toChange               // that, and a mount that may change it
)

// call runs body and gives what it gives. A disk may hang for ever; who cancels
// its context gets an answer all the same, and body then ends by itself: orphan is
// told what it has done, for it to be taken back.
func call[T any](ctx context.Context, s *Store, op string, a access, body func() (T, error), orphan func(T)) (T, error) {
	var none T
	if err := s.enter(ctx, op); err != nil {
		return none, err
	}
	if a == toChange && !s.fenced.Load() {
		s.busy.Done()
		return none, &store.Error{
			Kind: store.Denied, Op: op, Subject: s.subject(),
			Detail: "no mount has shown that it may change this container",
		}
	}
	type outcome struct {
		v   T
		err error
	}
	done, gone := make(chan outcome), make(chan struct{})
	go func() {
		defer s.busy.Done()
		var o outcome
		if a != toRead {
			if err := s.check(); err != nil {
				o.err = s.fail(store.Unavailable, op, "", err)
			}
		}
		if o.err == nil && a == toChange {
			_, o.err = s.same(op)
		}
		if o.err == nil {
			o.v, o.err = body()
		}
		select {
		case done <- o:
		case <-gone:
			if o.err == nil && orphan != nil {
				orphan(o.v)
			}
		}
	}()
	select {
	case o := <-done:
		return o.v, o.err
	case <-ctx.Done():
	}
	// Cancelled. Whatever waits for something else than the disk ends at once.
	grace := time.NewTimer(hangGrace)
	defer grace.Stop()
	select {
	case o := <-done:
		return o.v, o.err
	case <-grace.C:
		close(gone)
		return none, s.fail(store.Unavailable, op, "the disk did not answer in time", context.Cause(ctx))
	}
}

// Status is store.Store's. Its Capacity is what crates may take; the rest of the
// file is for the log.
func (s *Store) Status(ctx context.Context) (store.Status, error) {
	const op = "tell the status"
	return call(ctx, s, op, toLook, func() (store.Status, error) {
		position, err := s.same(op)
		if err != nil {
			return store.Status{}, err
		}
		u, err := s.book.Usage(ctx)
		if err != nil {
			return store.Status{}, s.ioError(op, err)
		}
		return store.Status{
			Leaf: s.leaf, Durable: true, Capacity: usable(s.v.limit * PageSize),
			Used: u.Used, Reserved: u.Reserved, Free: u.Free, Crates: u.Crates,
			Device: s.room.device, Damage: s.damage.count(), Position: position,
		}, nil
	}, nil)
}

// Close is store.Store's.
func (s *Store) Close() error {
	s.gate.Lock()
	was := s.closed
	s.closed = true
	s.gate.Unlock()
	s.busy.Wait()
	if was {
		<-s.run
		return nil
	}
	s.queue.close()
	<-s.run
	s.book.Close()
	if err := s.f.Close(); err != nil {
		return s.fail(store.Unavailable, "close", "", err)
	}
	return nil
}
