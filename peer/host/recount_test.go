package host

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"stasis/peer/wire"
	"stasis/store"
	"stasis/store/directory"
	"stasis/store/ledger"
	"stasis/store/storetest"
)

// The tests of recounts put the store below a host, or its ledger, back into an earlier state.

// turned is a peer of which an earlier copy is at hand.
type turned struct {
	*peer
	c           *client
	early, late storetest.Crate // put before and after the copy
	gone        storetest.Crate // put before, discarded after it
	then, now   store.Status
}

func newTurned(t *testing.T) *turned {
	t.Helper()
	p := newPeer(t, 64<<20, nil)
	x := &turned{peer: p}
	id, c := p.owner(0)
	g := storetest.NewGen(7)
	x.early, x.late, x.gone = g.Crate(5000), g.Crate(6000), g.Crate(7000)
	x.put(t, c, x.early)
	x.put(t, c, x.gone)
	x.then = x.status(t, c)
	p.stop()
	run(t, "cp", "-a", p.dir, p.dir+".copy")
	t.Cleanup(func() { _ = os.RemoveAll(p.dir + ".copy") })
	p.start()
	x.c = p.client(id)
	x.put(t, x.c, x.late)
	if err := x.c.Discard(context.Background(), store.DiscardRequest{Crate: x.gone.ID}); err != nil {
		t.Fatal(err)
	}
	x.now = x.status(t, x.c)
	if x.now.Position.Count <= x.then.Position.Count {
		t.Fatalf("the owner's position goes from %v to %v", x.then.Position, x.now.Position)
	}
	p.stop()
	return x
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

func (x *turned) put(t *testing.T, c *client, k storetest.Crate) store.Position {
	t.Helper()
	ctx := context.Background()
	r := store.NewReservationID()
	if _, err := c.Reserve(ctx, store.ReserveRequest{ID: r, Bytes: k.Charge()}); err != nil {
		t.Fatal(err)
	}
	got, err := c.Put(ctx, k.Put(r))
	if err != nil {
		t.Fatal(err)
	}
	if at := x.status(t, c).Position; got[0].Position != at {
		t.Errorf("the receipt says %v, the status %v", got[0].Position, at)
	}
	if err := c.Release(ctx, r); err != nil {
		t.Fatal(err)
	}
	return got[0].Position
}

func (x *turned) status(t *testing.T, c *client) store.Status {
	t.Helper()
	st, err := c.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// back puts a part of the copy back.
func (x *turned) back(t *testing.T, name string) {
	t.Helper()
	at := filepath.Join(x.dir, name)
	if err := os.RemoveAll(at); err != nil {
		t.Fatal(err)
	}
	run(t, "cp", "-a", filepath.Join(x.dir+".copy", name), at)
}

// counted waits until the host has a base again.
func (x *turned) counted(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		base, err := positionAt(x.space.Get, key(tableBase))
		if err != nil {
			t.Fatal(err)
		}
		if base.Count != owed && base.Count > 0 && !x.recounting.Load() {
			return
		}
	}
	t.Fatal("the recount does not end")
}

// TestStoreBelowPutBack: an owner's position is another one before it can ask, and what the
// store has lost is listed, counted and stated no more; its owner is told.
func TestStoreBelowPutBack(t *testing.T) {
	for _, broken := range []bool{false, true} {
		x := newTurned(t)
		x.back(t, "node")
		if broken { // off in the middle, at first
			var stuck atomic.Bool
			x.wrap = func(s store.Store) store.Store { return statFails{s, &stuck} }
			stuck.Store(true)
			x.start()
			if at := x.status(t, x.dial(x.c.id)).Position; at.Count <= x.now.Position.Count {
				t.Errorf("while its crates are counted the owner is at %v, and was at %v", at, x.now.Position)
			}
			x.stop()
			x.wrap = nil
		}
		x.start()
		c := x.client(x.c.id)
		x.counted(t)
		st := x.status(t, c)
		if st.Position.Count <= x.now.Position.Count || st.Position.Mark == x.now.Position.Mark {
			t.Errorf("the owner is at %v, and was at %v", st.Position, x.now.Position)
		}
		if x.stillThere(t, c); st.Crates != 1 || st.Used != x.early.Charge() {
			t.Errorf("the status is %+v", st)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		var told []store.CrateID
		enough := errors.New("enough")
		err := c.Events(ctx, wire.Cursor{Incarnation: x.incarnation}, func(e wire.Event) error {
			if e.Kind == wire.EventDamaged {
				told = append(told, *e.Crate)
				return enough
			}
			return nil
		})
		cancel()
		if len(told) != 1 || told[0] != x.late.ID {
			t.Errorf("told of %v, %v", told, err)
		}
		for _, lost := range []storetest.Crate{x.late, x.gone} {
			if _, err := c.Stat(context.Background(), lost.ID); !errors.Is(err, store.NotFound) {
				t.Errorf("what the store has lost, or had discarded: %v", err)
			}
		}
		if at := x.put(t, c, x.late); at.Count <= st.Position.Count {
			t.Errorf("put again it is at %v, after %v", at, st.Position)
		}
		at := x.status(t, c).Position
		x.stop()
		x.start()
		if again := x.status(t, x.dial(x.c.id)).Position; again != at {
			t.Errorf("a recount that was done is repeated: from %v to %v", at, again)
		}
		x.stop()
		x.Host = nil
	}
}

// TestStoreBelowPutBackInParts: what is put back was copied from a store in use, the files of its
// crates first and its index after them. What the index has and the files lack is lost.
func TestStoreBelowPutBackInParts(t *testing.T) {
	x := newTurned(t)
	late := filepath.Join(x.dir+".copy", "late")
	run(t, "cp", "-a", filepath.Join(x.dir, "node"), late)
	x.start()
	c := x.client(x.c.id)
	x.put(t, c, storetest.NewGen(8).Crate(100))
	x.now = x.status(t, c)
	x.stop()
	node := filepath.Join(x.dir+".copy", "node")
	for _, name := range []string{"index", "stasis.position"} {
		if err := os.RemoveAll(filepath.Join(node, name)); err != nil {
			t.Fatal(err)
		}
		run(t, "cp", "-a", filepath.Join(late, name), node)
	}
	x.back(t, "node")
	x.start()
	c = x.client(x.c.id)
	x.counted(t)
	x.stillThere(t, c)
	if st := x.status(t, c); st.Crates != 1 || st.Used != x.early.Charge() || st.Position.Count <= x.now.Position.Count {
		t.Errorf("the status is %+v", st)
	}
	x.put(t, c, x.late)
	if _, err := c.Stat(context.Background(), x.late.ID); err != nil {
		t.Errorf("put again: %v", err)
	}
}

// stillThere checks that the early crate, and no other, is listed.
func (x *turned) stillThere(t *testing.T, c *client) {
	t.Helper()
	page, err := c.List(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Crates) != 1 || page.Crates[0].ID != x.early.ID {
		t.Errorf("listed are %v", page.Crates)
	}
}

// statFails is a store that can't tell of single crates.
type statFails struct {
	store.Store
	stuck *atomic.Bool
}

func (s statFails) Stat(ctx context.Context, id store.CrateID) (store.CrateInfo, error) {
	if s.stuck.Load() {
		return store.CrateInfo{}, &store.Error{Kind: store.Unavailable, Op: "stat crate"}
	}
	return s.Store.Stat(ctx, id)
}

// TestLedgerPutBack: the peer's state is an older one, its store is not. The owner's position is
// the older one, and a crate that was discarded since is not taken for there.
func TestLedgerPutBack(t *testing.T) {
	x := newTurned(t)
	x.back(t, "ledger")
	x.takeOver = true
	x.start()
	if at := x.status(t, x.dial(x.c.id)).Position; at.Count < x.then.Position.Count || at == x.now.Position {
		t.Errorf("the owner is at %v, and was at %v then and at %v since", at, x.then.Position, x.now.Position)
	}
	x.counted(t)
	c := x.client(x.c.id)
	x.stillThere(t, c)
	if st := x.status(t, c); st.Crates != 1 || st.Used != x.early.Charge() || st.Position == x.now.Position {
		t.Errorf("the status is %+v", st)
	}
}

// TestBothPutBack: store and ledger together are what they were, and say so.
func TestBothPutBack(t *testing.T) {
	x := newTurned(t)
	x.back(t, "ledger")
	x.back(t, "node")
	x.start()
	if at := x.status(t, x.dial(x.c.id)).Position; at != x.then.Position {
		t.Errorf("the owner is at %v, and was at %v then", at, x.then.Position)
	}
	if x.recounting.Load() {
		t.Error("all is counted anew, though both are in step")
	}
}

// TestPositionOfOwners: one owner's crates don't move another's position.
func TestPositionOfOwners(t *testing.T) {
	p := newPeer(t, 64<<20, nil)
	x := &turned{peer: p}
	_, a := p.owner(0)
	_, b := p.owner(0)
	before := x.status(t, a).Position
	if before == (store.Position{}) {
		t.Error("an owner has no position")
	}
	x.put(t, b, storetest.NewGen(1).Crate(100))
	if after := x.status(t, a).Position; after != before {
		t.Errorf("another's put moves the position from %v to %v", before, after)
	}
}

// oneStat is a store that fails to tell of one crate.
type oneStat struct {
	store.Store
	id  store.CrateID
	err error
}

func (s oneStat) Stat(ctx context.Context, id store.CrateID) (store.CrateInfo, error) {
	if id == s.id {
		return store.CrateInfo{}, s.err
	}
	return s.Store.Stat(ctx, id)
}

// TestOneCrateHoldsUpNoRecount: a crate of which the store can't tell keeps a recount from no
// other. While it is not over for that reason, nobody is listed what the store has lost, and what
// can't be told is no shorter list; a crate whose record is damaged is damaged, and ends it.
func TestOneCrateHoldsUpNoRecount(t *testing.T) {
	for _, kind := range []store.Kind{store.Unavailable, store.Corrupt} {
		x := newTurned(t)
		x.back(t, "node")
		x.wrap = func(s store.Store) store.Store {
			return oneStat{s, innerCrate(x.c.id.Owner(), x.early.ID), &store.Error{Kind: kind, Op: "stat crate"}}
		}
		x.start()
		c := x.client(x.c.id)
		if page, err := c.List(context.Background(), nil); err == nil {
			for _, k := range page.Crates {
				if k.ID == x.late.ID {
					t.Errorf("%v: listed is what the store has lost", kind)
				}
			}
		} else if kind == store.Corrupt {
			t.Errorf("a damaged crate hides the others: %v", err)
		}
		for deadline := time.Now().Add(20 * time.Second); x.status(t, c).Crates != 1; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%v: what the store has lost is not found", kind)
			}
		}
		if kind == store.Corrupt {
			x.counted(t)
			x.stillThere(t, c)
			if st := x.status(t, c); st.Damage != 2 { // one lost, one damaged
				t.Errorf("the status is %+v", st)
			}
		} else if owes, err := x.owes(); err != nil || !owes {
			t.Errorf("a recount of which a crate is left open is over: %v", err)
		} else if _, err := c.List(context.Background(), nil); !errors.Is(err, store.Unavailable) {
			t.Errorf("a list that may lack a crate: %v", err)
		}
		x.stop()
		x.Host = nil
	}
}

