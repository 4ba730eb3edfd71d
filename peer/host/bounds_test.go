package host

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"stasis/store"
	"stasis/store/directory"
	"stasis/store/storetest"
	"stasis/store/storetest/fault"
)

// What one owner leaves behind with calls that fail has a bound, and looking after it has one too.

// recorded counts the intents that the ledger has of an owner.
func (o *owner) recorded(t *testing.T) (n int) {
	t.Helper()
	if err := o.h.each(o.key(tableIntent), func(_, _ []byte) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// minuteGoesBy makes the outcomes of puts old enough to be settled.
func (o *owner) minuteGoesBy() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, u := range o.unsettled {
		u.since = u.since.Add(-2 * settleAfter)
		o.unsettled[id] = u
	}
}

// Whoever goes while an intent is being synced leaves none: the store was not told of the crate.
func TestGoneAmidIntents(t *testing.T) {
	p := newPeer(t, 100*mib, storetest.NewClock())
	id, c := p.owner(4 * mib)
	o := p.owners[id.Owner()]
	r := reserve(t, c, 2*mib)
	var items []*item
	for range 2*itemsAnUpdate + 1 {
		it := &item{r: store.PutRequest{Reservation: r, Crate: store.NewCrateID(), Size: 1, Source: memorySource{1}}}
		if it.claim, it.err = o.take(r, it.r.Crate, 1); it.err != nil {
			t.Fatal(it.err)
		}
		items = append(items, it)
	}
	// Of one, an earlier put has ended so that nobody knows whether the store has it.
	open := items[0].r.Crate
	o.mu.Lock()
	o.unsettled[open] = outcome{since: time.Now()}
	o.mu.Unlock()
	ctx, cancel := context.WithCancel(bg)
	cancel()
	o.deliver(ctx, items, nil, func(context.Context, []*item) { t.Error("the store is told of them") })
	for _, it := range items {
		fails(t, "a put whose caller has gone", it.err, store.Unavailable)
	}
	if n := o.recorded(t); n != 1 {
		t.Errorf("%d intents are left, want that of the open one", n)
	}
	if _, is := o.unclear(open); !is || o.arriving != 0 {
		t.Errorf("the open one is open: %v; %d are counted as under way", is, o.arriving)
	}
	o.minuteGoesBy()
	o.tend()
	if n := o.recorded(t); n != 0 {
		t.Errorf("%d intents are left a minute later", n)
	}
}

// While the store takes nothing, and answers nothing, the puts of one owner of which the outcome is
// not known have a bound, in memory and in the ledger; a round of the tending ends with the first
// that it can't settle and warns once; and when the store is there again, all is as it was.
func TestOpenOutcomesAreBounded(t *testing.T) {
	p := newPeer(t, 64*mib, storetest.NewClock())
	p.stop()
	var f *fault.Full
	p.wrap = func(s store.Store) store.Store { f, _ = fault.WrapFull(s); return f }
	log, lines := test.NewNullLogger()
	p.log = log
	p.start()
	id, c := p.owner(0)
	o := p.owners[id.Owner()]
	o.tending.Store(true) // by this test alone
	r := reserve(t, c, 48*mib)
	down := &store.Error{Kind: store.Unavailable, Op: "reach the disk"}
	f.Fail(fault.Put, 0, down)
	f.Fail(fault.Stat, 0, down)
	batch := func() (refused int) {
		rs := make([]store.PutRequest, partCrates)
		for i := range rs {
			rs[i] = store.PutRequest{Reservation: r, Crate: store.NewCrateID(), Size: 1, Source: memorySource{byte(i)}}
		}
		for _, res := range c.PutBatch(bg, rs) {
			if res.Err != nil {
				fails(t, "a put", res.Err, store.Unavailable)
				refused++
			}
		}
		return refused
	}
	for range IntentsAnOwner/partCrates + 2 {
		if n := batch(); n != partCrates {
			t.Fatalf("%d of %d are refused", n, partCrates)
		}
	}
	o.mu.Lock()
	open := len(o.unsettled)
	o.mu.Unlock()
	if n := o.recorded(t); open != IntentsAnOwner || n != open {
		t.Errorf("%d outcomes are open, %d intents in the ledger, the most are %d", open, n, IntentsAnOwner)
	}
	o.minuteGoesBy()
	lines.Reset()
	asked := f.Calls(fault.Stat)
	o.tend()
	if n := f.Calls(fault.Stat) - asked; n != 1 {
		t.Errorf("a round of the tending asks a store that does not answer %d times", n)
	}
	if n := warnings(lines); n != 1 {
		t.Errorf("a round of the tending warns %d times", n)
	}
	f.Heal()
	o.tend()
	if n := o.recorded(t); n != 0 {
		t.Errorf("%d intents are left when the store is there again", n)
	}
	if n := batch(); n != 0 {
		t.Errorf("%d of %d are refused when the store is there again", n, partCrates)
	}
}

func warnings(lines *test.Hook) (n int) {
	for _, e := range lines.AllEntries() {
		if e.Level <= logrus.WarnLevel {
			n++
		}
	}
	return n
}

// stiff is a store that takes nothing while it is: no reservation, and no end of one.
type stiff struct {
	*directory.Store
	is    atomic.Bool
	asked atomic.Int64
}

func (s *stiff) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	if s.is.Load() {
		return nil, &store.Error{Kind: store.Unavailable, Op: "reserve space", Detail: "the disk may only be read"}
	}
	return s.Store.Reserve(ctx, r)
}

