package storetest

import (
	"errors"
	"sync/atomic"
	"time"

	"stasis/store"
)

func testReserve(e *env) {
	was := e.account()
	id := store.NewReservationID()
	req := store.ReserveRequest{ID: id, Holder: store.OwnerID{1}, Bytes: 1 << 20, Lease: time.Minute}
	ask := func(bytes int64) store.Share {
		e.Helper()
		req.Bytes = bytes
		shares, err := e.s.Reserve(e.ctx, req)
		if want := max(1, e.inst.Leaves); err != nil || len(shares) != want {
			e.Fatalf("reserve: %v, %v; want %d shares", shares, err, want)
		}
		if shares[0].Leaf.IsZero() || shares[0].Expires.IsZero() {
			e.Errorf("share without leaf or end: %+v", shares[0])
		}
		return shares[0]
	}
	holds := func(bytes int64) {
		e.Helper()
		want := account{was.used, was.reserved + bytes, was.free - bytes, was.crates}
		if now := e.account(); now != want {
			e.Errorf("accounts are %+v, want %+v", now, want)
		}
	}
	for _, n := range []int64{1 << 20, 1 << 20, 4 << 20, 2 << 20, 1, 3 << 20} { // made, repeated, grown, shrunk
		if s := ask(n); s.Bytes != n || s.Drawn != 0 {
			e.Errorf("asked for %d, got %+v", n, s)
		}
		holds(n)
	}

	// Never below what was drawn.
	c := e.Crate(mib)
	e.put(id, c)
	if s := ask(10); s.Bytes != c.Charge() || s.Drawn != c.Charge() {
		e.Errorf("shrunk below what was drawn: %+v", s)
	}
	if now := e.account(); now.reserved != was.reserved || now.used != was.used+c.Charge() {
		e.Errorf("accounts are %+v", now)
	}

	if !e.inst.OneHolder {
		other := req
		other.Holder = store.OwnerID{2}
		_, err := e.s.Reserve(e.ctx, other)
		e.fails(err, store.Conflict)
	}

	ask(5 << 20)
	for range 2 {
		if err := e.s.Release(e.ctx, id); err != nil {
			e.Fatalf("release: %v", err)
		}
	}
	_, err := e.s.Renew(e.ctx, id)
	e.fails(err, store.NotFound)
	_, err = e.s.Put(e.ctx, e.Crate(10).Put(id))
	e.fails(err, store.NotFound)
	if now := e.account(); now.reserved != was.reserved || now.free != was.free-c.Charge() {
		e.Errorf("after the release the accounts are %+v, were %+v", now, was)
	}
	e.has(c)
	// The id may be used again, and starts from nothing.
	if s := ask(1 << 20); s.Drawn != 0 {
		e.Errorf("a new reservation has drawn %d", s.Drawn)
	}
}

func testReserveInvalid(e *env) {
	was := e.account()
	for _, r := range []store.ReserveRequest{
		{Bytes: 1},
		{ID: store.NewReservationID()},
		{ID: store.NewReservationID(), Bytes: -1},
		{ID: store.NewReservationID(), Bytes: 1, Lease: -1},
	} {
		_, err := e.s.Reserve(e.ctx, r)
		e.fails(err, store.Invalid)
	}
	for _, n := range []int64{Capacity + 1, 1 << 50, 1<<63 - 1} {
		_, err := e.s.Reserve(e.ctx, store.ReserveRequest{ID: store.NewReservationID(), Bytes: n})
		e.fails(err, store.NoSpace)
	}
	_, err := e.s.Reserve(e.ctx, store.ReserveRequest{
		ID: store.NewReservationID(), Bytes: 1, Exclude: []store.NodeID{e.status().Leaf},
	})
	e.fails(err, store.NoSpace)
	_, err = e.s.Renew(e.ctx, store.NewReservationID())
	e.fails(err, store.NotFound)
	if err := e.s.Release(e.ctx, store.NewReservationID()); err != nil {
		e.Errorf("release of what is not there: %v", err)
	}
	e.unchanged(was)
}

