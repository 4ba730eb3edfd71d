package host

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"stasis/store"
	"stasis/store/booking"
	"stasis/store/ledger"
)

// openSpool makes the spool and asks whether the store adopts from it.
func (h *Host) openSpool() error {
	if h.o.Spool == "" {
		return nil
	}
	path, err := filepath.Abs(h.o.Spool)
	if err != nil {
		return diskError("open the spool", err)
	}
	h.o.Spool = path
	if err := os.MkdirAll(path, 0o700); err != nil {
		return &store.Error{Kind: store.Unavailable, Op: "open the spool", Subject: path, Err: err}
	}
	if a, ok := h.store.(store.Adopter); ok && a.AdoptsFrom(path) {
		h.adopter = a
		if _, some := a.(adoptsUnder); !some {
			return nil
		}
	}
	h.transit, err = booking.OpenTransit(path, SpoolFloor, h.o.Clock)
	return err
}

// sweepSpool removes files that no interrupted upload names.
func (h *Host) sweepSpool() error {
	if h.o.Spool == "" {
		return nil
	}
	entries, err := os.ReadDir(h.o.Spool)
	if err != nil {
		return diskError("open the spool", err)
	}
	mine := make(map[string]bool)
	for _, o := range h.owners {
		for _, p := range o.partials {
			mine[filepath.Base(p.path)] = true
		}
	}
	for _, e := range entries {
		if mine[e.Name()] {
			continue
		}
		if _, err := uuid.Parse(e.Name()); err != nil || !e.Type().IsRegular() {
			h.log.WithField("file", e.Name()).Warn("a file in the spool is not one of its own; it is left alone")
			continue
		}
		if err := os.Remove(filepath.Join(h.o.Spool, e.Name())); err != nil {
			return diskError("sweep the spool", err)
		}
	}
	return nil
}

func (h *Host) spoolPath(file [16]byte) string {
	return filepath.Join(h.o.Spool, uuid.UUID(file).String())
}

// adoptsUnder is a store that adopts some of what it is given, depending on the reservation.
type adoptsUnder interface {
	AdoptsUnder(id store.ReservationID) bool
}

// spooled adds to the bytes that lie in the spool for an upload and tells of it whoever keeps
// the account of the disk, which does not charge them twice.
func (h *Host) spooled(p *partial, n int64) {
	if n == 0 {
		return
	}
	h.resident.Lock()
	h.resident.bytes = max(0, h.resident.bytes+n)
	if h.transit == nil {
		h.adopter.Resident(h.resident.bytes)
	}
	h.resident.Unlock()
	if n > 0 {
		p.room.Written(n)
	} else {
		p.room.Removed(-n)
	}
}

// room sees to it that the file of an upload has its space on the disk of the spool: what the
// store has promised where it is going to take over the file, or else the owner's part of
// what is free there. The owner's own interrupted uploads give way.
func (o *owner) room(ctx context.Context, p *partial) error {
	if o.h.transit == nil || p.room != nil {
		return nil
	}
	defer func() { p.room.Written(p.have) }()
	if o.adopts(p) {
		p.room = o.h.transit.Cover()
		return nil
	}
	for {
		room, err := o.h.transit.Hold(ctx, o.id, p.rec.size, o.h.mayHold)
		if p.room = room; !errors.Is(err, store.NoSpace) {
			return err
		}
		oldest := o.takeOldest(func(q *partial) bool { return q.room != nil && !q.room.Covered() })
		if oldest == nil {
			return err
		}
		o.drop(oldest)
	}
}

// adopts reports whether the store is going to take over the file of an upload.
func (o *owner) adopts(p *partial) bool {
	if o.h.adopter == nil {
		return false
	}
	a, some := o.h.adopter.(adoptsUnder)
	return !some || a.AdoptsUnder(p.claim.lease.inner)
}

// partial is an upload: the whole blocks that are in its file. It belongs to whoever has
// taken it out of owner.partials.
type partial struct {
	id    store.CrateID
	rec   partialRecord
	path  string
	file  *os.File // nil while nobody writes
	have  int64    // bytes, in whole blocks unless it is complete
	sums  []store.Digest
	from  int64 // the first block whose digest is known: those before lay here at the start
	begun bool  // the ledger has its record
	claim *claim
	room  *booking.Passage // of the file; nil where it is on the store's account
	// rested is since when nobody sends it, by booking.Clock.
	rested time.Duration
}

// loadPartials brings back the uploads that a stop has interrupted.
func (o *owner) loadPartials(ctx context.Context) error {
	var lost [][]byte
	err := o.h.each(o.key(tablePartial), func(k, v []byte) error {
		rec, err := decodePartial(v)
		if err != nil {
			return err
		}
		p := &partial{id: store.CrateID(k[len(k)-16:]), rec: rec, path: o.h.spoolPath(rec.file), begun: true, rested: o.h.o.Clock.Boot()}
		info, err := os.Lstat(p.path)
		if o.h.o.Spool != "" && err == nil && info.Mode().IsRegular() {
			p.from = min(info.Size(), rec.size) / store.BlockSize
			have := p.from * store.BlockSize
			if p.claim, err = o.take(rec.reservation, p.id, rec.size); err == nil {
				if o.room(ctx, p) == nil && p.claim.rest() {
					o.partials[p.id], p.have = p, have
					o.h.spooled(p, have)
					return nil
				}
				p.claim.undo()
				p.room.End()
			}
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return diskError("open the spool", err)
		}
		lost = append(lost, k)
		return nil
	})
	if err != nil || len(lost) == 0 {
		return err
	}
	for _, k := range lost {
		if _, err := o.h.space.Update(func(tx *ledger.Tx) error { tx.Delete(k); return nil }); err != nil {
			return err
		}
	}
	return nil
}

