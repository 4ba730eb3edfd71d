package body

import (
	"math/bits"
	"slices"
	"sort"
)

// Unit is the unit in which changes are tracked, in bytes: the page of memory
// and, on every filesystem that matters, the block that a disk writes whole.
const Unit = 4096

const (
	// chunk is how many units are told apart in one part of a map: those whose bits fill a
	// page. They are 128 MiB of the body.
	chunk = 8 * Unit
	// maxUnits is how many units the largest file has, which is 1 PiB.
	maxUnits = 1 << 38
)

// Map says which units of a file a body holds. The zero value holds none. It is as large as
// what is held is scattered, not as the file is.
type Map struct{ parts []part } // in order, without overlaps

// part is n chunks from the first on that are held wholly, or, with bits, one chunk.
type part struct {
	first, n int64
	bits     *[chunk / 64]uint64
}

func (p *part) end() int64 { return p.first + p.n }

// find gives the index of the part that has chunk c, or of the first behind it.
func (m *Map) find(c int64) int {
	return sort.Search(len(m.parts), func(i int) bool { return m.parts[i].end() > c })
}

// at gives the part that has chunk c, or nil.
func (m *Map) at(c int64) *part {
	if i := m.find(c); i < len(m.parts) && m.parts[i].first <= c {
		return &m.parts[i]
	}
	return nil
}

// Has reports whether unit u is held.
func (m *Map) Has(u int64) bool {
	p := m.at(u / chunk)
	return p != nil && (p.bits == nil || p.bits[u%chunk/64]&(1<<(u%64)) != 0)
}

// set marks the units [from, to) and reports whether any was new, and which chunks are held
// wholly now and had bits of their own before.
func (m *Map) set(from, to int64) (fresh bool, filled []int64) {
	for from < to {
		c := from / chunk
		if whole := to/chunk - c; from%chunk == 0 && whole > 0 {
			f, gone := m.fill(c, c+whole)
			fresh, filled = fresh || f, append(filled, gone...)
			from += whole * chunk
			continue
		}
		n := min(to-from, chunk-from%chunk)
		fresh = m.setIn(c, from%chunk, from%chunk+n) || fresh
		from += n
	}
	return fresh, filled
}

// setIn is set within one chunk.
func (m *Map) setIn(c, from, to int64) (fresh bool) {
	i := m.find(c)
	if i == len(m.parts) || m.parts[i].first > c {
		m.parts = slices.Insert(m.parts, i, part{first: c, n: 1, bits: new([chunk / 64]uint64)})
	}
	p := &m.parts[i]
	for u := from; p.bits != nil && u < to; {
		w, n := u/64, min(64-u%64, to-u)
		mask := (^uint64(0) >> (64 - n)) << (u % 64)
		if p.bits[w]&mask != mask {
			p.bits[w] |= mask
			fresh = true
		}
		u += n
	}
	return fresh
}

// fill is set for whole chunks.
func (m *Map) fill(from, to int64) (fresh bool, filled []int64) {
	if p := m.at(from); p != nil && p.bits == nil && p.end() >= to {
		return false, nil
	}
	all := part{first: from, n: to - from}
	i, j := m.find(from), m.find(to)
	if i > 0 && m.parts[i-1].bits == nil && m.parts[i-1].end() == from {
		i--
	}
	if j < len(m.parts) && m.parts[j].bits == nil && m.parts[j].first <= to {
		j++
	}
	for _, p := range m.parts[i:j] {
		if p.bits != nil {
			filled = append(filled, p.first)
			continue
		}
		end := max(all.end(), p.end())
		all.first = min(all.first, p.first)
		all.n = end - all.first
	}
	m.parts = slices.Replace(m.parts, i, j, all)
	return true, filled
}

// cut forgets the units from u on and gives the chunks that had bits of their own and have
// none any more, and up to where there were chunks held wholly.
func (m *Map) cut(u int64) (gone []int64, wholes int64) {
	c, i := u/chunk, m.find(u/chunk)
	var last *part // what is left of chunk c
	if p := m.at(c); p != nil && u%chunk > 0 {
		last = &part{first: c, n: 1, bits: p.bits}
		if p.bits == nil {
			last.bits = new([chunk / 64]uint64)
			for w := range last.bits {
				last.bits[w] = ^uint64(0)
			}
		}
		last.bits[u%chunk/64] &= 1<<(u%64) - 1
		clear(last.bits[u%chunk/64+1:])
	}
	for _, p := range m.parts[i:] {
		switch {
		case p.bits == nil:
			wholes = p.end()
		case last == nil || p.first != c:
			gone = append(gone, p.first)
		}
	}
	if i < len(m.parts) && m.parts[i].first < c {
		m.parts[i].n = c - m.parts[i].first
		i++
	}
	clear(m.parts[i:])
	m.parts = m.parts[:i]
	if last != nil {
		m.parts = append(m.parts, *last)
	}
	return gone, wholes
}

// Run gives the length, in units and at most to, of the run of held (or not
// held) units that starts at u.
func (m *Map) Run(u, to int64) (n int64, held bool) {
	held = m.Has(u)
	at := u
	for i := m.find(u / chunk); at < to; i++ {
		if i == len(m.parts) || at < m.parts[i].first*chunk { // none are held up to the next part
			if held {
				break
			}
			if i == len(m.parts) {
				return to - u, false
			}
			at = m.parts[i].first * chunk
		}
		p := &m.parts[i]
		if p.bits == nil && !held || at >= to {
			break
		}
		if p.bits == nil {
			at = p.end() * chunk
			continue
		}
		end := p.end() * chunk
		if at += p.run(at%chunk, held); at < end {
			break
		}
	}
	return min(at, to) - u, held
}

// run gives how many units of a part with bits are held, or not, from u on.
func (p *part) run(u int64, held bool) int64 {
	for at := u; at < chunk; at += 64 - at%64 {
		word := p.bits[at/64]
		if held {
			word = ^word
		}
		if n := int64(bits.TrailingZeros64(word >> (at % 64))); n < 64-at%64 {
			return at + n - u
		}
	}
	return chunk - u
}

// count is how many of the units [from, to) are held.
func (m *Map) count(from, to int64) (n int64) {
	for u := from; u < to; {
		run, held := m.Run(u, to)
		if held {
			n += run
		}
		u += run
	}
	return n
}