func testDraw(e *env) {
	c := e.Crate(mib)
	was := e.account()
	_, err := e.s.Put(e.ctx, c.Put(store.NewReservationID()))
	e.fails(err, store.NotFound)
	e.lacks(c.ID)
	small := e.reserve(c.Charge() - 1)
	reserved := e.account()
	_, err = e.s.Put(e.ctx, c.Put(small))
	e.fails(err, store.NoSpace)
	e.lacks(c.ID)
	e.unchanged(reserved)

	req := store.ReserveRequest{ID: small, Bytes: c.Charge()}
	if _, err := e.s.Reserve(e.ctx, req); err != nil {
		e.Fatal(err)
	}
	e.put(small, c)
	if now := e.account(); now.used != was.used+c.Charge() || now.reserved != was.reserved || now.free != was.free-c.Charge() || now.crates != was.crates+1 {
		e.Errorf("after a put the accounts are %+v, were %+v", now, was)
	}
	next := e.Crate(1)
	_, err = e.s.Put(e.ctx, next.Put(small))
	e.fails(err, store.NoSpace)
	// A discard frees the store, it does not refill the reservation.
	if err := e.s.Discard(e.ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
		e.Fatal(err)
	}
	_, err = e.s.Put(e.ctx, next.Put(small))
	e.fails(err, store.NoSpace)
	e.unchanged(was)
}

func testFull(e *env) {
	empty := e.account()
	if empty.free <= 0 || empty.free > Capacity {
		e.Fatalf("an empty store of %d bytes has %d free", int64(Capacity), empty.free)
	}
	r := e.reserve(empty.free)
	if st := e.account(); st.free != 0 {
		e.Errorf("%d free with all reserved", st.free)
	}
	_, err := e.s.Reserve(e.ctx, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 1})
	e.fails(err, store.NoSpace)
	var cs []Crate
	for left := empty.free; ; {
		c := e.Crate(8 * mib)
		if c.Charge() > left {
			_, err := e.s.Put(e.ctx, c.Put(r))
			e.fails(err, store.NoSpace)
			break
		}
		e.put(r, c)
		cs = append(cs, c)
		left -= c.Charge()
	}
	for _, c := range cs {
		e.has(c)
		if err := e.s.Discard(e.ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
			e.Fatal(err)
		}
	}
	if err := e.s.Release(e.ctx, r); err != nil {
		e.Fatal(err)
	}
	e.unchanged(empty)
	// And it can be filled again.
	e.put(e.reserve(empty.free), cs[0])
}

func testReserveRace(e *env) {
	free := e.account().free
	part := free / 10
	var granted atomic.Int64
	together(40, func(i int) {
		for range 3 {
			_, err := e.s.Reserve(e.ctx, store.ReserveRequest{ID: store.NewReservationID(), Bytes: part})
			switch {
			case err == nil:
				granted.Add(part)
			case !errors.Is(err, store.NoSpace):
				e.Errorf("reserve: %v", err)
			}
		}
	})
	if g := granted.Load(); g > free || g < free-part {
		e.Errorf("of %d free bytes %d were granted, in parts of %d", free, g, part)
	}
}

// leases skips a test where time is not in its hands.
func (e *env) leases() {
	e.Helper()
	if e.inst.OwnClock {
		e.Skip("the store counts leases on a clock of its own")
	}
}

func testLease(e *env) {
	e.leases()
	was := e.account()
	take := func(lease time.Duration) store.ReservationID {
		e.Helper()
		id := store.NewReservationID()
		shares, err := e.s.Reserve(e.ctx, store.ReserveRequest{ID: id, Bytes: 1 << 20, Lease: lease})
		if err != nil {
			e.Fatal(err)
		}
		want := e.clock.Wall().Add(cmpOr(lease, store.DefaultLease))
		if !shares[0].Expires.Equal(want) {
			e.Errorf("lease of %v ends %v, want %v", lease, shares[0].Expires, want)
		}
		return id
	}
	short, long, usual := take(time.Minute), take(10*time.Minute), take(0)
	e.clock.Jump(240 * time.Hour) // the wall clock has no say
	e.clock.Advance(59 * time.Second)
	if _, err := e.s.Renew(e.ctx, long); err != nil {
		e.Errorf("renew: %v", err)
	}
	if got := e.account().reserved; got != was.reserved+3<<20 {
		e.Errorf("%d reserved before any lease ended", got)
	}
	e.clock.Jump(-480 * time.Hour)
	e.clock.Advance(time.Second)
	_, err := e.s.Put(e.ctx, e.Crate(10).Put(short))
	e.fails(err, store.NotFound)
	_, err = e.s.Renew(e.ctx, short)
	e.fails(err, store.NotFound)
	if now := e.account(); now.reserved != was.reserved+2<<20 || now.free != was.free-2<<20 {
		e.Errorf("a lapsed lease still holds space: %+v", now)
	}
	e.clock.Advance(10*time.Minute - 2*time.Second) // long was renewed at 59 s
	e.put(long, e.Crate(10))
	e.clock.Advance(time.Second)
	_, err = e.s.Put(e.ctx, e.Crate(10).Put(long))
	e.fails(err, store.NotFound)
	e.clock.Advance(store.DefaultLease)
	_, err = e.s.Renew(e.ctx, usual)
	e.fails(err, store.NotFound)
	if now := e.account(); now.reserved != was.reserved {
		e.Errorf("%d still reserved after every lease ended", now.reserved)
	}
	// A lapsed id may be reserved anew; nothing is drawn on it.
	shares, err := e.s.Reserve(e.ctx, store.ReserveRequest{ID: long, Bytes: 1 << 20})
	if err != nil || shares[0].Drawn != 0 {
		e.Errorf("reserve a lapsed id anew: %+v, %v", shares, err)
	}
}

