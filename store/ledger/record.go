package ledger

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Record kinds.
const (
	kindStart  = 1 // the first record of a segment
	kindUpdate = 2
	kindMark   = 3 // says how far the journal was durable when it was written
)

// Operations within an update.
const (
	opPut    = 1
	opDelete = 2
)

// eachItsOwn is the space of a record of which each change says its own.
const eachItsOwn SpaceID = 0

const (
	recordHeader = 32
	recordAlign  = 8
	// maxRecord is the longest record, in bytes: an update of the largest size.
	maxRecord = recordHeader + MaxUpdateBytes + MaxUpdateKeys*changeOverhead + recordAlign
	// changeOverhead is what a change takes in a record beside its key and value, in bytes, at
	// most: operation, space and two lengths.
	changeOverhead = 2 + 2*binary.MaxVarintLen32
)

// change is one key of an update. A nil value with deleted unset is an empty one.
type change struct {
	key, value []byte
	space      SpaceID
	deleted    bool
}

// spaceOf is the space of all changes of an update, or eachItsOwn.
func spaceOf(changes []change) SpaceID {
	if first := changes[0].space; first == changes[len(changes)-1].space { // they are sorted
		return first
	}
	return eachItsOwn
}

// formatOf is the oldest format in which an update can be written.
func formatOf(changes []change) uint32 {
	if spaceOf(changes) == eachItsOwn || len(changes) > SmallUpdateKeys {
		return formatSpans
	}
	return formatFirst
}

// record is one record of a segment.
type record struct {
	kind     uint8
	space    SpaceID  // of all changes of an update, or eachItsOwn
	count    int      // changes in the payload
	position Position // of the update; of the last update before a start or mark
	synced   Position // durable when the record was written
	payload  []byte
}

// seal is what ties a record to one life of one segment file: segments are
// recycled, and a record of a former life must not be taken for one of this.
type seal struct {
	crc uint32 // of the salt: the start value of each record's checksum
	tag uint32
}

func newSeal(salt uint64) seal {
	b := binary.LittleEndian.AppendUint64(nil, salt)
	return seal{crc: crc32.Checksum(b, castagnoli), tag: uint32(salt>>32) ^ uint32(salt) ^ 0x5374614c}
}

// appendRecord appends r with the payload made of changes.
func (s seal) appendRecord(b []byte, r record, changes []change) []byte {
	start := len(b)
	b = append(b, make([]byte, recordHeader)...)
	for _, c := range changes {
		op := byte(opPut)
		if c.deleted {
			op = opDelete
		}
		if b = append(b, op); r.space == eachItsOwn {
			b = append(b, byte(c.space))
		}
		b = binary.AppendUvarint(b, uint64(len(c.key)))
		b = append(b, c.key...)
		if !c.deleted {
			b = binary.AppendUvarint(b, uint64(len(c.value)))
			b = append(b, c.value...)
		}
	}
	h := b[start:]
	binary.LittleEndian.PutUint32(h[4:], s.tag)
	binary.LittleEndian.PutUint32(h[8:], uint32(len(h)-recordHeader))
	h[12] = r.kind
	h[13] = byte(r.space)
	binary.LittleEndian.PutUint16(h[14:], uint16(len(changes)))
	binary.LittleEndian.PutUint64(h[16:], uint64(r.position))
	binary.LittleEndian.PutUint64(h[24:], uint64(r.synced))
	binary.LittleEndian.PutUint32(h, crc32.Update(s.crc, castagnoli, h[4:]))
	for (len(b)-start)%recordAlign != 0 {
		b = append(b, 0)
	}
	return b
}

// parseRecord reads the record at the start of b and the length that it takes
// there. The payload shares b's memory.
func (s seal) parseRecord(b []byte) (r record, length int, ok bool) {
	if len(b) < recordHeader || binary.LittleEndian.Uint32(b[4:]) != s.tag {
		return record{}, 0, false
	}
	end := uint64(recordHeader) + uint64(binary.LittleEndian.Uint32(b[8:]))
	if end > maxRecord || end > uint64(len(b)) {
		return record{}, 0, false
	}
	if binary.LittleEndian.Uint32(b) != crc32.Update(s.crc, castagnoli, b[4:end]) {
		return record{}, 0, false
	}
	r = record{
		kind:     b[12],
		space:    SpaceID(b[13]),
		count:    int(binary.LittleEndian.Uint16(b[14:])),
		position: Position(binary.LittleEndian.Uint64(b[16:])),
		synced:   Position(binary.LittleEndian.Uint64(b[24:])),
		payload:  b[recordHeader:end],
	}
	if r.kind < kindStart || r.kind > kindMark {
		return record{}, 0, false
	}
	padded := (end + recordAlign - 1) &^ (recordAlign - 1)
	return r, int(min(padded, uint64(len(b)))), true
}

// changes decodes an update's payload into memory of its own. ok is false if the
// payload is not what a writer of this version can have written.
func (r record) changes() (out []change, ok bool) {
	if r.kind != kindUpdate || r.space != eachItsOwn && !validSpace(r.space) || r.count > MaxUpdateKeys {
		return nil, false
	}
	b := bytes.Clone(r.payload)
	out = make([]change, 0, r.count)
	for range r.count {
		if len(b) == 0 {
			return nil, false
		}
		op := b[0]
		c := change{space: r.space}
		if b = b[1:]; r.space == eachItsOwn {
			if len(b) == 0 || !validSpace(SpaceID(b[0])) {
				return nil, false
			}
			c.space, b = SpaceID(b[0]), b[1:]
		}
		if c.key, b, ok = cutBytes(b); !ok || len(c.key) == 0 || len(c.key) > MaxKey {
			return nil, false
		}
		switch op {
		case opPut:
			if c.value, b, ok = cutBytes(b); !ok {
				return nil, false
			}
		case opDelete:
			c.deleted = true
		default:
			return nil, false
		}
		out = append(out, c)
	}
	return out, len(b) == 0
}

// cutBytes takes a length and so many bytes from the front of b.
func cutBytes(b []byte) (head, tail []byte, ok bool) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return nil, nil, false
	}
	end := used + int(n)
	return b[used:end:end], b[end:], true
}

// scanRecords gives every valid record of a segment's bytes, in order. Past
// damage it goes on at the next valid record: what lies there decides whether the
// damage is a torn tail or a loss. end is where the last valid record ends; damaged is
// where the first damage between records was found, or -1.
func (s seal) scanRecords(b []byte, start int, each func(offset int, r record) error) (end, damaged int, err error) {
	end, damaged = start, -1
	for at := start; at+recordHeader <= len(b); {
		r, n, ok := s.parseRecord(b[at:])
		if !ok {
			at += recordAlign
			continue
		}
		if at != end && damaged < 0 {
			damaged = end
		}
		if err := each(at, r); err != nil {
			return end, damaged, err
		}
		at += n
		end = at
	}
	return end, damaged, nil
}
