package router

import (
	"encoding/binary"
	"errors"

	"stasis/store"
)

// maxText bounds a string in a record, in bytes.
const maxText = 4096

var errRecord = errors.New("the record is damaged")

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// appendString writes a string with its length; a longer one than maxText is cut,
// as all of them are for people.
func appendString(b []byte, s string) []byte {
	if len(s) > maxText {
		s = s[:maxText]
	}
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// reader takes a record apart. After the first thing that does not fit every
// further answer is zero and end tells.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) version(want byte) {
	if p := r.take(1); p != nil && p[0] != want {
		r.bad = true
	}
}

func (r *reader) byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) flag() bool {
	c := r.byte()
	if c > 1 {
		r.bad = true
	}
	return c == 1
}

func (r *reader) fixed(into []byte) { copy(into, r.take(len(into))) }

func (r *reader) uvarint() uint64 {
	if r.bad {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// bounded is an uvarint of at most limit.
func (r *reader) bounded(limit uint64) uint64 {
	v := r.uvarint()
	if v > limit {
		r.bad = true
		return 0
	}
	return v
}

func (r *reader) varint() int64 {
	if r.bad {
		return 0
	}
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// text is for people alone, so it is made printable: who wrote the disk is not known.
func (r *reader) text() string {
	return store.Printable(string(r.take(int(r.bounded(maxText)))), maxText)
}

// end is nil if the record was read to its end and everything fitted.
func (r *reader) end(op string) error {
	if r.bad || len(r.b) > 0 {
		return &store.Error{Kind: store.Corrupt, Op: op, Err: errRecord,
			Hint: "run `stasis check`; a backup of the ledger can be restored with `stasis restore`"}
	}
	return nil
}
