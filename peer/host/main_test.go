package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/peer/identity"
	"stasis/peer/wire"
	"stasis/store"
	"stasis/store/booking"
	"stasis/store/directory"
	"stasis/store/ledger"
	"stasis/store/memory"
	"stasis/store/storetest"
)

// peer is a host with all it stands on.
type peer struct {
	t     testing.TB
	dir   string
	clock booking.Clock
	store store.Store // the inner one
	// wrap, unless nil, gives what the host uses in its place.
	wrap     func(store.Store) store.Store
	takeOver bool   // a person says that this ledger is the right one
	spool    string // unless empty, is the spool
	log      logrus.FieldLogger
	db       *ledger.DB
	*Host
}

// keeper owns the inner stores of tests.
var keeper = store.OwnerID{1, 2, 3}

// newPeer makes a peer over a directory store in a directory of its own, or over memory
// if capacity is negative.
func newPeer(t testing.TB, capacity int64, clock booking.Clock) *peer {
	t.Helper()
	p := &peer{t: t, dir: t.TempDir(), clock: clock}
	p.make(capacity)
	p.start()
	t.Cleanup(func() {
		if p.Host != nil {
			p.stop()
		}
	})
	return p
}

func (p *peer) make(capacity int64) {
	p.t.Helper()
	var err error
	if capacity < 0 {
		p.store, err = memory.New(-capacity, memory.Options{Clock: p.clock})
	} else {
		_, err = directory.Create(p.root(), keeper, capacity, directory.Options{})
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) root() string { return filepath.Join(p.dir, "node") }

func (p *peer) start() {
	p.t.Helper()
	if err := p.open(); err != nil {
		p.t.Fatal(err)
	}
}

// open opens all, from the bottom.
func (p *peer) open() (err error) {
	if p.db, err = ledger.Open(filepath.Join(p.dir, "ledger"), ledger.Small()); err != nil {
		return err
	}
	o := Options{Ledger: p.db, Clock: p.clock, TakeOver: p.takeOver, Log: p.log}
	if _, ok := p.store.(*memory.Store); !ok {
		o.Spool = filepath.Join(p.dir, "spool")
		if p.store, err = directory.Open(context.Background(), p.root(), store.NodeID{}, keeper, directory.Options{Clock: p.clock}); err != nil {
			return err
		}
	}
	if p.spool != "" {
		o.Spool = p.spool
	}
	o.Store = p.store
	if p.wrap != nil {
		o.Store = p.wrap(p.store)
	}
	p.Host, err = Open(context.Background(), o)
	return err
}

func (p *peer) stop() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := p.Close(ctx)
	p.Host = nil
	if _, ok := p.store.(*memory.Store); !ok {
		err = errors.Join(err, p.store.Close())
	}
	if err := errors.Join(err, p.db.Close()); err != nil {
		p.t.Fatal(err)
	}
}

// invite gives an owner its right, with a quota.
func (p *peer) invite(id identity.Identity, quota int64) {
	p.t.Helper()
	secret, _, err := p.Invite(context.Background(), quota, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.Redeem(context.Background(), redemption(id, secret[:]), id.Fingerprint()); err != nil {
		p.t.Fatal(err)
	}
}

func redemption(id identity.Identity, secret []byte) wire.Redeem {
	return wire.Redeem{Secret: secret, Owner: id.Owner(), Name: "test", Signature: id.SignRedeem(secret, id.Fingerprint())}
}

// owner gives a new owner with a quota, and its admitted session.
func (p *peer) owner(quota int64) (identity.Identity, *client) {
	p.t.Helper()
	id := identity.New()
	p.invite(id, quota)
	return id, p.client(id)
}

// client opens a session whose mount is admitted.
func (p *peer) client(id identity.Identity) *client {
	p.t.Helper()
	c := p.dial(id)
	if err := c.Fence(context.Background(), nil, store.NewToken(), true); err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p *peer) dial(id identity.Identity) *client {
	p.t.Helper()
	s, err := p.session(id.Fingerprint(), store.Token{})
	if err != nil {
		p.t.Fatal(err)
	}
	return &client{Session: s, id: id, leaf: p.leaf}
}

// client does what a vault's end of a connection does: it signs discards and changes
// nothing before it was admitted.
type client struct {
	*Session
	id   identity.Identity
	leaf store.NodeID

	mu     sync.Mutex
	fenced bool
}

func (c *client) refused() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fenced {
		return nil
	}
	return &store.Error{Kind: store.Denied, Op: "use the peer", Detail: "this mount was not admitted"}
}

func (c *client) Fence(ctx context.Context, known []store.Token, next store.Token, takeOver bool) error {
	err := c.Session.Fence(ctx, known, next, takeOver)
	if err == nil {
		c.mu.Lock()
		c.fenced = true
		c.mu.Unlock()
	}
	return err
}

func (c *client) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	if err := c.refused(); err != nil {
		return nil, err
	}
	return c.Session.Reserve(ctx, r)
}

func (c *client) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	if err := c.refused(); err != nil {
		return nil, err
	}
	return c.Session.Put(ctx, r)
}

func (c *client) PutBatch(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	if err := c.refused(); err != nil {
		out := make([]store.PutResult, len(rs))
		for i := range out {
			out[i].Err = err
		}
		return out
	}
	return c.Session.PutBatch(ctx, rs)
}

func (c *client) Discard(ctx context.Context, r store.DiscardRequest) error {
	if err := c.refused(); err != nil {
		return err
	}
	r.Signature = c.id.SignDiscard(r.Crate, c.leaf)
	return c.Session.Discard(ctx, r)
}

// The view of each owner is a store like any other.
func TestSessionOverDirectory(t *testing.T) {
	storetest.Run(t, storetest.Factory{New: func(t testing.TB, o storetest.Options) *storetest.Instance {
		p := newPeer(t, o.Capacity, o.Clock)
		id := identity.New()
		p.invite(id, 0)
		return &storetest.Instance{
			Store: p.dial(id),
			Reopen: func(testing.TB) store.Store {
				p.stop()
				p.start()
				return p.dial(id)
			},
			Damage: func(t testing.TB, crate store.CrateID, offset int64) { p.flip(innerCrate(id.Owner(), crate), offset) },
		}
	}})
}

func TestSessionOverMemory(t *testing.T) {
	storetest.Run(t, storetest.Factory{New: func(t testing.TB, o storetest.Options) *storetest.Instance {
		p := newPeer(t, -o.Capacity, o.Clock)
		id := identity.New()
		p.invite(id, 0)
		return &storetest.Instance{Store: p.dial(id)}
	}})
}

// flip damages a byte of a crate behind the store's back.
func (p *peer) flip(inner store.CrateID, offset int64) {
	p.t.Helper()
	found, err := filepath.Glob(filepath.Join(p.root(), "crates", "*", inner.String()))
	if err != nil || len(found) != 1 {
		p.t.Fatalf("the file of crate %s: %v, %v", inner, found, err)
	}
	f, err := os.OpenFile(found[0], os.O_RDWR, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		p.t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], offset); err != nil {
		p.t.Fatal(err)
	}
}
