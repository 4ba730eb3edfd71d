package body

import "math/bits"

// Unit is the unit in which changes are tracked, in bytes: the page of memory
// and, on every filesystem that matters, the block that a disk writes whole.
const Unit = 4096

// Map says which units of a file a body holds. The zero value holds none.
type Map struct{ words []uint64 }

// Has reports whether unit u is held.
func (m *Map) Has(u int64) bool {
	w := u / 64
	return w < int64(len(m.words)) && m.words[w]&(1<<(u%64)) != 0
}

// set marks the units [from, to) and reports whether any was new.
func (m *Map) set(from, to int64) bool {
	if to <= from {
		return false
	}
	if need := int((to + 63) / 64); need > len(m.words) {
		grown := make([]uint64, max(need, 2*len(m.words)))
		copy(grown, m.words)
		m.words = grown
	}
	fresh := false
	for u := from; u < to; {
		w, n := u/64, min(64-u%64, to-u)
		mask := (^uint64(0) >> (64 - n)) << (u % 64)
		if m.words[w]&mask != mask {
			m.words[w] |= mask
			fresh = true
		}
		u += n
	}
	return fresh
}

// cut forgets the units from u on.
func (m *Map) cut(u int64) {
	w := u / 64
	if w >= int64(len(m.words)) {
		return
	}
	m.words[w] &= 1<<(u%64) - 1
	clear(m.words[w+1:])
}

// Run gives the length, in units and at most to, of the run of held (or not
// held) units that starts at u.
func (m *Map) Run(u, to int64) (n int64, held bool) {
	held = m.Has(u)
	for u+n < to {
		w, b := (u+n)/64, (u+n)%64
		word := uint64(0)
		if w < int64(len(m.words)) {
			word = m.words[w]
		} else if !held {
			return to - u, false
		}
		if held {
			word = ^word
		}
		step := int64(bits.TrailingZeros64(word >> b))
		if step < 64-b {
			return min(n+step, to-u), held
		}
		n += 64 - b
	}
	return to - u, held
}

// bytes is the file form: one bit a unit, the first unit in the lowest bit.
func (m *Map) bytes() []byte {
	return m.slice(0, int64(len(m.words))*8)
}

// slice gives the bytes [from, to) of the file form.
func (m *Map) slice(from, to int64) []byte {
	b := make([]byte, to-from)
	for i := range b {
		at := from + int64(i)
		if w := at / 8; w < int64(len(m.words)) {
			b[i] = byte(m.words[w] >> (8 * (at % 8)))
		}
	}
	return b
}

func mapOf(b []byte) Map {
	m := Map{words: make([]uint64, (len(b)+7)/8)}
	for i, c := range b {
		m.words[i/8] |= uint64(c) << (8 * (i % 8))
	}
	return m
}
