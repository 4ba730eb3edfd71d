package booking

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"stasis/store"
)

const opReserve = "reserve space"

// Reserve is store.Store's Reserve for a leaf. A repeat under the same id starts
// the lease anew; another figure grows or shrinks the promise, and one below what
// was drawn is taken as what was drawn. A leaf gives one copy in one zone: a
// request for more, or one that excludes the leaf, is NoSpace.
func (b *Book) Reserve(ctx context.Context, r store.ReserveRequest) (store.Share, error) {
	lease, err := b.admit(r)
	if err != nil {
		return store.Share{}, err
	}
	if err := b.bury(ctx); err != nil {
		return store.Share{}, err
	}
	unlock, err := b.ids.Lock(ctx, r.ID)
	if err != nil {
		return store.Share{}, gone(opReserve, r.ID, err)
	}
	defer unlock()
	c, err := b.take(ctx, r, lease)
	if err != nil {
		return store.Share{}, err
	}
	if b.o.Journal != nil {
		if err := b.o.Journal.SaveTerms(ctx, c.terms); err != nil {
			b.giveBack(ctx, c)
			return store.Share{}, err
		}
	}
	return b.settle(c), nil
}

// change is a Reserve or Renew between memory and journal.
type change struct {
	e     *entry
	fresh bool  // the entry did not exist before
	was   Terms // before, unless fresh
	wasAt time.Duration
	terms Terms
	spare int64 // shrunk away, and held until the journal has it
}

func (b *Book) admit(r store.ReserveRequest) (time.Duration, error) {
	bad := func(k store.Kind, detail string) (time.Duration, error) {
		return 0, &store.Error{Kind: k, Op: opReserve, Subject: "on node " + b.o.Leaf.String(), Detail: detail}
	}
	switch {
	case r.ID == store.ReservationID{}:
		return bad(store.Invalid, "no reservation id")
	case r.Bytes <= 0:
		return bad(store.Invalid, fmt.Sprintf("%d bytes", r.Bytes))
	case r.Lease < 0 || r.Copies < 0 || r.Zones < 0:
		return bad(store.Invalid, "negative lease, copies or zones")
	case r.Copies > 1:
		return bad(store.NoSpace, fmt.Sprintf("%d copies wanted, this is one place", r.Copies))
	case r.Zones > 1:
		return bad(store.NoSpace, fmt.Sprintf("%d zones wanted, this is one place", r.Zones))
	case slices.Contains(r.Exclude, b.o.Leaf):
		return bad(store.NoSpace, "the request excludes this node")
	}
	if r.Lease == 0 {
		return store.DefaultLease, nil
	}
	return min(r.Lease, MaxLease), nil
}

// take books the change in memory, so that nobody else can have the space while
// the journal writes.
func (b *Book) take(ctx context.Context, r store.ReserveRequest, lease time.Duration) (change, error) {
	for try := 1; ; try++ {
		// What lapsed under this id must be gone first: its Drawn is not the new one's.
		if err := b.buryLocked(ctx, r.ID); err != nil {
			return change{}, err
		}
		avail, moved, err := b.ask(ctx)
		if err != nil {
			return change{}, err
		}
		c, overtaken, err := b.tryTake(r, lease, avail, moved)
		if err == nil || !overtaken || try == spaceTries {
			return c, err
		}
	}
}

func (b *Book) tryTake(r store.ReserveRequest, lease time.Duration, avail, moved int64) (c change, overtaken bool, err error) {
	b.dev.mu.Lock()
	defer b.dev.mu.Unlock()
	free := b.free(avail, moved)
	if _, dead := b.graves[r.ID]; dead {
		return c, true, lapsed(opReserve, r.ID)
	}
	e := b.res[r.ID]
	c = change{e: e, fresh: e == nil}
	if c.fresh {
		if len(b.res) >= MaxReservations {
			return c, false, &store.Error{
				Kind: store.Quota, Op: opReserve, Subject: "on node " + b.o.Leaf.String(),
				Detail: fmt.Sprintf("%d reservations are the most it keeps", MaxReservations),
				Hint:   "release those that are not needed",
			}
		}
		e = &entry{terms: Terms{ID: r.ID, Holder: r.Holder}}
		c.e = e
	} else if e.terms.Holder != r.Holder {
		return c, false, &store.Error{
			Kind: store.Conflict, Op: opReserve, Subject: "under id " + subject(r.ID),
			Detail: "another holder has a reservation with this id",
		}
	}
	c.was, c.wasAt = e.terms, e.deadline

	bytes := max(r.Bytes, e.drawn+e.tentative)
	grow := bytes - e.terms.Bytes
	if grow > free {
		return c, b.dev.moved != moved, b.full(opReserve, "on node "+b.o.Leaf.String(), grow, free)
	}
	if grow > 0 {
		b.outstanding += grow
	} else {
		c.spare = -grow
	}
	e.terms.Bytes = bytes
	b.prolong(e, lease)
	b.res[r.ID] = e
	c.terms = e.terms
	return c, false, nil
}

// prolong starts the lease anew. Called with dev.mu held.
func (b *Book) prolong(e *entry, lease time.Duration) {
	now := b.o.Clock.Boot()
	e.deadline = now + lease
	e.terms.Lease = lease
	e.terms.Expires = b.o.Clock.Wall().Add(lease)
	e.terms.Boot = b.o.Clock.BootID()
	e.terms.Deadline = e.deadline
	b.next = min(b.next, e.deadline)
}

