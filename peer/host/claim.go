package host

import (
	"context"
	"errors"

	"stasis/store"
	"stasis/store/booking"
)

// claim is the space of one crate on its way in. It ends with one commit or undo, which
// may be followed by further ones without effect.
type claim struct {
	o      *owner
	lease  *lease
	draw   *booking.Draw
	charge int64
	idle   bool // held for an interrupted upload
	done   bool
}

// take draws the space of a crate from a reservation of the owner. Interrupted uploads
// under the same reservation give way.
func (o *owner) take(reservation store.ReservationID, id store.CrateID, size int64) (*claim, error) {
	c, err := o.tryTake(reservation, id, size)
	for errors.Is(err, store.NoSpace) && o.dropOldest(reservation) {
		c, err = o.tryTake(reservation, id, size)
	}
	return c, err
}

func (o *owner) tryTake(reservation store.ReservationID, id store.CrateID, size int64) (*claim, error) {
	charge := store.Charge(size)
	o.mu.Lock()
	defer o.mu.Unlock()
	if l := o.leases[reservation]; l != nil {
		charge *= l.count()
	}
	draw, err := o.book.Draw(reservation, id, charge)
	if err != nil {
		return nil, err
	}
	l := o.leases[reservation]
	if l == nil {
		draw.Undo()
		return nil, lapsed(opPut, reservation)
	}
	l.active += charge
	return &claim{o: o, lease: l, draw: draw, charge: charge}, nil
}

// rest says that the space is held for an upload that nobody sends any more; false if
// its reservation has ended, so that it can't be.
func (c *claim) rest() bool {
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	if c.lease.ended || c.done || c.idle {
		return false
	}
	c.idle = true
	c.lease.active -= c.charge
	return true
}

// wake takes the space up again for a put under the reservation; false if it is of
// another, or ended.
func (c *claim) wake(reservation store.ReservationID) bool {
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	if c.lease.ended || c.done || c.lease.id != reservation {
		return false
	}
	if c.idle {
		c.idle = false
		c.lease.active += c.charge
	}
	return true
}

// commit makes it a fact: the crate is recorded.
func (c *claim) commit() { c.finish(true) }

// undo gives the space back to the reservation.
func (c *claim) undo() { c.finish(false) }

func (c *claim) finish(kept bool) {
	o := c.o
	o.mu.Lock()
	if c.done {
		o.mu.Unlock()
		return
	}
	c.done = true
	if !c.idle {
		c.lease.active -= c.charge
	}
	if kept {
		c.lease.drawn += c.charge
		c.draw.Commit()
	} else {
		c.draw.Undo()
	}
	over := c.lease.ended && c.lease.active == 0
	o.mu.Unlock()
	if over {
		ctx, cancel := context.WithTimeout(o.h.ctx, undoLimit)
		defer cancel()
		o.later(o.giveBackOne(ctx, c.lease))
	}
}
