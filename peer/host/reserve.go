package host

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"stasis/peer/wire"
	"stasis/store"
	"stasis/store/booking"
	"stasis/store/ledger"
)

const (
	opReserve = "reserve space"
	opRenew   = "renew reservation"
	opRelease = "release reservation"
)

// journal persists the terms of an owner's reservations.
type journal owner

// SaveTerms is booking.Journal's. What the store then has to give is noted with it, so
// that a crash in between is made good.
func (j *journal) SaveTerms(ctx context.Context, t booking.Terms) error {
	o := (*owner)(j)
	o.mu.Lock()
	l := o.leases[t.ID]
	fresh := l == nil
	if fresh {
		l = &lease{id: t.ID, inner: store.NewReservationID(), copies: o.ordering[t.ID]}
		o.leases[t.ID] = l
	}
	inner, before, differs := l.inner, l.bytes, fresh || l.bytes != t.Bytes
	o.mu.Unlock()
	err := o.h.change(ctx, func(tx *ledger.Tx) error {
		tx.Put(o.key(tableTerms, t.ID[:]...), termsRecord{inner, t, l.copies}.encode())
		if differs {
			tx.Put(o.key(tableMirror, inner[:]...), encodeDrawn(before))
		}
		return nil
	})
	if err != nil {
		return err // the book takes it back, a new one by DeleteTerms
	}
	o.mu.Lock()
	l.bytes = t.Bytes
	o.mu.Unlock()
	return nil
}

// DeleteTerms is booking.Journal's. Interrupted uploads under the reservation go.
func (j *journal) DeleteTerms(ctx context.Context, id store.ReservationID) error {
	o := (*owner)(j)
	o.mu.Lock()
	l := o.leases[id]
	o.mu.Unlock()
	err := o.h.change(ctx, func(tx *ledger.Tx) error {
		tx.Delete(o.key(tableTerms, id[:]...))
		if l != nil {
			tx.Delete(o.key(tableDrawn, l.inner[:]...))
			tx.Put(o.key(tableMirror, l.inner[:]...), encodeDrawn(0))
		}
		return nil
	})
	if err != nil || l == nil {
		return err
	}
	o.mu.Lock()
	delete(o.leases, id)
	l.ended = true
	o.ended[l] = struct{}{}
	o.mu.Unlock()
	o.dropPartials(func(p *partial) bool { return p.claim != nil && p.claim.lease == l })
	return nil
}

// reserve is store.Store's Reserve: of the owner's quota first, which every copy that it
// orders counts for, then of the store.
func (o *owner) reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	unlock, err := o.mirrors.Lock(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := o.lapse(ctx); err != nil {
		return nil, err
	}
	r.Lease = min(r.Lease, LongestLease)
	order, done, err := o.order(r)
	if err != nil {
		return nil, err
	}
	defer done()
	unlockPromise, err := o.promising.Lock(ctx, struct{}{})
	if err != nil {
		return nil, err
	}
	defer unlockPromise()
	was, err := o.admitReserve(r, order)
	if err != nil {
		return nil, err
	}
	if err := o.judge(ctx, opReserve, r.ID, r.Bytes); err != nil {
		return nil, err
	}
	own := r
	own.Bytes, own.Copies, own.Zones, own.Exclude = order.over(r.Bytes), 0, min(r.Zones, 1), nil
	share, err := o.book.Reserve(ctx, own)
	if err != nil {
		return nil, o.asQuota(err)
	}
	shares, err := o.mirror(ctx, r, share)
	if err == nil {
		return shares, nil
	}
	if errors.Is(err, store.NoSpace) {
		o.want()
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	return nil, errors.Join(err, o.unreserve(undo, r.ID, was))
}

// order notes how many copies a request orders, until done is called. A reservation keeps the
// number that it was made with.
func (o *owner) order(r store.ReserveRequest) (c copies, done func(), err error) {
	if r.Copies < 0 || r.Copies > wire.MaxShares {
		return 0, nil, &store.Error{Kind: store.Invalid, Op: opReserve, Detail: fmt.Sprintf("%d copies", r.Copies)}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	c = copies(max(1, r.Copies))
	if l := o.leases[r.ID]; l != nil && l.count() != c.count() {
		if r.Copies != 0 {
			return 0, nil, &store.Error{Kind: store.Invalid, Op: opReserve, Subject: r.ID.String(),
				Detail: fmt.Sprintf("it was made for %d copies", l.count()), Hint: "another number needs a reservation of its own"}
		}
		c = l.copies
	}
	o.ordering[r.ID] = c
	return c, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.ordering, r.ID)
	}, nil
}

