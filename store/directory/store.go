package directory

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/blocks"
	"stasis/store/booking"
	"stasis/store/keyed"
)

// Options may be left zero.
type Options struct {
	// Capacity is the most that crates and reservations may add up to, in bytes of
	// store.Charge. 0: what the store was made with; negative: the device alone bounds it.
	Capacity int64
	// Clock is what leases are counted on; nil: the system's.
	Clock booking.Clock
	// Log takes what an operator should know; nil discards it.
	Log logrus.FieldLogger
}

// Store keeps crates in a directory. Open makes it.
type Store struct {
	path                 string
	leaf                 store.NodeID
	capacity             int64
	clock                booking.Clock
	log                  logrus.FieldLogger
	device               uint64
	marker               *os.File // open and locked as long as the store is
	markerDev, markerIno uint64
	tree                 *tree
	index                *index
	sign                 *sign
	book                 *booking.Book
	crates               keyed.Locks[store.CrateID] // one change of a crate at a time

	mu       sync.Mutex
	closed   bool
	fenced   bool // Fence has succeeded: changes are allowed
	replaced bool // something else than this store has changed what lies in the root
	damage   int64
	marks    map[store.CrateID]mark // files unlinked, their directories not yet synced
	busy     sync.WaitGroup         // calls under way; Add with mu held and not closed

	fencing  sync.Mutex // held by Fence
	marking  sync.Mutex // held by who retires marks
	closing  sync.Once
	closeErr error
}

var (
	_ store.Store      = (*Store)(nil)
	_ store.Adopter    = (*Store)(nil)
	_ store.Filer      = (*Store)(nil)
	_ store.Batcher    = (*Store)(nil)
	_ store.Fencer     = (*Store)(nil)
	_ store.Unverified = (*Store)(nil)
)

// need is what a call wants of the store.
type need int

const (
	toRead need = iota
	toChange
)

// do runs one operation: in a goroutine of its own, counted, and only if the
// marker is in its place.
func do[T any](ctx context.Context, s *Store, op string, n need, late func(T), call func() (T, error)) (T, error) {
	var none T
	if err := context.Cause(ctx); err != nil {
		return none, s.ended(op, err)
	}
	if err := s.enter(op, n); err != nil {
		return none, err
	}
	grace := abandonAfter
	if n == toRead {
		grace = 0 // there is nothing to undo
	}
	v, err := bounded(ctx, grace, func() (T, error) {
		defer s.busy.Done()
		if err := s.present(op); err != nil {
			return none, err
		}
		if n == toChange {
			if err := s.rooted(); err != nil {
				return none, err
			}
		}
		return call()
	}, late)
	if err != nil && !errors.As(err, new(*store.Error)) {
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, cause) {
			return none, s.ended(op, err)
		}
		err = diskError(op, s.path, err)
	}
	return v, err
}

// done is do for what gives nothing but an error.
func (s *Store) done(ctx context.Context, op string, n need, call func() error) error {
	_, err := do(ctx, s, op, n, nil, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

func (s *Store) ended(op string, cause error) error {
	return &store.Error{Kind: store.Unavailable, Op: op, Subject: "in " + s.path, Err: cause}
}

func (s *Store) enter(op string, n need) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return &store.Error{Kind: store.Unavailable, Op: op, Subject: "in " + s.path, Detail: "the store is closed"}
	}
	if s.replaced {
		return s.otherContent(op)
	}
	if n == toChange && !s.fenced {
		return &store.Error{
			Kind: store.Denied, Op: op, Subject: "in " + s.path,
			Detail: "this mount has not been admitted to the store",
			Hint:   "another mount of the vault may use it; --take-over decides for this one",
		}
	}
	s.busy.Add(1)
	return nil
}

// present looks whether the marker is still where it was: one stat.
func (s *Store) present(op string) error {
	var here unix.Stat_t
	name := s.path + "/" + MarkerName
	if err := retry(func() error { return unix.Stat(name, &here) }); err != nil {
		if err == unix.ENOENT || err == unix.ENOTDIR {
			return missing(op, s.path)
		}
		return diskError(op, s.path, &os.PathError{Op: "stat", Path: name, Err: err})
	}
	if here.Dev == s.markerDev && here.Ino == s.markerIno {
		return nil
	}
	// Some shares make inode numbers up as they go: what counts is what it says.
	if m, err := Inspect(s.path); err == nil && m.ID == s.leaf && here.Dev == s.markerDev {
		return nil
	}
	return &store.Error{
		Kind: store.Unavailable, Op: op, Subject: s.path, Detail: "missing: something else is mounted there",
		Hint: "mount its disk there again",
	}
}

// Reserve is store.Store's; see booking.Book.
func (s *Store) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	return do(ctx, s, "reserve space", toChange, nil, func() ([]store.Share, error) {
		share, err := s.book.Reserve(ctx, r)
		if err != nil {
			return nil, err
		}
		return []store.Share{share}, nil
	})
}

// Renew is store.Store's.
func (s *Store) Renew(ctx context.Context, id store.ReservationID) (time.Time, error) {
	return do(ctx, s, "renew reservation", toChange, nil, func() (time.Time, error) { return s.book.Renew(ctx, id) })
}

// Release is store.Store's.
func (s *Store) Release(ctx context.Context, id store.ReservationID) error {
	return s.done(ctx, "release reservation", toChange, func() error { return s.book.Release(ctx, id) })
}

// Resident is store.Adopter's.
func (s *Store) Resident(bytes int64) { s.book.Resident(bytes) }

// Status is store.Store's.
func (s *Store) Status(ctx context.Context) (store.Status, error) {
	return do(ctx, s, "tell the status", toRead, nil, func() (store.Status, error) {
		position, err := s.same()
		if err != nil {
			return store.Status{}, err
		}
		u, err := s.book.Usage(ctx)
		if err != nil {
			return store.Status{}, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return store.Status{
			Leaf: s.leaf, Durable: true, Capacity: s.capacity, Used: u.Used, Reserved: u.Reserved,
			Free: u.Free, Crates: u.Crates, Device: s.device, Damage: s.damage, Position: position,
		}, nil
	})
}

// gone reports whether something else lies in the root.
func (s *Store) gone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replaced
}

// damaged counts a place found corrupt.
func (s *Store) damaged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damage++
}

// lock takes a crate's lock; unlock must be called.
func (s *Store) lock(ctx context.Context, op string, id store.CrateID) (unlock func(), err error) {
	unlock, err = s.crates.Lock(ctx, id)
	if err != nil {
		return nil, blocks.Ended(op, id, err)
	}
	return unlock, nil
}

// Close is store.Store's. Readers that are open go on until they need the index.
// Where the filesystem hangs, so that calls under way do not end, Close gives up after
// a while and leaves its files to the end of the process.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Store) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	_, err := bounded(ctx, 0, func() (struct{}, error) {
		s.busy.Wait()
		s.book.Close()
		if s.gone() {
			// Nothing may be written by name any more: the names are another state's.
			err := s.index.db.Abandon()
			s.sign.close()
			s.tree.close()
			return struct{}{}, errors.Join(err, s.marker.Close())
		}
		// The marks are only there to be gone through at the next open.
		if err := s.retireMarks(); err != nil {
			s.log.WithError(err).Warn("the last discards could not be put away; the next open does it")
		}
		err := s.index.db.Close()
		s.sign.close()
		s.tree.close()
		return struct{}{}, errors.Join(err, s.marker.Close())
	}, nil)
	return diskError("close directory node", s.path, err)
}
