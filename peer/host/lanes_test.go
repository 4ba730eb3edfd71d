package host

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stasis/peer/guard"
	"stasis/peer/identity"
	"stasis/peer/wire"
	"stasis/store"
	"stasis/store/blocks"
	"stasis/store/storetest"
)

// held is a store whose verifications and pages do not end before they may, and take turns.
type held struct {
	store.Store
	inside atomic.Int64
	goOn   chan struct{}
}

func (h *held) Verify(ctx context.Context, id store.CrateID, offset, length int64, nonce store.Digest) (store.Digest, error) {
	h.inside.Add(1)
	defer h.inside.Add(-1)
	select {
	case <-h.goOn:
		return h.Store.Verify(ctx, id, offset, length, nonce)
	case <-ctx.Done():
		return store.Digest{}, ctx.Err()
	}
}

func (h *held) Status(ctx context.Context) (store.Status, error) {
	if h.goOn != nil && h.inside.Load() > 0 {
		select {
		case <-h.goOn:
		case <-ctx.Done():
		}
	}
	return h.Store.Status(ctx)
}

// However much one owner has under way, there is a bound to what of it the store is asked, and
// another's call is asked at once.
func TestCallsHaveLanes(t *testing.T) {
	p := &peer{t: t, dir: t.TempDir(), clock: storetest.NewClock()}
	h := &held{goOn: make(chan struct{})}
	p.wrap = func(s store.Store) store.Store { h.Store = s; return h }
	p.make(-64 * mib)
	p.start()
	defer p.stop()
	_, ann := p.owner(0)
	_, bob := p.owner(0)
	g := storetest.NewGen(7)
	anns, bobs := g.Crate(3*mib), g.Crate(2*mib)
	keep(t, ann, anns)
	keep(t, bob, bobs)
	space := reserve(t, bob, 2*mib) // which asks the store how it stands
	ctx, cancel := context.WithCancel(bg)
	var all sync.WaitGroup
	for range 120 {
		all.Go(func() { _, _ = ann.Verify(ctx, anns.ID, 0, -1, store.Digest{1}) }) // cancelled at the end
		all.Go(func() { _, _ = ann.Status(ctx) })
	}
	await := func(n int64) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); h.inside.Load() < n; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d calls reached the store, want %d", h.inside.Load(), n)
			}
		}
	}
	await(ReadersAnOwner + ReadersPool)
	time.Sleep(20 * time.Millisecond)
	if n := h.inside.Load(); n > ReadersAnOwner+ReadersPool {
		t.Errorf("%d verifications of one owner reached the store", n)
	}
	small := g.Crate(1000)
	if _, err := bob.Put(bg, store.PutRequest{Reservation: space, Crate: small.ID, Size: 1000, Source: storetest.BytesSource(small.Data)}); err != nil {
		t.Error(err)
	}
	if _, err := bob.Stat(bg, bobs.ID); err != nil {
		t.Error(err)
	}
	proof := make(chan error, 1)
	go func() {
		_, err := bob.Verify(bg, bobs.ID, 0, -1, store.Digest{1})
		proof <- err
	}()
	await(ReadersAnOwner + ReadersPool + 1)
	cancel()
	all.Wait()
	close(h.goOn)
	if err := <-proof; err != nil {
		t.Error(err)
	}
	for _, l := range []*guard.Lanes{p.lanes.readers, p.lanes.brief, p.lanes.blocks, p.lanes.memory, p.lanes.light} {
		if _, all := l.Held(""); all != 0 {
			t.Errorf("%d are held for ever", all)
		}
	}
}