// over is what so many bytes are over all copies; more than there can be is cut to that.
func (c copies) over(bytes int64) int64 {
	if bytes > math.MaxInt64/c.count() {
		return math.MaxInt64
	}
	return bytes * c.count()
}

// want notes that the owner was refused for space: it is told when there is some again.
func (o *owner) want() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wants = true
}

// asQuota names what the owner's own book refuses.
func (o *owner) asQuota(err error) error {
	var e *store.Error
	if !errors.Is(err, store.NoSpace) || !errors.As(err, &e) {
		return err
	}
	quota := o.quota()
	if quota == 0 {
		return &store.Error{Kind: store.NoSpace, Op: opReserve, Detail: e.Detail}
	}
	return &store.Error{Kind: store.Quota, Op: opReserve, Detail: fmt.Sprintf("%s of %s", e.Detail, booking.Size(quota)),
		Hint: "ask the peer's person for a larger quota, or discard crates there"}
}

// admitReserve gives the request that makes a reservation again what it is now; its
// Bytes are 0 if there is none. Called with promising held, so that the number of them is exact.
func (o *owner) admitReserve(r store.ReserveRequest, order copies) (was store.ReserveRequest, err error) {
	o.mu.Lock()
	l := o.leases[r.ID]
	n, ended := len(o.leases), len(o.ended)
	if l != nil {
		was = r
		was.Bytes = l.bytes
	}
	o.mu.Unlock()
	if l == nil && n >= ReservationsAnOwner {
		return was, &store.Error{Kind: store.Quota, Op: opReserve, Detail: fmt.Sprintf("%d reservations are the most for one owner", ReservationsAnOwner),
			Hint: "release those that are not needed"}
	}
	if l == nil && n+ended >= ReservationsAnOwner {
		return was, &store.Error{Kind: store.Unavailable, Op: opReserve, Detail: fmt.Sprintf("%d reservations that have ended are still to be given back, or have puts under way", ended)}
	}
	if l != nil && order.over(r.Bytes) < was.Bytes {
		// What interrupted uploads hold can't be given back while they lie there.
		o.dropPartials(func(p *partial) bool { return p.claim != nil && p.claim.lease == l })
	}
	return was, nil
}

// mirror asks the store for what the owner's reservation now promises.
func (o *owner) mirror(ctx context.Context, r store.ReserveRequest, share store.Share) ([]store.Share, error) {
	o.mu.Lock()
	l := o.leases[r.ID]
	o.mu.Unlock()
	if l == nil {
		return nil, lapsed(opReserve, r.ID)
	}
	in := r
	in.ID, in.Holder, in.Bytes = l.inner, o.id, l.each(share.Bytes)
	if l.copies > 1 {
		in.Copies = int(l.copies)
	}
	in.Lease = r.Lease + MirrorLease
	if r.Lease == 0 {
		in.Lease = store.DefaultLease + MirrorLease
	}
	shares, err := o.h.store.Reserve(ctx, in)
	if errors.Is(err, store.NoSpace) {
		// Others' leases may be over without anybody having looked.
		o.h.lapseAll(ctx)
		shares, err = o.h.store.Reserve(ctx, in)
	}
	if err != nil {
		return nil, err
	}
	o.inStep(l)
	for i := range shares {
		shares[i].Bytes, shares[i].Drawn, shares[i].Expires = l.each(share.Bytes), l.each(share.Drawn), share.Expires
	}
	return shares, nil
}

