package host

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"

	"stasis/peer/guard"
	"stasis/peer/identity"
	"stasis/peer/wire"
	"stasis/store"
	"stasis/store/booking"
	"stasis/store/ledger"
)

// Options of a Host. Ledger and Store must be given; both are the caller's to close,
// after the host.
type Options struct {
	Ledger *ledger.DB
	// Store is where crates lie. From Open to Close nobody else may use it.
	Store store.Store
	// Leaf is the store's id, where that is known; zero: it is asked, and has to answer.
	Leaf store.NodeID
	// Spool is a directory for uploads that are not complete, best on the filesystem from
	// which the store adopts; it is made if it is not there, and the host's alone. Empty:
	// no upload can be resumed.
	Spool string
	// Identity is the peer's own.
	Identity identity.Identity
	// Log takes what an operator should know; nil discards it.
	Log logrus.FieldLogger
	// Clock is what leases are counted on, the same as the store's; nil: the system's.
	Clock booking.Clock
	// TakeOver is a person's decision that this host may use a store that another history
	// of the peer used last.
	TakeOver bool
}

// Host serves one store to many owners. It implements wire.Service.
type Host struct {
	o       Options
	log     logrus.FieldLogger
	db      *ledger.DB
	space   *ledger.Space
	store   store.Store
	adopter store.Adopter // nil unless it adopts from the spool
	// transit is the account of the spool; nil without a spool, and where the store adopts
	// whatever lies there, so that it is on the store's own account.
	transit     *booking.Transit
	leaf        store.NodeID
	incarnation string
	refusals    guard.Refusals
	trouble     trouble

	lanes lanes

	ctx    context.Context // ends when Close has waited long enough
	cancel context.CancelCauseFunc
	tended chan struct{}   // closed when the tending has ended
	relays sync.WaitGroup  // what passes on the store's events
	quit   context.Context // ends when it shall
	stop   context.CancelFunc

	resident struct {
		sync.Mutex
		bytes int64 // in the spool
	}

	recounting atomic.Bool

	admin sync.Mutex // held while owners or invites change

	mu     sync.RWMutex
	owners map[store.OwnerID]*owner
	known  map[[32]byte]*owner // by fingerprint
	closed bool
	busy   sync.WaitGroup // calls under way; Add with mu held and not closed
}

var (
	_ wire.Service = (*Host)(nil)
	_ wire.Session = (*Session)(nil)
)

const opOpen = "open the peer's store"

// Open takes the store for this host and puts in order what an unclean stop has left.
func Open(ctx context.Context, o Options) (*Host, error) {
	if o.Ledger == nil || o.Store == nil {
		return nil, &store.Error{Kind: store.Invalid, Op: opOpen, Detail: "it has no ledger or no store"}
	}
	if o.Clock == nil {
		o.Clock = booking.System
	}
	if o.Log == nil {
		l := logrus.New()
		l.SetOutput(io.Discard)
		o.Log = l
	}
	var incarnation [8]byte
	_, _ = rand.Read(incarnation[:]) // documented never to return an error
	h := &Host{
		o: o, log: o.Log, db: o.Ledger, space: o.Ledger.Space(ledger.Local), store: o.Store,
		incarnation: hex.EncodeToString(incarnation[:]), refusals: guard.Refusals{Log: o.Log},
		lanes:  newLanes(),
		owners: make(map[store.OwnerID]*owner), known: make(map[[32]byte]*owner),
		tended: make(chan struct{}),
	}
	h.ctx, h.cancel = context.WithCancelCause(context.Background())
	h.quit, h.stop = context.WithCancel(h.ctx)
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	if err := h.load(ctx); err != nil {
		h.cancel(err)
		h.closeBooks()
		return nil, err
	}
	if err := h.watch(ctx); err != nil {
		h.log.WithError(err).Debug("look where the store is") // the tending does it again
	}
	go h.tend()
	if t, ok := o.Store.(store.Teller); ok {
		h.relays.Go(func() { h.relay(t) })
	}
	return h, nil
}

// load does one thing after the other.
func (h *Host) load(ctx context.Context) error {
	st, err := h.store.Status(ctx)
	if h.leaf = h.o.Leaf; h.leaf.IsZero() {
		if err != nil {
			return err
		}
		h.leaf = st.Leaf
	}
	if err == nil {
		if err := h.judge(ctx, st.Position); err != nil {
			return err
		}
	}
	if err := h.fenceStore(ctx); err != nil {
		return err
	}
	if err := h.openSpool(); err != nil {
		return err
	}
	if err := h.loadOwners(ctx); err != nil {
		return err
	}
	if err := h.distrust(ctx); err != nil {
		return err
	}
	return h.sweepSpool()
}