func cmpOr(a, b time.Duration) time.Duration {
	if a != 0 {
		return a
	}
	return b
}

// testLapseDuringPut: a put that has drawn keeps its space though the lease ends
// while its bytes come in, and nobody else is promised that space.
func testLapseDuringPut(e *env) {
	e.leases()
	was := e.account()
	c := e.Crate(2 * mib)
	for _, finish := range []bool{false, true} {
		r := e.reserve(c.Charge() + 4096)
		wait, going := make(chan struct{}), make(chan struct{})
		req := c.Put(r)
		req.Source = GatedSource(c.Data, mib, going, wait)
		if !finish {
			req.Source = GatedSource(c.Data[:mib+1], mib, going, wait)
		}
		done := make(chan error, 1)
		go func() { _, err := e.s.Put(e.ctx, req); done <- err }()
		e.soon("the put's first block", func() { <-going })
		e.clock.Advance(2 * store.DefaultLease)
		if now := e.account(); now.reserved != was.reserved+c.Charge() || now.free != was.free-c.Charge() {
			e.Errorf("with a put under way on a lapsed lease the accounts are %+v, were %+v", now, was)
		}
		close(wait)
		var err error
		e.soon("the put", func() { err = <-done })
		if !finish {
			e.fails(err, store.Corrupt)
			e.unchanged(was)
			continue
		}
		if err != nil {
			e.Fatalf("put under way while the lease ended: %v", err)
		}
		e.has(c)
		if now := e.account(); now.used != was.used+c.Charge() || now.reserved != was.reserved {
			e.Errorf("afterwards the accounts are %+v, were %+v", now, was)
		}
	}
}

func testLeaseReopen(e *env) {
	e.leases()
	if e.inst.Reopen == nil {
		e.Skip("nothing outlives this store")
	}
	was := e.account()
	take := func() store.ReservationID { return e.reserve(1 << 20) } // for DefaultLease, an hour
	alive := func(id store.ReservationID, want bool, when string) {
		e.Helper()
		_, err := e.s.Put(e.ctx, e.Crate(10).Put(id))
		if want && err != nil {
			e.Errorf("%s: %v", when, err)
		}
		if !want && !errors.Is(err, store.NotFound) {
			e.Errorf("%s: %v, want not found", when, err)
		}
	}

	a := take()
	e.clock.Advance(30 * time.Minute)
	e.clock.Jump(100 * time.Hour)
	e.reopen()
	alive(a, true, "same boot, half the lease gone, the wall clock set forward")
	e.clock.Advance(30 * time.Minute)
	alive(a, false, "same boot, the lease over")

	b := take()
	e.clock.Reboot(30 * time.Minute)
	e.reopen()
	alive(b, true, "half the lease passed in a restart of the machine")
	e.clock.Advance(30 * time.Minute)
	alive(b, false, "the other half passed")

	c := take()
	e.clock.Reboot(2 * time.Hour)
	e.reopen()
	alive(c, false, "the whole lease passed in a restart of the machine")
	e.clock.Jump(-10 * time.Hour)
	e.reopen()
	alive(c, false, "the wall clock went back after the lease was over")

	d := take()
	e.clock.Jump(-10 * time.Hour)
	e.clock.Reboot(time.Minute)
	e.reopen()
	alive(d, true, "the wall clock went back in a restart")
	e.clock.Advance(time.Hour)
	alive(d, false, "no longer than its length all the same")
	if now := e.account(); now.reserved != was.reserved {
		e.Errorf("%d still reserved", now.reserved)
	}
}