// inStep forgets the note that the store's part of a reservation may differ. Where it
// does not survive a power cut, the next open looks once more.
func (o *owner) inStep(l *lease) {
	_, err := o.h.space.Update(func(tx *ledger.Tx) error {
		tx.Delete(o.key(tableMirror, l.inner[:]...))
		return nil
	})
	if err != nil {
		o.h.log.WithError(err).Warn("the ledger did not take a note on a reservation; the next open looks again")
	}
}

// unreserve undoes a Reserve that the store has refused.
func (o *owner) unreserve(ctx context.Context, id store.ReservationID, was store.ReserveRequest) error {
	if was.Bytes == 0 {
		if err := o.book.Release(ctx, id); err != nil {
			return err
		}
		o.later(o.giveBack(ctx))
		return nil
	}
	was.Copies, was.Zones, was.Exclude = 0, 0, nil
	_, err := o.book.Reserve(ctx, was)
	return err
}

// renew is store.Store's.
func (o *owner) renew(ctx context.Context, id store.ReservationID) (time.Time, error) {
	unlock, err := o.mirrors.Lock(ctx, id)
	if err != nil {
		return time.Time{}, err
	}
	defer unlock()
	unlockPromise, err := o.promising.Lock(ctx, struct{}{})
	if err != nil {
		return time.Time{}, err
	}
	defer unlockPromise()
	o.mu.Lock()
	l := o.leases[id]
	o.mu.Unlock()
	if l != nil {
		if err := o.judge(ctx, opRenew, id, 0); err != nil {
			return time.Time{}, err
		}
	}
	expires, err := o.book.Renew(ctx, id)
	if err != nil {
		return time.Time{}, err
	}
	o.mu.Lock()
	l = o.leases[id]
	o.mu.Unlock()
	if l == nil {
		return time.Time{}, lapsed(opRenew, id)
	}
	if _, err := o.h.store.Renew(ctx, l.inner); err != nil {
		return time.Time{}, o.remake(ctx, l, err)
	}
	return expires, nil
}

// remake asks for the store's part of a reservation again, where the store has lost it,
// as when it was made anew; otherwise it gives the error.
func (o *owner) remake(ctx context.Context, l *lease, err error) error {
	if !errors.Is(err, store.NotFound) {
		return err
	}
	o.mu.Lock()
	bytes := l.bytes
	if l.ended {
		bytes = l.drawn + l.active
	}
	o.mu.Unlock()
	_, err = o.h.store.Reserve(ctx, l.asks(bytes, o, store.DefaultLease+MirrorLease))
	return err
}

// release is store.Store's.
func (o *owner) release(ctx context.Context, id store.ReservationID) error {
	unlock, err := o.mirrors.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if err := o.book.Release(ctx, id); err != nil {
		return err
	}
	o.later(o.giveBack(ctx))
	o.h.spaceFreed()
	return nil
}

// lapse ends the owner's reservations whose leases are over, in the store too.
func (o *owner) lapse(ctx context.Context) error {
	if err := o.book.Bury(ctx); err != nil {
		return err
	}
	o.later(o.giveBack(ctx))
	return nil
}

// lapseAll does it for all owners.
func (h *Host) lapseAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, undoLimit)
	defer cancel()
	if err := round(ctx, h.all(), func(o *owner) error { return o.lapse(ctx) }); err != nil {
		h.log.WithError(err).Warn("lapsed reservations could not be ended; it is tried again")
	}
}

// later is told, by calls, what giveBack came to. They don't fail by it, and it is for the tending,
// which tries it again, to warn of it.
func (o *owner) later(err error) {
	if err != nil {
		o.h.log.WithError(err).WithField("owner", o.id.String()[:16]).Debug("reservations that have ended could not be given back")
	}
}

