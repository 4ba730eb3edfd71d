package body

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"os"

	"stasis/store"
)

// wholeAt is where the live map has the chunks that are held wholly, a bit each: behind
// the bits of the last unit that there may be. The file is sparse.
const wholeAt = maxUnits / 8

// patch is some bytes of the live map.
type patch struct {
	off int64
	b   []byte
}

// patches are what the live map has of the units [from, to), in whole bytes.
func (m *Map) patches(from, to int64) (ps []patch) {
	for i := m.find(from / chunk); i < len(m.parts) && m.parts[i].first*chunk < to; i++ {
		p := &m.parts[i]
		if p.bits == nil {
			first, end := max(p.first, from/chunk), min(p.end(), (to+chunk-1)/chunk)
			ps = append(ps, m.wholes(first, end))
			continue
		}
		start := p.first * chunk
		first, end := max(from-start, 0)/8, (min(to-start, chunk)+7)/8
		ps = append(ps, patch{start/8 + first, p.bytes()[first:end]})
	}
	return ps
}

// wholes is the part of the live map that says which of the chunks [from, to) are held
// wholly.
func (m *Map) wholes(from, to int64) patch {
	first, end := from/8*8, (to+7)/8*8
	b := make([]byte, (end-first)/8)
	for i := m.find(first); i < len(m.parts) && m.parts[i].first < end; i++ {
		p := &m.parts[i]
		for c := max(p.first, first); p.bits == nil && c < min(p.end(), end); c++ {
			b[(c-first)/8] |= 1 << (c % 8)
		}
	}
	return patch{wholeAt + first/8, b}
}

// bytes are the bits of a chunk, the first unit in the lowest bit.
func (p *part) bytes() []byte {
	b := make([]byte, 0, chunk/8)
	for _, w := range p.bits {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// noUnits are the bytes of chunks of which nothing is held.
func noUnits(chunks []int64) (ps []patch) {
	none := make([]byte, chunk/8)
	for _, c := range chunks {
		ps = append(ps, patch{c * int64(len(none)), none})
	}
	return ps
}

// add notes what a stretch of the live map says. Chunks keep the bits that they have there.
func (m *Map) add(p patch) {
	base, whole := 8*p.off, p.off >= wholeAt
	if whole {
		base -= 8 * wholeAt
	}
	for at, end := int64(0), int64(len(p.b))*8; at < end; {
		n := runOf(p.b, at, 0)
		at += n
		n = runOf(p.b, at, 1)
		for from, to := base+at, base+at+n; from < to; {
			if whole {
				m.fill(from, min(to, maxUnits/chunk))
				break
			}
			next := min(to, (from/chunk+1)*chunk)
			m.setIn(from/chunk, from%chunk, next-from/chunk*chunk)
			from = next
		}
		at += n
	}
}

// runOf is how many bits from at on are all 0, or all 1.
func runOf(b []byte, at int64, bit byte) (n int64) {
	all := -bit // eight of them
	for end := int64(len(b)) * 8; at+n < end; {
		i, shift := (at+n)/8, (at+n)%8
		if shift == 0 && b[i] == all {
			n += 8
			continue
		}
		if b[i]>>shift&1 != bit {
			break
		}
		n++
	}
	return n
}

// readLive reads a live map.
func readLive(path string) (m Map, err error) {
	f, err := os.Open(path)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return m, err
	}
	buf := make([]byte, 1<<16)
	// What is held wholly first, so that bits under it are not looked at one by one.
	for _, r := range [][2]int64{{wholeAt, st.Size()}, {0, min(wholeAt, st.Size())}} {
		for at := r[0]; at < r[1]; {
			from, to, err := nextData(f, at)
			if err != nil {
				return m, err
			}
			for at, to = from, min(to, r[1]); at < to; {
				n, err := f.ReadAt(buf[:min(to-at, int64(len(buf)))], at)
				if n == 0 {
					return m, err // io.EOF: somebody else cut it
				}
				m.add(patch{at, buf[:n]})
				at += int64(n)
			}
		}
	}
	return m, nil
}

const syncedMagic = "MAP2"

// encode gives the synced form of a map.
func (m *Map) encode() []byte {
	b := []byte(syncedMagic)
	for i := range m.parts {
		p := &m.parts[i]
		b = binary.BigEndian.AppendUint64(b, uint64(p.first))
		if p.bits == nil {
			b = binary.BigEndian.AppendUint64(b, uint64(p.n))
			continue
		}
		words := len(p.bits)
		for words > 0 && p.bits[words-1] == 0 {
			words--
		}
		b = binary.BigEndian.AppendUint64(b, 0)
		b = binary.BigEndian.AppendUint64(b, uint64(words)*8)
		b = append(b, p.bytes()[:words*8]...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeMap reads the synced form of a map, of this release or of those before it, which
// had the bits of all units. Theirs is 4 bytes longer than whole words, this one isn't.
func decodeMap(b []byte) (m Map, ok bool) {
	n := len(b) - 4
	if n < 0 || crc32.Checksum(b[:n], castagnoli) != binary.LittleEndian.Uint32(b[n:]) {
		return m, false
	}
	if b = b[:n]; n%8 == 0 {
		m.add(patch{0, b})
		return m, true
	}
	if n < len(syncedMagic) || string(b[:len(syncedMagic)]) != syncedMagic {
		return m, false
	}
	for b = b[len(syncedMagic):]; len(b) > 0; {
		var p part
		if p, b, ok = decodePart(b); !ok || len(m.parts) > 0 && m.parts[len(m.parts)-1].end() > p.first {
			return Map{}, false
		}
		m.parts = append(m.parts, p)
	}
	return m, true
}

func decodePart(b []byte) (p part, rest []byte, ok bool) {
	number := func() int64 {
		if ok = len(b) >= 8; !ok {
			return 0
		}
		n := binary.BigEndian.Uint64(b)
		b = b[8:]
		return int64(min(n, math.MaxInt64))
	}
	if p.first = number(); !ok {
		return p, nil, false
	}
	if p.n = number(); !ok {
		return p, nil, false
	}
	const chunks = maxUnits / chunk
	if p.n > 0 {
		return p, b, p.first <= chunks && p.n <= chunks-p.first
	}
	n := number()
	if !ok || n > chunk/8 || n%8 != 0 || n > int64(len(b)) || p.first >= chunks {
		return p, nil, false
	}
	p.n, p.bits = 1, new([chunk / 64]uint64)
	for w := range n / 8 {
		p.bits[w] = binary.LittleEndian.Uint64(b[w*8:])
	}
	return p, b[n:], true
}

func readSynced(path string) (Map, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Map{}, err
	}
	m, ok := decodeMap(raw)
	if !ok {
		return Map{}, &store.Error{Kind: store.Corrupt, Op: "read the map of a body", Subject: path}
	}
	return m, nil
}