// goesOn reports whether a put may go on with an upload: it must say what the bytes are to
// become, or nobody could tell whether the parts belong together. Who began the upload need
// not have known.
func (p *partial) goesOn(r store.PutRequest) bool {
	unknown := p.rec.root == (store.Digest{})
	return r.Expect != nil && (unknown || p.rec.root == *r.Expect) && p.rec.size == r.Size && p.rec.form == r.Form
}

// begin gives the upload for a put: an interrupted one that fits, its space taken up
// again, or a new one.
func (o *owner) begin(r store.PutRequest) (*partial, error) {
	o.mu.Lock()
	p := o.partials[r.Crate]
	delete(o.partials, r.Crate)
	o.mu.Unlock()
	if p != nil {
		if p.goesOn(r) {
			p.rec.root = *r.Expect
			if p.claim.wake(r.Reservation) {
				return p, nil
			}
			p.claim.undo()
			c, err := o.take(r.Reservation, r.Crate, r.Size)
			if err == nil {
				p.claim, p.rec.reservation, p.begun = c, r.Reservation, false
				p.room.End() // it is found anew, as the store may have promised it
				p.room = nil
				return p, nil
			}
			o.drop(p)
			return nil, err
		}
		o.drop(p)
	}
	c, err := o.take(r.Reservation, r.Crate, r.Size)
	if err != nil {
		return nil, err
	}
	p = &partial{id: r.Crate, claim: c, rec: partialRecord{
		form: r.Form, size: r.Size, reservation: r.Reservation, file: uuid.New(),
	}}
	if r.Expect != nil {
		p.rec.root = *r.Expect
	}
	p.path = o.h.spoolPath(p.rec.file)
	return p, nil
}

// drop gives up an upload with its file and its space.
func (o *owner) drop(p *partial) {
	o.unlink(p)
	p.room.End()
	p.room = nil
	p.claim.undo()
	if !p.begun {
		return
	}
	_, err := o.h.space.Update(func(tx *ledger.Tx) error {
		k := o.key(tablePartial, p.id[:]...)
		if v, ok, err := tx.Get(k); err != nil || !ok {
			return err
		} else if rec, err := decodePartial(v); err != nil || rec.file != p.rec.file {
			return err // another upload of the same crate has begun since
		}
		tx.Delete(k)
		return nil
	})
	if err != nil {
		o.h.log.WithError(err).Warn("the record of a dropped upload could not be removed; the next open does it")
	}
}

// unlink removes an upload's file.
func (o *owner) unlink(p *partial) {
	if p.file != nil {
		_ = p.file.Close() // its bytes don't count any more
		p.file = nil
	}
	if p.room.Covered() {
		p.room.Removed(p.have) // before the space is free, which would be counted twice
	}
	if err := os.Remove(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.h.log.WithError(err).Warn("an upload could not be removed from the spool; the next open does it")
	}
	o.h.spooled(p, -p.have)
	p.have, p.from = 0, 0
}

// rest leaves an upload to be resumed, where it can be.
func (o *owner) rest(p *partial) {
	if p.file != nil {
		_ = p.file.Close() // what is lost of it is noticed when it is complete
		p.file = nil
	}
	if !p.begun || p.have == 0 || !p.claim.rest() {
		o.drop(p)
		return
	}
	p.rested = o.h.o.Clock.Boot()
	o.mu.Lock()
	full := len(o.partials) >= PartialsAnOwner
	if !full {
		o.partials[p.id] = p
	}
	ended := p.claim.lease.ended
	o.mu.Unlock()
	if full {
		o.drop(p)
	} else if ended {
		// It has ended since, and whoever ended it may have missed this one.
		o.dropPartials(func(q *partial) bool { return q == p })
	}
}

// dropPartials drops the interrupted uploads that which names.
func (o *owner) dropPartials(which func(*partial) bool) {
	var out []*partial
	o.mu.Lock()
	for id, p := range o.partials {
		if which(p) {
			out = append(out, p)
			delete(o.partials, id)
		}
	}
	o.mu.Unlock()
	for _, p := range out {
		o.drop(p)
	}
}

// dropOldest drops the oldest interrupted upload under a reservation; false if there is
// none.
func (o *owner) dropOldest(reservation store.ReservationID) bool {
	oldest := o.takeOldest(func(p *partial) bool { return p.claim.lease.id == reservation })
	if oldest != nil {
		o.drop(oldest)
	}
	return oldest != nil
}

// takeOldest takes out the oldest of the interrupted uploads that which names; nil if there
// is none.
func (o *owner) takeOldest(which func(*partial) bool) *partial {
	var oldest *partial
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.partials {
		if which(p) && (oldest == nil || p.rested < oldest.rested) {
			oldest = p
		}
	}
	if oldest != nil {
		delete(o.partials, oldest.id)
	}
	return oldest
}