// giveBack releases the store's part of reservations that have ended. Puts under way
// keep what they hold. What fails is tried again by the tending.
func (o *owner) giveBack(ctx context.Context) error {
	o.mu.Lock()
	over := make([]*lease, 0, len(o.ended))
	for l := range o.ended {
		over = append(over, l)
	}
	o.mu.Unlock()
	return round(ctx, over, func(l *lease) error { return o.giveBackOne(ctx, l) })
}

func (o *owner) giveBackOne(ctx context.Context, l *lease) error {
	// Of all that could be done to it at once, only another giveBack is left. The inner id
	// is nobody's reservation id, so that the lock can't be held by a caller.
	unlock, err := o.mirrors.Lock(ctx, l.inner)
	if err != nil {
		return err
	}
	defer unlock()
	o.mu.Lock()
	_, still := o.ended[l]
	active, bytes, now := l.active, l.drawn+l.active, o.h.o.Clock.Boot()
	settled := l.bytes == bytes && l.asked != 0 && now-l.asked < MirrorLease/2
	o.mu.Unlock()
	if !still || active > 0 && settled {
		return nil
	}
	if active > 0 {
		if _, err := o.h.store.Reserve(ctx, l.asks(bytes, o, MirrorLease)); err != nil {
			return err
		}
		o.mu.Lock()
		l.bytes, l.asked = bytes, now
		o.mu.Unlock()
		return nil
	}
	if err := o.h.store.Release(ctx, l.inner); err != nil {
		return err
	}
	o.inStep(l)
	o.mu.Lock()
	delete(o.ended, l)
	o.mu.Unlock()
	return nil
}

// remirror brings the store's reservations in step after a start: those that the owner
// has none for any more end, those that a crash has caught amid a change are asked for
// again.
func (o *owner) remirror(ctx context.Context) error {
	if err := o.giveBack(ctx); err != nil {
		return err
	}
	var differ []store.ReservationID
	err := o.h.each(o.key(tableMirror), func(k, _ []byte) error {
		differ = append(differ, store.ReservationID(k[len(k)-16:]))
		return nil
	})
	if err != nil {
		return err
	}
	return round(ctx, differ, func(inner store.ReservationID) error {
		if l := o.leaseOf(inner); l != nil {
			return o.remirrorOne(ctx, l)
		}
		return nil
	})
}

func (o *owner) remirrorOne(ctx context.Context, l *lease) error {
	unlock, err := o.mirrors.Lock(ctx, l.id)
	if err != nil {
		return err
	}
	defer unlock()
	note, noted, err := o.h.space.Get(o.key(tableMirror, l.inner[:]...))
	if err != nil || !noted {
		return err
	}
	v, alive, err := o.h.space.Get(o.key(tableTerms, l.id[:]...))
	if err != nil || !alive {
		return err
	}
	r, err := decodeTermsRecord(v)
	if err != nil || r.inner != l.inner {
		return err
	}
	ask := l.asks(r.terms.Bytes, o, r.terms.Lease+MirrorLease)
	if _, err = o.h.store.Reserve(ctx, ask); err == nil {
		o.inStep(l)
	}
	if !errors.Is(err, store.NoSpace) {
		return err
	}
	// It was never acknowledged as it is: it goes back to what it was before.
	before, err := decodeDrawn(note)
	if err != nil {
		return err
	}
	return o.unreserve(ctx, l.id, store.ReserveRequest{ID: l.id, Holder: r.terms.Holder, Bytes: before, Lease: r.terms.Lease})
}

func (o *owner) leaseOf(inner store.ReservationID) *lease {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range o.leases {
		if l.inner == inner {
			return l
		}
	}
	return nil
}

func lapsed(op string, id store.ReservationID) error {
	return &store.Error{Kind: store.NotFound, Op: op, Subject: id.String(), Detail: "unknown here, or its lease is over", Hint: "reserve again"}
}