// TestStoreBelowPutBackAmidRecount: a store that is put back before the recount owed for another
// reason is over moves the owners' positions as at any other time.
func TestStoreBelowPutBackAmidRecount(t *testing.T) {
	x := newTurned(t)
	var stuck atomic.Bool
	stuck.Store(true)
	x.wrap = func(s store.Store) store.Store { return statFails{s, &stuck} }
	// A recount is owed as the store has gone on.
	db, err := ledger.Open(filepath.Join(x.dir, "ledger"), ledger.Small())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Space(ledger.Local).Update(func(tx *ledger.Tx) error {
		tx.Put(key(tableBase), encodePosition(store.Position{Count: owed, Mark: storeAhead}))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	x.back(t, "node")
	x.start()
	if at := x.status(t, x.dial(x.c.id)).Position; at.Count <= x.now.Position.Count {
		t.Errorf("the owner is at %v, and was at %v", at, x.now.Position)
	}
}

// TestLostCopiesAreNotCharged: what was ordered in several copies, and is lost, costs nothing.
func TestLostCopiesAreNotCharged(t *testing.T) {
	p := newPeer(t, 128*mib, storetest.NewClock())
	p.stop()
	p.wrap = func(s store.Store) store.Store { return &ordered{Store: s.(*directory.Store)} }
	p.start()
	id, c := p.owner(16 * mib)
	r := store.NewReservationID()
	if _, err := c.Reserve(bg, store.ReserveRequest{ID: r, Bytes: 8 * mib, Copies: 2}); err != nil {
		t.Fatal(err)
	}
	k := storetest.NewGen(1).Crate(3 * mib)
	if _, err := c.Put(bg, k.Put(r)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Release(bg, r), p.store.Discard(bg, store.DiscardRequest{Crate: innerCrate(id.Owner(), k.ID), Holder: id.Owner()})); err != nil {
		t.Fatal(err)
	}
	if err := p.recount(bg); err != nil {
		t.Fatal(err)
	}
	if st, err := c.Status(bg); err != nil || st.Used != 0 || st.Crates != 0 {
		t.Errorf("with no crate: %+v, %v", st, err)
	}
	p.stop()
	p.start()
	if st, err := p.client(id).Status(bg); err != nil || st.Used != 0 {
		t.Errorf("after a restart: %+v, %v", st, err)
	}
}

// TestDamageIsToldOnce: reading a damaged crate again and again is no way to fill the log, or to
// drive other events out of those remembered.
func TestDamageIsToldOnce(t *testing.T) {
	p := newPeer(t, 64*mib, storetest.NewClock())
	id, c := p.owner(0)
	k := storetest.NewGen(1).Crate(5000)
	keep(t, c, k)
	p.flip(innerCrate(id.Owner(), k.ID), 100)
	for range 10 {
		_, err := read(c, k.ID)
		fails(t, "read", err, store.Corrupt)
	}
	events, _, _ := p.owners[id.Owner()].events.next(wire.Cursor{Incarnation: p.incarnation})
	if st, err := c.Status(bg); err != nil || st.Damage != 1 || len(events) != 1 {
		t.Errorf("%d events, %+v, %v", len(events), st, err)
	}
}