// fenceStore shows the store that this is the host that used it last.
func (h *Host) fenceStore(ctx context.Context) error {
	f, ok := h.store.(store.Fencer)
	if !ok {
		return nil
	}
	return admit(ctx, h.db, f, h.o.Clock, h.o.TakeOver)
}

// change makes an update and waits until it survives a power cut.
func (h *Host) change(ctx context.Context, fn func(tx *ledger.Tx) error) error {
	p, err := h.space.Update(fn)
	if err == nil {
		err = h.db.Sync(ctx, p)
	}
	if ctx.Err() == nil && store.KindOf(err) == store.Unavailable {
		h.trouble.wrote(err) // what is no trouble any more, a put says
	}
	return err
}

// each gives the pairs whose keys begin with prefix, in order.
func (h *Host) each(prefix []byte, fn func(k, v []byte) error) error {
	return eachIn(h.space, prefix, fn)
}

func eachIn(space *ledger.Space, prefix []byte, fn func(k, v []byte) error) error {
	from, to := prefix, after(prefix)
	for {
		pairs, err := space.Scan(from, to, ledger.MaxScan)
		if err != nil {
			return err
		}
		for _, p := range pairs {
			if err := fn(p.Key, p.Value); err != nil {
				return err
			}
		}
		if len(pairs) < ledger.MaxScan {
			return nil
		}
		from = append(pairs[len(pairs)-1].Key, 0)
	}
}

// Close refuses what comes, waits for what is under way as long as ctx lives, then
// breaks it off. Interrupted uploads stay, to be resumed.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	was := h.closed
	h.closed = true
	h.mu.Unlock()
	if was {
		<-h.tended
		return nil
	}
	h.stop()
	<-h.tended
	h.relays.Wait()
	for _, o := range h.all() {
		o.events.end()
	}
	idle := make(chan struct{})
	go func() { h.busy.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-ctx.Done():
	}
	h.cancel(errClosed("serve"))
	<-idle
	h.closeBooks()
	limited, done := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	if err := h.watch(limited); err != nil {
		h.log.WithError(err).Debug("where the store is could not be noted; the next start looks into it")
	}
	done()
	// What was noted without waiting, such as uploads to be resumed.
	return h.db.Sync(context.WithoutCancel(ctx), h.db.Position())
}

func (h *Host) closeBooks() {
	for _, o := range h.all() {
		o.book.Close()
	}
	if h.transit != nil {
		h.transit.Close()
	}
}

func (h *Host) all() []*owner {
	h.mu.RLock()
	defer h.mu.RUnlock()
	all := make([]*owner, 0, len(h.owners))
	for _, o := range h.owners {
		all = append(all, o)
	}
	return all
}

func errClosed(op string) error {
	return &store.Error{Kind: store.Unavailable, Op: op, Detail: "the peer is going down"}
}

func denied(op string) error {
	return &store.Error{Kind: store.Denied, Op: op, Detail: "this peer does not know you",
		Hint: "ask its person for an invite"}
}

// Session is wire.Service's.
func (h *Host) Session(fingerprint string, mount store.Token) (wire.Session, error) {
	return h.session(fingerprint, mount)
}

func (h *Host) session(fingerprint string, mount store.Token) (*Session, error) {
	sum, err := identity.ParseFingerprint(fingerprint)
	if err != nil {
		return nil, denied("open a session")
	}
	h.mu.RLock()
	o, closed := h.known[sum], h.closed
	h.mu.RUnlock()
	if closed {
		return nil, errClosed("open a session")
	}
	if o == nil || o.revoked() {
		h.refusals.Warn("a stranger was refused", logrus.Fields{"fingerprint": fingerprint, "revoked": o != nil})
		return nil, denied("open a session")
	}
	return &Session{o: o, mount: mount}, nil
}

// diskError gives an error of the spool a kind.
func diskError(op string, err error) error {
	if err == nil || errors.As(err, new(*store.Error)) {
		return err
	}
	k := store.Unavailable
	if isFull(err) {
		k = store.NoSpace
	}
	return &store.Error{Kind: k, Op: op, Detail: "in the spool", Err: err}
}