// settle ends a change that the journal has.
func (b *Book) settle(c change) store.Share {
	b.dev.mu.Lock()
	defer b.dev.mu.Unlock()
	// What was shrunk away goes even if the lease has ended meanwhile: end took off
	// the new figure only.
	b.outstanding -= c.spare
	return store.Share{Leaf: b.o.Leaf, Bytes: c.terms.Bytes, Drawn: c.e.drawn, Expires: c.terms.Expires}
}

// giveBack undoes a change that the journal refused, in memory and, because the
// journal may have written it all the same, there too. If even that fails, a new
// reservation is left among those to be deleted later; a grown one comes back
// larger after a restart and lapses with its lease.
func (b *Book) giveBack(ctx context.Context, c change) {
	b.dev.mu.Lock()
	id := c.terms.ID
	switch {
	case c.e.ended:
		// It lapsed meanwhile, and end has taken the new figure off.
		b.outstanding -= c.spare
	case c.fresh:
		b.end(c.e)
		b.graves[id] = struct{}{}
	default:
		// Draws may have used what was grown; they keep it.
		bytes := max(c.was.Bytes, c.e.drawn+c.e.tentative)
		b.outstanding += bytes - c.e.terms.Bytes - c.spare
		c.e.terms, c.e.deadline = c.was, c.wasAt
		c.e.terms.Bytes = bytes
		b.next = min(b.next, c.e.deadline)
	}
	was := c.e.terms
	b.dev.mu.Unlock()
	if b.o.Journal == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if c.fresh {
		_ = b.buryLocked(ctx, id) // stays among the graves, tried again by the next Reserve
	} else {
		_ = b.o.Journal.SaveTerms(ctx, was) // see above for what is left if this fails
	}
}

// Renew starts the lease anew with the length it was asked for; NotFound if there
// is no such reservation any more.
func (b *Book) Renew(ctx context.Context, id store.ReservationID) (time.Time, error) {
	const op = "renew reservation"
	unlock, err := b.ids.Lock(ctx, id)
	if err != nil {
		return time.Time{}, gone(op, id, err)
	}
	defer unlock()
	b.dev.mu.Lock()
	b.lapse()
	e := b.res[id]
	if e == nil {
		b.dev.mu.Unlock()
		return time.Time{}, lapsed(op, id)
	}
	c := change{e: e, was: e.terms, wasAt: e.deadline}
	b.prolong(e, e.terms.Lease)
	c.terms = e.terms
	b.dev.mu.Unlock()
	if b.o.Journal != nil {
		if err := b.o.Journal.SaveTerms(ctx, c.terms); err != nil {
			b.giveBack(ctx, c)
			return time.Time{}, err
		}
	}
	return c.terms.Expires, nil
}

// Release ends a reservation, durably before its space is free. Crates stored
// under it stay, and so does what draws under way hold.
func (b *Book) Release(ctx context.Context, id store.ReservationID) error {
	unlock, err := b.ids.Lock(ctx, id)
	if err != nil {
		return gone("release reservation", id, err)
	}
	defer unlock()
	b.dev.mu.Lock()
	b.lapse()
	e := b.res[id]
	b.dev.mu.Unlock()
	if e == nil {
		return b.buryLocked(ctx, id)
	}
	if b.o.Journal != nil {
		if err := b.o.Journal.DeleteTerms(ctx, id); err != nil {
			return err
		}
	}
	b.dev.mu.Lock()
	defer b.dev.mu.Unlock()
	if !e.ended {
		b.end(e)
	}
	delete(b.graves, id)
	return nil
}

// Bury makes the end of every lapsed reservation durable. A store calls it once
// it is open, so that no jump of the wall clock brings one back at the next opening.
func (b *Book) Bury(ctx context.Context) error { return b.bury(ctx) }

// bury makes the end of every lapsed reservation durable.
func (b *Book) bury(ctx context.Context) error {
	b.dev.mu.Lock()
	b.lapse()
	ids := make([]store.ReservationID, 0, len(b.graves))
	for id := range b.graves {
		ids = append(ids, id)
	}
	b.dev.mu.Unlock()
	for _, id := range ids {
		unlock, err := b.ids.Lock(ctx, id)
		if err != nil {
			return gone("end reservation", id, err)
		}
		err = b.buryLocked(ctx, id)
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// buryLocked does it for one, whose lock the caller has.
func (b *Book) buryLocked(ctx context.Context, id store.ReservationID) error {
	b.dev.mu.Lock()
	_, dead := b.graves[id]
	b.dev.mu.Unlock()
	if !dead {
		return nil
	}
	if b.o.Journal != nil {
		if err := b.o.Journal.DeleteTerms(ctx, id); err != nil {
			return err
		}
	}
	b.dev.mu.Lock()
	defer b.dev.mu.Unlock()
	delete(b.graves, id)
	return nil
}

func subject(id store.ReservationID) string { return id.String() }

func lapsed(op string, id store.ReservationID) error {
	return &store.Error{
		Kind: store.NotFound, Op: op, Subject: subject(id),
		Detail: "unknown here, or its lease is over", Hint: "reserve again",
	}
}

// gone is the answer to a caller whose context ended while it waited.
func gone(op string, id store.ReservationID, err error) error {
	if errors.As(err, new(*store.Error)) {
		return err
	}
	return &store.Error{Kind: store.Unavailable, Op: op, Subject: subject(id), Err: err}
}
