package booking

import (
	"fmt"

	"stasis/store"
)

// Draw is one crate's charge, taken from a reservation and not yet a fact. It
// ends with exactly one Commit or Undo; what comes after that does nothing, so
// that Undo can be deferred. A Draw outlives the lapse or release of its
// reservation: the space it holds stays held.
//
// A Draw belongs to one Put; its methods are not for concurrent use.
type Draw struct {
	b        *Book
	e        *entry
	charge   int64
	written  int64
	resident int64
	done     bool
}

// Draw takes charge bytes for a crate: NotFound if the reservation is unknown or
// lapsed, NoSpace if it has too little left.
func (b *Book) Draw(id store.ReservationID, crate store.CrateID, charge int64) (*Draw, error) {
	b.dev.mu.Lock()
	defer b.dev.mu.Unlock()
	b.lapse()
	e := b.res[id]
	if e == nil {
		return nil, lapsed("put crate "+crate.String()+" under reservation", id)
	}
	if has := e.terms.Bytes - e.drawn - e.tentative; charge > has {
		return nil, b.full("put crate", fmt.Sprintf("%s under reservation %s", crate, id), charge, has)
	}
	e.tentative += charge
	return &Draw{b: b, e: e, charge: charge}, nil
}

// Charge is what was drawn, in bytes.
func (d *Draw) Charge() int64 { return d.charge }

// Reservation is what it was drawn from.
func (d *Draw) Reservation() store.ReservationID { return d.e.terms.ID }

// Written says that n more bytes of the crate have been written, so that they
// are not counted twice: as promised and as taken from the device.
func (d *Draw) Written(n int64) {
	d.b.dev.mu.Lock()
	defer d.b.dev.mu.Unlock()
	n = min(n, d.charge-d.written)
	if d.done || n <= 0 {
		return
	}
	d.written += n
	d.b.landed += n
	d.b.dev.moved += n
}

// Removed says that n bytes that were written are gone again, and are to be written anew.
func (d *Draw) Removed(n int64) {
	d.b.dev.mu.Lock()
	defer d.b.dev.mu.Unlock()
	n = min(n, d.written)
	if d.done || n <= 0 {
		return
	}
	d.written -= n
	d.b.landed -= n
}

// Adopts says that the crate is a file of so many bytes that was counted as
// Resident: a Commit takes it off that figure.
func (d *Draw) Adopts(bytes int64) { d.resident = bytes }

// Commit makes it a fact: the crate is durable, and the store has persisted the
// charge with it.
func (d *Draw) Commit() {
	d.b.dev.mu.Lock()
	defer d.b.dev.mu.Unlock()
	if d.done {
		return
	}
	d.close()
	d.e.drawn += d.charge
	d.b.outstanding -= d.charge
	d.b.dev.moved += d.charge - d.written
	d.b.resident = max(0, d.b.resident-d.resident)
	d.b.totals.Used += d.charge
	d.b.totals.Crates++
}

// Undo gives the charge back to the reservation, or to the store if the
// reservation has ended. Whatever was written must be gone by then.
func (d *Draw) Undo() {
	d.b.dev.mu.Lock()
	defer d.b.dev.mu.Unlock()
	if d.done {
		return
	}
	d.close()
	if d.e.ended {
		d.b.outstanding -= d.charge
	}
}

func (d *Draw) close() {
	d.done = true
	d.e.tentative -= d.charge
	d.b.landed -= d.written
}