// What is long is done in units, between which others have their turns.
func TestBlocksTakeTurns(t *testing.T) {
	p := newPeer(t, 64*mib, storetest.NewClock())
	_, ann := p.owner(0)
	c := storetest.NewGen(8).Crate(5 * mib)
	keep(t, ann, c)
	turns := 0
	ctx := blocks.Paced(bg, func(context.Context) (func(), error) { turns++; return func() {}, nil })
	if _, err := p.store.Verify(ctx, innerCrate(ann.id.Owner(), c.ID), 0, -1, store.Digest{1}); err != nil || turns < 5 {
		t.Errorf("a verification of 5 blocks took %d turns, %v", turns, err)
	}
	stopped := errors.New("stopped")
	ctx = blocks.Paced(bg, func(context.Context) (func(), error) { return nil, stopped })
	if _, err := p.store.Verify(ctx, innerCrate(ann.id.Owner(), c.ID), 0, -1, store.Digest{1}); !errors.Is(err, store.Unavailable) {
		t.Errorf("without a turn: %v", err)
	}
	// All turns are another's.
	l := p.lanes.blocks
	if err := l.Acquire(bg, "bob", l.Most()); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(bg, 50*time.Millisecond)
	defer cancel()
	if _, err := ann.Verify(short, c.ID, 0, -1, store.Digest{1}); err == nil {
		t.Error("a block was read out of turn")
	}
	rc, err := ann.Open(short, c.ID, 0, -1)
	if err == nil {
		_, err = rc.Read(make([]byte, 1))
		rc.Close()
	}
	if err == nil {
		t.Error("a block was read out of turn")
	}
	l.Release("bob", l.Most())
	if got, err := read(ann, c.ID); err != nil || len(got) != 5*mib {
		t.Error(len(got), err)
	}
}

// There are no more owners than shares; who is revoked makes room.
func TestOwnersAreNoMoreThanShares(t *testing.T) {
	p := newPeer(t, -64*mib, storetest.NewClock())
	first := identity.New()
	p.invite(first, 0)
	for range guard.Owners - 1 {
		p.invite(identity.New(), 0)
	}
	redeem := func(id identity.Identity) error {
		secret, _, err := p.Invite(bg, 0, 0)
		if err == nil {
			_, err = p.Redeem(bg, redemption(id, secret[:]), id.Fingerprint())
		}
		return err
	}
	late := identity.New()
	fails(t, "one more", redeem(late), store.Quota)
	if err := redeem(first); err != nil {
		t.Errorf("one who is there: %v", err)
	}
	if err := p.Revoke(bg, first.Owner()); err != nil {
		t.Fatal(err)
	}
	if err := redeem(late); err != nil {
		t.Errorf("after one was revoked: %v", err)
	}
	fails(t, "the revoked one", redeem(first), store.Quota)
}

// What a call leaves behind that was let in before its owner was revoked goes too.
func TestRevokedOwnersLeaveNothing(t *testing.T) {
	p := newPeer(t, 64*mib, storetest.NewClock())
	id, ann := p.owner(0)
	o := ann.o
	r := reserve(t, ann, 8*mib)
	src, stalled := storetest.StallingSource(storetest.NewGen(9).Bytes(6*mib), 4*mib)
	put := make(chan error, 1)
	go func() {
		_, err := ann.Put(bg, store.PutRequest{Reservation: r, Crate: store.NewCrateID(), Size: 6 * mib, Source: src, Expect: &store.Digest{1}})
		put <- err
	}()
	<-stalled
	if err := p.Revoke(bg, id.Owner()); err != nil {
		t.Fatal(err)
	}
	if err := <-put; err == nil {
		t.Error("an upload went on")
	}
	if _, err := o.reserve(bg, store.ReserveRequest{ID: store.NewReservationID(), Bytes: mib}); err != nil {
		t.Fatal(err)
	}
	o.events.add(wire.Event{Kind: wire.EventSpace})
	o.tend()
	st, err := p.store.Status(bg)
	if err != nil || st.Reserved != 0 || len(o.leases) != 0 || len(o.partials) != 0 || len(o.events.events) != 0 {
		t.Errorf("left: %+v, %v, %d reservations, %d uploads, %d events", st, err, len(o.leases), len(o.partials), len(o.events.events))
	}
	p.resident.Lock()
	defer p.resident.Unlock()
	if p.resident.bytes != 0 {
		t.Errorf("%d bytes in the spool", p.resident.bytes)
	}
}
