package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"stasis/store"
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
	}
	return nil
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

// spooled adds to the bytes that lie in the spool and tells the store, which does not
// charge them twice.
func (h *Host) spooled(n int64) {
	if h.adopter == nil || n == 0 {
		return
	}
	h.resident.Lock()
	defer h.resident.Unlock()
	h.resident.bytes = max(0, h.resident.bytes+n)
	h.adopter.Resident(h.resident.bytes)
}

// spoolable tells whether a crate of this size may go through the spool. One from which
// the store adopts has its space reserved; any other must have room to spare.
func (h *Host) spoolable(size int64) bool {
	if h.o.Spool == "" || h.adopter != nil {
		return h.o.Spool != ""
	}
	var st unix.Statfs_t
	if err := unix.Statfs(h.o.Spool, &st); err != nil {
		return false
	}
	return int64(st.Bavail)*st.Bsize-SpoolFloor > size
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
	// rested is since when nobody sends it, by booking.Clock.
	rested time.Duration
}

// loadPartials brings back the uploads that a stop has interrupted.
func (o *owner) loadPartials() error {
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
			p.have = p.from * store.BlockSize
			if p.claim, err = o.take(rec.reservation, p.id, rec.size); err == nil && p.claim.rest() {
				o.partials[p.id] = p
				o.h.spooled(p.have)
				return nil
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
	if err := os.Remove(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.h.log.WithError(err).Warn("an upload could not be removed from the spool; the next open does it")
	}
	o.h.spooled(-p.have)
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
	var oldest *partial
	o.mu.Lock()
	for _, p := range o.partials {
		if p.claim.lease.id == reservation && (oldest == nil || p.rested < oldest.rested) {
			oldest = p
		}
	}
	if oldest != nil {
		delete(o.partials, oldest.id)
	}
	o.mu.Unlock()
	if oldest != nil {
		o.drop(oldest)
	}
	return oldest != nil
}
