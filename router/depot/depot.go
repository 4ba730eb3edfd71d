package depot

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/sirupsen/logrus"

	"stasis/router"
	"stasis/store"
	"stasis/store/blocks"
	"stasis/store/booking"
	"stasis/store/keyed"
	"stasis/store/ledger"
)

// Options of a Store. Ledger, Owner, ID and Dir must be given.
type Options struct {
	// Ledger is the caller's to close, after the store. Keys that begin with 'Z' in its local
	// space are the store's own, beside the router's.
	Ledger *ledger.DB
	// Owner is in whose name the nodes are used.
	Owner store.OwnerID
	// ID is the store's own, under which it is known as a node.
	ID store.NodeID
	// Dir is where bodies lie, best on the filesystem of a directory node, which can adopt
	// them. It is made if it is not there. Files in it that are named as crates are go.
	Dir string
	// Policy says how many copies each crate has on the nodes.
	Policy router.Policy
	Nodes  []router.NodeSpec
	// Log takes what an operator should know; nil discards it.
	Log logrus.FieldLogger
	// Clock is what leases are counted on; nil: the system's.
	Clock booking.Clock
	// Former, unless nil, is the leaf of one of the nodes, open and admitted, which was served
	// alone until now, under the same ID: a depot that is new takes over what it has. It
	// is closed by Open.
	Former store.Store
	// Tokens are those by which the nodes may know this history beside the router's own.
	Tokens []store.Token
	// TakeOver is a person's decision that this store may use nodes that another history of it
	// used last.
	TakeOver bool
}

// Store is a store.Store over a router.
type Store struct {
	o       Options
	log     logrus.FieldLogger
	router  *router.Router
	shared  *ledger.Space
	local   *ledger.Space
	book    *booking.Book
	transit *booking.Transit // the bodies, on their disk
	crates  keyed.Locks[store.CrateID]
	asking  keyed.Locks[store.ReservationID]

	mu     sync.Mutex
	policy router.Policy
	holds  map[store.ReservationID]*hold
	asked  map[store.ReservationID]terms // what requests under way ask for
	given  map[store.ReservationID]terms // what the reservations there are asked for
	puts   map[store.CrateID]*arrival    // under way
	closed bool
	busy   sync.WaitGroup // calls under way; Add with mu held and not closed

	news    news
	changed chan struct{} // holds one value when the crates are to be looked through
	cancel  context.CancelFunc
	mending sync.WaitGroup
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Batcher = (*Store)(nil)
	_ store.Adopter = (*Store)(nil)
)

const opOpen = "open the depot"

