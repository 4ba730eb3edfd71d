package container

import (
	"encoding/binary"
	"errors"
	"fmt"

	"stasis/store"
	"stasis/store/booking"
)

// recordKind says what a record of the log does.
type recordKind uint8

const (
	crateRecord       recordKind = 1 // a crate is there
	extentsRecord     recordKind = 2 // further extents of the crate in the record before
	drawRecord        recordKind = 3 // a crate was charged to a reservation
	discardRecord     recordKind = 4 // a crate is gone
	termsRecord       recordKind = 5 // a reservation was made or changed
	reservationRecord recordKind = 6 // a reservation as a checkpoint has it: with what was drawn
	endRecord         recordKind = 7 // a reservation is gone
	stateRecord       recordKind = 8 // the next sequence number; opens a checkpoint
)

const (
	recordHeader = 1 + 2 // kind, length of what follows

	// maxRecord is the longest record, in bytes: records are not cut at the end of a
	// page, so no more than this is wasted there.
	maxRecord = 512

	crateFixed   = 16 + 1 + 8 + 8 + 32 + 1
	extentsFixed = 8 + 1
	crateInline  = (maxRecord - recordHeader - crateFixed) / 8
	extentsEach  = (maxRecord - recordHeader - extentsFixed) / 8

	reservationRecordBytes = recordHeader + booking.TermsSize + 8
	stateRecordBytes       = recordHeader + 8
)

// crateRecordBytes is what the records of a crate with n extents take, in bytes.
func crateRecordBytes(n int) int64 {
	b := int64(recordHeader+crateFixed) + 8*int64(n)
	if more := n - crateInline; more > 0 {
		b += int64((more+extentsEach-1)/extentsEach) * (recordHeader + extentsFixed)
	}
	return b
}

// logPagesFor bounds how many pages records of so many bytes take.
func logPagesFor(bytes int64) int64 {
	const each = payloadSize - maxRecord + 1
	return (bytes + each - 1) / each
}

// begin starts a record; the length is filled in by end.
func begin(b []byte, k recordKind) []byte { return append(b, byte(k), 0, 0) }

func end(b []byte) []byte {
	binary.BigEndian.PutUint16(b[1:], uint16(len(b)-recordHeader))
	return b
}

// encodeCrate gives the records of a crate.
func encodeCrate(c *crate) [][]byte {
	b := begin(make([]byte, 0, recordHeader+crateFixed+8*min(len(c.extents), crateInline)), crateRecord)
	b = append(b, c.id[:]...)
	b = append(b, byte(c.form))
	b = binary.BigEndian.AppendUint64(b, uint64(c.size))
	b = binary.BigEndian.AppendUint64(b, c.seq)
	b = append(b, c.root[:]...)
	rest := c.extents
	b, rest = encodeExtents(b, rest, crateInline)
	out := [][]byte{end(b)}
	for len(rest) > 0 {
		b := begin(nil, extentsRecord)
		b = binary.BigEndian.AppendUint64(b, c.seq)
		b, rest = encodeExtents(b, rest, extentsEach)
		out = append(out, end(b))
	}
	return out
}

// encodeExtents writes up to most extents after a byte whose upper bit says that
// more follow in the next record.
func encodeExtents(b []byte, es []extent, most int) (out []byte, rest []extent) {
	n := min(len(es), most)
	flag := byte(n)
	if n < len(es) {
		flag |= moreExtents
	}
	b = append(b, flag)
	for _, e := range es[:n] {
		b = binary.BigEndian.AppendUint64(b, e.pack())
	}
	return b, es[n:]
}

const moreExtents = 0x80

func encodeDraw(id store.ReservationID, charge int64) []byte {
	b := append(begin(nil, drawRecord), id[:]...)
	return end(binary.BigEndian.AppendUint64(b, uint64(charge)))
}

func encodeDiscard(id store.CrateID, seq uint64) []byte {
	b := append(begin(nil, discardRecord), id[:]...)
	return end(binary.BigEndian.AppendUint64(b, seq))
}

func encodeTerms(t booking.Terms) []byte {
	return end(append(begin(nil, termsRecord), t.Encode()...))
}

func encodeReservation(r booking.Record) []byte {
	b := append(begin(nil, reservationRecord), r.Terms.Encode()...)
	return end(binary.BigEndian.AppendUint64(b, uint64(r.Drawn)))
}

func encodeEnd(id store.ReservationID) []byte {
	return end(append(begin(nil, endRecord), id[:]...))
}

func encodeState(nextSeq uint64) []byte {
	return end(binary.BigEndian.AppendUint64(begin(nil, stateRecord), nextSeq))
}

