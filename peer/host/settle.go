package host

import (
	"context"
	"errors"
	"time"

	"stasis/store"
	"stasis/store/ledger"
)

// outcome is what is known of a put that has an intent and neither record nor end.
type outcome struct {
	since    time.Time // when it ended in an error; zero: an unclean stop interrupted it
	unwanted bool      // it has been discarded since
}

func (o *owner) unclear(id store.CrateID) (u outcome, open bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	u, open = o.unsettled[id]
	return u, open
}

// settleStopped settles all that an unclean stop has left.
func (o *owner) settleStopped(ctx context.Context) error {
	return o.settleThose(ctx, func(u outcome) bool { return u.since.IsZero() })
}

// settleThose settles those that which names.
func (o *owner) settleThose(ctx context.Context, which func(outcome) bool) error {
	o.mu.Lock()
	var ids []store.CrateID
	for id, u := range o.unsettled {
		if which(u) {
			ids = append(ids, id)
		}
	}
	o.mu.Unlock()
	return round(ctx, ids, func(id store.CrateID) error { return o.settle(ctx, id) })
}

// settle finds out what became of a put whose outcome is not known: one that a crash or
// an error has interrupted between its intent and its record.
func (o *owner) settle(ctx context.Context, id store.CrateID) error {
	unlock, err := o.crates.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	return o.settleLocked(ctx, id)
}

// settleLocked does it for a crate whose lock the caller has. What the store has is
// whole: it becomes the owner's, as after an answer that was lost. What it lacks is
// forgotten, unless the error is so recent that a call which was given up may yet end.
func (o *owner) settleLocked(ctx context.Context, id store.CrateID) error {
	v, open, err := o.h.space.Get(o.key(tableIntent, id[:]...))
	if err != nil {
		return err
	}
	if open {
		in, err := decodeIntent(v)
		if err != nil {
			return err
		}
		u, _ := o.unclear(id)
		info, err := o.h.store.Stat(ctx, innerCrate(o.id, id))
		switch {
		case err == nil && u.unwanted, errors.Is(err, store.Corrupt): // noted there, and its bytes are not
			if err = o.h.store.Discard(ctx, store.DiscardRequest{Crate: innerCrate(o.id, id), Holder: o.id}); err == nil {
				err = o.forget(id)
			}
		case err == nil:
			err = o.claimFound(ctx, id, in, info)
		case errors.Is(err, store.NotFound) && time.Since(u.since) < settleAfter:
			return nil
		case errors.Is(err, store.NotFound):
			err = o.forget(id)
		}
		if err != nil {
			return err
		}
	}
	o.mu.Lock()
	delete(o.unsettled, id)
	o.mu.Unlock()
	return nil
}

// forget ends an intent. Where that does not survive a power cut, it is settled again.
func (o *owner) forget(id store.CrateID) error {
	_, err := o.h.space.Update(func(tx *ledger.Tx) error {
		tx.Delete(o.key(tableIntent, id[:]...))
		return nil
	})
	return err
}

// claimFound makes a crate that the store has the owner's, and draws it from the
// reservation it came under, if that is still there.
func (o *owner) claimFound(ctx context.Context, id store.CrateID, in intent, info store.CrateInfo) error {
	if _, recorded, err := o.find(id); err != nil {
		return err
	} else if recorded {
		return o.forget(id)
	}
	// The upload it came from is of no more use, and holds the same space.
	o.dropPartials(func(p *partial) bool { return p.id == id })
	var c *claim
	if l := o.leaseOf(in.inner); l != nil {
		c, _ = o.take(l.id, id, info.Size) // without it the crate is counted all the same
	}
	inner := store.ReservationID{}
	if c != nil {
		inner = c.lease.inner
	}
	rec := crateRecord{info.Form, info.Size, info.Root, in.copies}
	err := o.change(ctx, func(tx *ledger.Tx) error {
		return o.land(tx, id, rec, inner)
	})
	switch {
	case c != nil && err == nil:
		c.commit()
	case c != nil:
		c.undo()
	case err == nil:
		o.book.Found(rec.charge())
	}
	return err
}
