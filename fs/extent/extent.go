// Package extent is the arithmetic of a file's content: an ordered list of
// pieces, each of which lies in a crate. It holds no state and does no I/O.
//
// Words. An extent says that Length bytes of a file from Offset are the bytes of
// a crate from CrateOffset. A list is a file's extents in order; what no extent
// covers is a hole and reads as zeros. At rest an extent starts at a block
// boundary (store.BlockSize), in the file and in the crate, and only the last of a
// list may end inside a block.
//
// Invariants: extents of a list don't overlap, and a list is never changed once an
// inode names it; a change makes a new list.
package extent

import (
	"encoding/binary"
	"fmt"
	"sort"

	"stasis/store"
)

// Extent is one piece of a file. Offsets and lengths are in bytes.
type Extent struct {
	Offset      int64
	Length      int64
	Crate       store.CrateID
	CrateOffset int64
}

// End is the offset of the first byte after the extent.
func (e Extent) End() int64 { return e.Offset + e.Length }

// Overlay gives the list that shows base, cut at limit bytes, with the pieces of
// top over it. Both are ordered; the pieces of top don't overlap each other.
func Overlay(base, top []Extent, limit int64) []Extent {
	out := make([]Extent, 0, len(base)+2*len(top))
	t := 0
	for _, e := range base {
		if e.Offset >= limit {
			break
		}
		if e.End() > limit {
			e.Length = limit - e.Offset
		}
		for t < len(top) && top[t].End() <= e.Offset {
			t++
		}
		at := e.Offset
		for i := t; i < len(top) && top[i].Offset < e.End(); i++ {
			if top[i].Offset > at {
				out = append(out, e.slice(at, top[i].Offset))
			}
			at = max(at, top[i].End())
		}
		if at < e.End() {
			out = append(out, e.slice(at, e.End()))
		}
	}
	out = append(out, top...)
	sort.Slice(out, func(i, j int) bool { return out[i].Offset < out[j].Offset })
	return join(out)
}

// Range is Length bytes of a file from Offset.
type Range struct{ Offset, Length int64 }

// Without gives the list that has holes, which are ordered and don't overlap.
func Without(list []Extent, holes ...Range) []Extent {
	out := make([]Extent, 0, len(list)+len(holes))
	for _, e := range list {
		for len(holes) > 0 && holes[0].Offset+holes[0].Length <= e.Offset {
			holes = holes[1:]
		}
		at := e.Offset
		for i := 0; i < len(holes) && holes[i].Offset < e.End(); i++ {
			if holes[i].Offset > at {
				out = append(out, e.slice(at, holes[i].Offset))
			}
			at = holes[i].Offset + holes[i].Length
		}
		if at < e.End() {
			out = append(out, e.slice(at, e.End()))
		}
	}
	return out
}

// Shift gives what a list has from one offset up to another, as far from there as it was
// from the first.
func Shift(list []Extent, from, to, there int64) []Extent {
	var out []Extent
	for _, e := range list {
		if at, end := max(e.Offset, from), min(e.End(), to); at < end {
			e = e.slice(at, end)
			e.Offset += there - from
			out = append(out, e)
		}
	}
	return out
}

// slice is the part of e between two file offsets inside it.
func (e Extent) slice(from, to int64) Extent {
	return Extent{Offset: from, Length: to - from, Crate: e.Crate, CrateOffset: e.CrateOffset + from - e.Offset}
}

// join merges neighbours that continue each other in one crate.
func join(list []Extent) []Extent {
	out := list[:0]
	for _, e := range list {
		if n := len(out); n > 0 {
			p := &out[n-1]
			if p.Crate == e.Crate && p.End() == e.Offset && p.CrateOffset+p.Length == e.CrateOffset {
				p.Length += e.Length
				continue
			}
		}
		out = append(out, e)
	}
	return out
}

const version = 1

// Encoded lengths, in bytes.
const valueLen = 1 + 8 + 16 + 8

// Value encodes an extent for the ledger; its end is in the key (see Key), so
// that the first key past an offset is the extent that covers it.
func (e Extent) Value() []byte {
	b := make([]byte, 0, valueLen)
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Offset))
	b = append(b, e.Crate[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(e.CrateOffset))
}

// Decode reads an extent from its end and its value.
func Decode(end int64, v []byte) (Extent, error) {
	if len(v) != valueLen || v[0] != version {
		return Extent{}, &store.Error{Kind: store.Corrupt, Op: "read an extent", Detail: fmt.Sprintf("%d bytes of an unknown layout", len(v))}
	}
	e := Extent{Offset: int64(binary.BigEndian.Uint64(v[1:])), CrateOffset: int64(binary.BigEndian.Uint64(v[25:]))}
	copy(e.Crate[:], v[9:25])
	e.Length = end - e.Offset
	if e.Offset < 0 || e.Length <= 0 || e.CrateOffset < 0 || e.CrateOffset > store.MaxCrate-e.Length {
		return Extent{}, &store.Error{Kind: store.Corrupt, Op: "read an extent", Detail: fmt.Sprintf("offset %d, end %d, crate offset %d", e.Offset, end, e.CrateOffset)}
	}
	return e, nil
}