func (s *stiff) Release(ctx context.Context, id store.ReservationID) error {
	if s.is.Load() {
		s.asked.Add(1)
		return &store.Error{Kind: store.Unavailable, Op: "release reservation", Detail: "the disk may only be read"}
	}
	return s.Store.Release(ctx, id)
}

// While the store takes nothing, reservations that it has refused are kept, to be given back, up to
// a bound; each call asks it for one of them, and it is the tending, once a round, that warns.
func TestReservationsToBeGivenBackAreBounded(t *testing.T) {
	p := newPeer(t, 128*mib, storetest.NewClock())
	p.stop()
	var st *stiff
	p.wrap = func(s store.Store) store.Store { st = &stiff{Store: s.(*directory.Store)}; return st }
	log, lines := test.NewNullLogger()
	p.log = log
	p.start()
	id, c := p.owner(16 * mib)
	o := p.owners[id.Owner()]
	o.tending.Store(true) // by this test alone
	st.is.Store(true)
	const calls = ReservationsAnOwner + 20
	for range calls {
		_, err := c.Reserve(bg, store.ReserveRequest{ID: store.NewReservationID(), Bytes: mib, Lease: time.Hour})
		fails(t, "a reservation", err, store.Unavailable)
	}
	counts := func() (ended, records int) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if err := p.each(o.key(tableMirror), func(_, _ []byte) error { records++; return nil }); err != nil {
			t.Fatal(err)
		}
		return len(o.ended), records
	}
	if ended, records := counts(); ended != ReservationsAnOwner || records != ended {
		t.Errorf("%d reservations are to be given back, %d in the ledger, the most are %d", ended, records, ReservationsAnOwner)
	}
	if n := st.asked.Load(); n > 2*calls {
		t.Errorf("in %d calls the store was asked %d times", calls, n)
	}
	if n := warnings(lines); n > 0 {
		t.Errorf("%d calls log %d warnings", calls, n)
	}
	lines.Reset()
	o.tend()
	if n := warnings(lines); n != 1 {
		t.Errorf("a round of the tending warns %d times", n)
	}
	st.is.Store(false)
	o.tend()
	if ended, records := counts(); ended+records != 0 {
		t.Errorf("%d reservations are left, %d in the ledger, when the store is there again", ended, records)
	}
	if _, _, err := c.take(mib, time.Hour); err != nil {
		t.Error(err)
	}
}

// However long the tending takes for some owners, as they have a crate under way of which an
// earlier put is to be looked into, another's leases end in time.
func TestOwnersAreTendedApart(t *testing.T) {
	clock := storetest.NewClock()
	p := newPeer(t, 128*mib, clock)
	for range 12 {
		id, _ := p.owner(0)
		o, crate := p.owners[id.Owner()], store.NewCrateID()
		unlock, err := o.crates.Lock(bg, crate)
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		o.mu.Lock()
		o.unsettled[crate] = outcome{since: time.Now().Add(-2 * settleAfter)}
		o.mu.Unlock()
	}
	id, c := p.owner(0)
	r := reserve(t, c, mib)
	clock.Advance(LongestLease + time.Hour)
	o := p.owners[id.Owner()]
	for deadline := time.Now().Add(tendEvery + 2*undoLimit); ; time.Sleep(10 * time.Millisecond) {
		o.mu.Lock()
		_, there := o.leases[r]
		o.mu.Unlock()
		if !there {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a lease that is over goes on")
		}
	}
}
