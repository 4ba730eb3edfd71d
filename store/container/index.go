package container

import (
	"bytes"

	"github.com/tidwall/btree"

	"stasis/store"
	"stasis/store/booking"
)

// crate is what the index keeps of one crate. It is never changed once it is in
// the index.
type crate struct {
	id      store.CrateID
	form    store.Form
	size    int64
	seq     uint64 // grows with each crate written, never used twice
	root    store.Digest
	extents []extent // the pages of the header, then those of the data
}

func (c *crate) info() store.CrateInfo {
	return store.CrateInfo{ID: c.id, Form: c.form, Size: c.size, Root: c.root}
}

// valid reports whether the extents are as many pages as the crate needs, in
// pages that a container of limit pages has.
func (c *crate) valid(limit int64) bool {
	if c.id.IsZero() || c.size <= 0 || c.size > store.MaxCrate || c.seq == 0 {
		return false
	}
	var sum int64
	for _, e := range c.extents {
		if e.start < firstPage || e.pages <= 0 || e.end() > limit {
			return false
		}
		sum += e.pages
	}
	return sum == headerPages(c.size, len(c.extents))+dataPages(c.size)
}

// state is all that the log says.
type state struct {
	crates       *btree.BTreeG[*crate]
	reservations map[store.ReservationID]booking.Record
	nextSeq      uint64
	used         int64 // bytes of store.Charge
	logBytes     int64 // what the crates take in a checkpoint, in bytes
}

func newState() *state {
	return &state{
		crates: btree.NewBTreeGOptions(func(a, b *crate) bool {
			return bytes.Compare(a.id[:], b.id[:]) < 0
		}, btree.Options{NoLocks: true, Degree: 32}),
		reservations: make(map[store.ReservationID]booking.Record),
		nextSeq:      1,
	}
}

func (s *state) get(id store.CrateID) (*crate, bool) {
	return s.crates.Get(&crate{id: id})
}

// add puts a crate in, in place of one with the same id.
func (s *state) add(c *crate) {
	s.drop(c.id)
	s.crates.Set(c)
	s.used += store.Charge(c.size)
	s.logBytes += crateRecordBytes(len(c.extents))
	s.nextSeq = max(s.nextSeq, c.seq+1)
}

// drop takes a crate out, if it is there.
func (s *state) drop(id store.CrateID) {
	if c, ok := s.crates.Delete(&crate{id: id}); ok {
		s.used -= store.Charge(c.size)
		s.logBytes -= crateRecordBytes(len(c.extents))
	}
}

// draw adds what a crate was charged to its reservation, if that is still there.
func (s *state) draw(id store.ReservationID, charge int64) {
	if r, ok := s.reservations[id]; ok {
		r.Drawn += charge
		s.reservations[id] = r
	}
}

// save sets the terms of a reservation; what was drawn stays.
func (s *state) save(t booking.Terms) {
	s.reservations[t.ID] = booking.Record{Terms: t, Drawn: s.reservations[t.ID].Drawn}
}

// checkpointBytes bounds what a checkpoint of the state takes, in bytes of records.
func (s *state) checkpointBytes() int64 {
	return s.logBytes + int64(len(s.reservations))*reservationRecordBytes + stateRecordBytes
}