// record is one decoded record.
type record struct {
	kind        recordKind
	crate       crate // extents: those of this record only
	more        bool  // more extents follow
	reservation store.ReservationID
	bytes       int64 // charged or drawn
	terms       booking.Terms
	nextSeq     uint64
}

var errRecord = errors.New("not a valid record of the log")

// decodeRecords reads the payload of a page of the log.
func decodeRecords(b []byte, each func(*record) error) error {
	for len(b) > 0 {
		if len(b) < recordHeader {
			return errRecord
		}
		n := recordHeader + int(binary.BigEndian.Uint16(b[1:]))
		if n > len(b) || n > maxRecord {
			return errRecord
		}
		r, err := decodeRecord(recordKind(b[0]), b[recordHeader:n])
		if err != nil {
			return err
		}
		if err := each(r); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func decodeRecord(kind recordKind, b []byte) (*record, error) {
	r := &record{kind: kind}
	u64 := func(at int) uint64 { return binary.BigEndian.Uint64(b[at:]) }
	size := map[recordKind]int{
		drawRecord: 24, discardRecord: 24, termsRecord: booking.TermsSize,
		reservationRecord: booking.TermsSize + 8, endRecord: 16, stateRecord: 8,
	}
	if want, ok := size[kind]; ok && len(b) != want {
		return nil, errRecord
	}
	var err error
	switch kind {
	case crateRecord:
		if len(b) < crateFixed {
			return nil, errRecord
		}
		c := &r.crate
		copy(c.id[:], b)
		c.form, c.size, c.seq = store.Form(b[16]), int64(u64(17)), u64(25)
		copy(c.root[:], b[33:])
		c.extents, r.more, err = decodeExtents(b[crateFixed-1:])
	case extentsRecord:
		if len(b) < extentsFixed {
			return nil, errRecord
		}
		r.crate.seq = u64(0)
		r.crate.extents, r.more, err = decodeExtents(b[8:])
	case drawRecord:
		copy(r.reservation[:], b)
		r.bytes = int64(u64(16))
	case discardRecord:
		copy(r.crate.id[:], b)
		r.crate.seq = u64(16)
	case termsRecord:
		r.terms, err = booking.DecodeTerms(b)
	case reservationRecord:
		r.bytes = int64(u64(booking.TermsSize))
		r.terms, err = booking.DecodeTerms(b[:booking.TermsSize])
	case endRecord:
		copy(r.reservation[:], b)
	case stateRecord:
		r.nextSeq = u64(0)
	default:
		return nil, fmt.Errorf("%w: kind %d", errRecord, kind)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	if r.bytes < 0 || r.bytes > MaxCapacity {
		return nil, errRecord
	}
	return r, nil
}

func decodeExtents(b []byte) (es []extent, more bool, err error) {
	n := int(b[0] &^ moreExtents)
	if len(b) != 1+8*n {
		return nil, false, errRecord
	}
	es = make([]extent, n)
	for i := range es {
		es[i] = unpackExtent(binary.BigEndian.Uint64(b[1+8*i:]))
	}
	return es, b[0]&moreExtents != 0, nil
}

// apply brings records into the state one after the other. open is the crate
// whose extents are not all there yet.
type applier struct {
	*state
	limit int64 // pages of the container
	open  *crate
}

// apply fails on records that no container writes: a sign of a fault, as their
// page was whole.
func (a *applier) apply(r *record) error {
	if a.open != nil && r.kind != extentsRecord {
		return fmt.Errorf("%w: a crate ends early", errRecord)
	}
	switch r.kind {
	case crateRecord:
		c := r.crate
		return a.extents(&c, r.more)
	case extentsRecord:
		if a.open == nil || a.open.seq != r.crate.seq {
			return fmt.Errorf("%w: extents of no crate", errRecord)
		}
		a.open.extents = append(a.open.extents, r.crate.extents...)
		return a.extents(a.open, r.more)
	case drawRecord:
		a.draw(r.reservation, r.bytes)
	case discardRecord:
		if c, ok := a.get(r.crate.id); ok && c.seq == r.crate.seq {
			a.drop(r.crate.id)
		}
	case termsRecord:
		a.save(r.terms)
	case reservationRecord:
		a.reservations[r.terms.ID] = booking.Record{Terms: r.terms, Drawn: r.bytes}
	case endRecord:
		delete(a.reservations, r.reservation)
	case stateRecord:
		a.nextSeq = max(a.nextSeq, r.nextSeq)
	}
	return nil
}

func (a *applier) extents(c *crate, more bool) error {
	a.open = nil
	if more {
		a.open = c
		return nil
	}
	if !c.valid(a.limit) {
		return fmt.Errorf("%w: crate %s can't be as it says", errRecord, c.id)
	}
	a.add(c)
	return nil
}
