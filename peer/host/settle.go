package host

import (
	"context"
	"errors"

	"stasis/store"
	"stasis/store/ledger"
)

// settle finds out what became of a put whose outcome is not known: one that a crash or
// an error has interrupted between its intent and its record.
func (o *owner) settle(ctx context.Context, id store.CrateID) error {
	unlock, err := o.crates.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	return o.settleLocked(ctx, id)
}

// settleLocked does it for a crate whose lock the caller has. What the store has is
// whole: it becomes the owner's, as after an answer that was lost. What it lacks is
// forgotten.
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
		info, err := o.h.store.Stat(ctx, innerCrate(o.id, id))
		if err == nil {
			err = o.claimFound(ctx, id, in, info)
		} else if errors.Is(err, store.NotFound) {
			_, err = o.h.space.Update(func(tx *ledger.Tx) error {
				tx.Delete(o.key(tableIntent, id[:]...))
				return nil
			})
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

// claimFound makes a crate that the store has the owner's, and draws it from the
// reservation it came under, if that is still there.
func (o *owner) claimFound(ctx context.Context, id store.CrateID, in intent, info store.CrateInfo) error {
	_, recorded, err := o.find(id)
	if err == nil && recorded {
		_, err = o.h.space.Update(func(tx *ledger.Tx) error {
			tx.Delete(o.key(tableIntent, id[:]...))
			return nil
		})
	}
	if err != nil || recorded {
		return err
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
	err = o.h.change(ctx, func(tx *ledger.Tx) error {
		return o.land(tx, id, crateRecord{info.Form, info.Size, info.Root}, inner)
	})
	switch {
	case c != nil && err == nil:
		c.commit()
	case c != nil:
		c.undo()
	case err == nil:
		o.book.Found(store.Charge(info.Size))
	}
	return err
}