// Open brings in order what an unclean stop has left, and opens the nodes. That some of
// them, or all, are away is no error.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Ledger == nil || o.ID.IsZero() || o.Dir == "" {
		return nil, errors.Join(&store.Error{Kind: store.Invalid, Op: opOpen, Detail: "it has no ledger, id or directory"}, closeFormer(o.Former))
	}
	if o.Clock == nil {
		o.Clock = booking.System
	}
	if o.Log == nil {
		l := logrus.New()
		l.SetOutput(io.Discard)
		o.Log = l
	}
	s := &Store{o: o, log: o.Log, policy: o.Policy, shared: o.Ledger.Space(ledger.Shared), local: o.Ledger.Space(ledger.Local),
		holds: make(map[store.ReservationID]*hold), asked: make(map[store.ReservationID]terms), given: make(map[store.ReservationID]terms), puts: make(map[store.CrateID]*arrival), changed: make(chan struct{}, 1)}
	s.news.init()
	err := s.emptyDir()
	if err == nil {
		s.transit, err = booking.OpenTransit(o.Dir, 0, o.Clock)
	}
	if err == nil {
		s.router, err = router.New(router.Options{Ledger: o.Ledger, Owner: o.Owner, Bodies: s, BodyDir: o.Dir, Observer: s, Log: o.Log,
			Tokens: o.Tokens, TakeOver: o.TakeOver})
	}
	if err != nil {
		s.closeBooks()
		return nil, errors.Join(err, closeFormer(o.Former))
	}
	err = errors.Join(s.make(ctx), closeFormer(o.Former))
	if err == nil {
		err = s.load(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	ctx, s.cancel = context.WithCancel(context.Background())
	s.mending.Go(func() { s.mend(ctx) })
	return s, nil
}

func closeFormer(f store.Store) error {
	if f == nil {
		return nil
	}
	return f.Close()
}

// load does one thing after the other.
func (s *Store) load(ctx context.Context) error {
	s.router.Via(s.o.ID)
	if err := s.router.SetNodes(s.onwards(s.o.Nodes)); err != nil {
		return err
	}
	totals, err := s.loadCrates()
	if err != nil {
		return err
	}
	records, err := s.loadHolds()
	if err != nil {
		return err
	}
	s.book = booking.New(booking.Options{Leaf: s.o.ID, Journal: (*journal)(s), Clock: s.o.Clock}, totals, records)
	if err := s.router.Start(ctx); err != nil {
		return err
	}
	if err := s.book.Bury(ctx); err != nil {
		return err
	}
	return nil
}

// emptyDir makes the directory, with nothing in it: the senders of what lay there have got
// no receipt, or their crates have copies.
func (s *Store) emptyDir() error {
	if err := os.MkdirAll(s.o.Dir, 0o700); err != nil {
		return &store.Error{Kind: store.Unavailable, Op: opOpen, Err: err}
	}
	all, err := os.ReadDir(s.o.Dir)
	for _, e := range all {
		if _, other := store.ParseCrateID(e.Name()); other == nil { // what else lies there is not ours
			err = errors.Join(err, os.Remove(filepath.Join(s.o.Dir, e.Name())))
		}
	}
	if err != nil {
		return &store.Error{Kind: store.Unavailable, Op: opOpen, Detail: "its bodies can't be cleared away", Err: err}
	}
	return nil
}

// loadCrates adds up what the store has, and drops what never got a receipt.
func (s *Store) loadCrates() (booking.Totals, error) {
	var t booking.Totals
	var last store.CrateID
	for {
		ms, err := s.router.Manifests(last, pageCrates)
		if err != nil {
			return t, err
		}
		for i := range ms {
			m := &ms[i]
			if visible(m) {
				t.Used += store.Charge(m.Size)
				t.Crates++
				continue
			}
			_, err := s.shared.Update(func(tx *ledger.Tx) error {
				_, err := s.router.DeadTx(tx, m.Crate, router.DeadKeys)
				return err
			})
			if err != nil {
				return t, err
			}
		}
		if len(ms) < pageCrates {
			return t, nil
		}
		last = ms[len(ms)-1].Crate
	}
}

// visible reports whether a crate is one that the store has: a receipt has come in. One whose
// bytes came out differently on another node stays readable as it was recorded first.
func visible(m *router.Manifest) bool { return m.Placed() }

// Router gives the router that the store lies over, for what a person asks of its nodes.
func (s *Store) Router() *router.Router { return s.router }

// SetNodes replaces the nodes and the policy for what comes.
func (s *Store) SetNodes(nodes []router.NodeSpec, policy router.Policy) error {
	if err := s.router.SetNodes(s.onwards(nodes)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy = policy
	s.stir()
	return nil
}

func (s *Store) enter(ctx context.Context, op string) (leave func(), err error) {
	if err := context.Cause(ctx); err != nil {
		return nil, blocks.Ended(op, store.CrateID{}, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, &store.Error{Kind: store.Unavailable, Op: op, Subject: "in the depot", Detail: "it is closed"}
	}
	s.busy.Add(1)
	return s.busy.Done, nil
}

// Close is store.Store's. Copies that are still to be made are made after the next Open.
func (s *Store) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	s.busy.Wait()
	if was {
		return nil
	}
	if s.cancel != nil {
		s.cancel()
		s.mending.Wait()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	err := s.router.Close(ctx)
	s.closeBooks()
	return errors.Join(err, s.o.Ledger.Sync(ctx, s.o.Ledger.Position()))
}

func (s *Store) closeBooks() {
	if s.book != nil {
		s.book.Close()
	}
	if s.transit != nil {
		s.transit.Close()
	}
}
