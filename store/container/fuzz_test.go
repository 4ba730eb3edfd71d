package container

import (
	"bytes"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/booking"
	"stasis/store/storetest"
)

// seal makes a page's sum right, so that a fuzzer gets past it.
func seal(k *keyer, raw []byte) {
	s := k.sum(raw)
	copy(raw[8:24], s[:])
}

func padded(p []byte) []byte {
	raw := make([]byte, PageSize)
	copy(raw, p)
	return raw
}

// Any bytes in a superblock, mark or page give an error or something within the
// limits.
func FuzzPage(f *testing.F) {
	sb := superblock{version: 1, capacity: MinCapacity, generation: 1, logHead: firstPage, logPages: 1, created: time.Unix(1, 0)}
	raw := make([]byte, PageSize)
	sb.encode(raw, 0)
	f.Add(bytes.Clone(raw[:300]), true)
	m := mark{index: 3}
	m.encode(newKeyer(sb.pageKey()), raw, 0, 1)
	f.Add(bytes.Clone(raw[:300]), true)
	f.Add(bytes.Clone(raw[:300]), false)
	f.Add([]byte("SCpg"), true)
	f.Fuzz(func(t *testing.T, p []byte, sealed bool) {
		if len(p) > PageSize {
			return
		}
		raw := padded(p)
		if sealed {
			seal(newKeyer(superKey), raw)
		}
		if s, err := decodeSuperblock(raw, 0); err == nil {
			again := make([]byte, PageSize)
			s.encode(again, 0)
			if _, err := decodeSuperblock(again, 0); err != nil {
				t.Fatalf("%+v is read and can't be written", s)
			}
		}
		k := newKeyer(sb.pageKey())
		if sealed {
			seal(k, raw)
		}
		if m, err := decodeMark(k, raw, 0); err == nil && (m.index < 0 || m.index > MaxCapacity/PageSize) {
			t.Fatalf("%+v", m)
		}
		_, _ = k.decode(raw, 0)
	})
}

// Any bytes as records of the log.
func FuzzRecords(f *testing.F) {
	c := &crate{id: store.CrateID{1}, size: 5000, seq: 2, extents: []extent{{5, 3}}}
	f.Add(bytes.Join(encodeCrate(c), nil))
	for i := range int64(80) {
		c.extents = append(c.extents, extent{10 + 2*i, 1})
	}
	f.Add(bytes.Join(encodeCrate(c), nil))
	terms := booking.Terms{ID: store.ReservationID{1}, Bytes: 5, Lease: 6, Expires: time.Unix(7, 0)}
	f.Add(bytes.Join([][]byte{
		encodeState(3), encodeTerms(terms), encodeDraw(terms.ID, 8192), encodeReservation(booking.Record{Terms: terms, Drawn: 3}),
		encodeDiscard(c.id, 2), encodeEnd(terms.ID),
	}, nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		st := newState()
		a := applier{state: st, limit: MinCapacity / PageSize}
		_ = decodeRecords(p, a.apply)
		used := int64(0)
		st.crates.Scan(func(c *crate) bool {
			if !c.valid(a.limit) {
				t.Fatalf("took in %+v", c)
			}
			used += store.Charge(c.size)
			return true
		})
		if used != st.used {
			t.Fatalf("counts %d bytes of %d", st.used, used)
		}
	})
}

// Any bytes where a crate's header is said to be, all whole by their sums.
func FuzzHeader(f *testing.F) {
	k := newKeyer([32]byte{1})
	const limit = MinCapacity / PageSize
	add := func(size int64, es ...extent) {
		c := &crate{id: store.CrateID{1}, size: size, seq: 9, extents: es}
		blocks := make([]store.Digest, store.Blocks(size))
		c.root = store.Checksums{Size: size, Blocks: blocks}.Root()
		_, raw := encodeHeader(k, c, blocks)
		raw = append(raw, make([]byte, PageSize))
		f.Add(bytes.TrimRight(raw[0], "\x00"), bytes.TrimRight(raw[1], "\x00"))
	}
	add(5000, extent{firstPage, 3})
	add(store.BlockSize+1, extent{firstPage, 200}, extent{300, 58})
	add(150<<20, extent{firstPage, 2 + 38400})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		if len(first) > PageSize || len(second) > PageSize {
			return
		}
		data := make([]byte, (firstPage+2)*PageSize)
		copy(data[firstPage*PageSize:], padded(first))
		copy(data[(firstPage+1)*PageSize:], padded(second))
		for i := range int64(2) {
			seal(k, data[(firstPage+i)*PageSize:][:PageSize])
		}
		v := &volume{f: newLossy(data), key: k, limit: limit}
		c, blocks, err := v.readHeader(firstPage)
		if err != nil {
			return
		}
		if !c.valid(limit) || int64(len(blocks)) != store.Blocks(c.size) {
			t.Fatalf("took in %+v", c)
		}
		got, err := v.digests(c, 0, int64(len(blocks)))
		if err == nil && (store.Checksums{Size: c.size, Blocks: got}).Root() != c.root {
			t.Fatal("other digests in parts than as a whole")
		}
	})
}

// Any bytes as a whole file: an error, or a container that gives what it checks.
func FuzzFile(f *testing.F) {
	empty := newLossy(nil)
	sb, err := format(empty, testOwner, MinCapacity, time.Unix(1, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(empty.data, uint16(100), byte(1), uint16(5000), byte(2))
	f.Add([]byte{}, uint16(0), byte(0), uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, p []byte, at uint16, x byte, at2 uint16, y byte) {
		if len(p) > 1<<20 {
			return
		}
		p = bytes.Clone(p)
		k := newKeyer(sb.pageKey())
		for _, change := range []struct {
			at uint16
			x  byte
		}{{at, x}, {at2, y}} {
			page := int(change.at) / PageSize * PageSize
			if page+PageSize > len(p) {
				continue
			}
			p[change.at] ^= change.x
			if page < superPages*PageSize {
				seal(newKeyer(superKey), p[page:][:PageSize])
			} else {
				seal(k, p[page:][:PageSize])
			}
		}
		s, err := openLossy(newLossy(p))
		if err != nil {
			return
		}
		if free := s.room.sp.free; free > 100*logLimit(s.v.limit) {
			store1(t, s, storetest.NewGen(1).Crate(100))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
