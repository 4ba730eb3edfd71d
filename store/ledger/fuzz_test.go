package ledger

import (
	"bytes"
	"testing"
)

const fuzzSalt = 0x1122334455667788

// FuzzRecord: no bytes make the parser of records fail otherwise than by saying no,
// and what it accepts it would write in the same way.
func FuzzRecord(f *testing.F) {
	s := newSeal(fuzzSalt)
	f.Add(s.appendRecord(nil, record{kind: kindStart, position: 7, synced: 7}, nil))
	f.Add(s.appendRecord(nil, record{kind: kindMark, position: 9, synced: 8}, nil))
	f.Add(s.appendRecord(nil, record{kind: kindUpdate, space: Shared, position: 8}, []change{
		{key: []byte("a"), value: []byte("value")}, {key: []byte("b"), deleted: true}, {key: []byte("c"), value: nil},
	}))
	f.Add(s.appendRecord(nil, record{kind: kindUpdate, position: 8}, []change{
		{space: Shared, key: []byte("a"), value: []byte("value")}, {space: Local, key: []byte("a"), deleted: true},
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, ok := s.parseRecord(b)
		if !ok {
			return
		}
		if n < recordHeader || n > len(b) {
			t.Fatalf("a length of %d in %d bytes", n, len(b))
		}
		if r.kind != kindUpdate {
			return
		}
		if changes, ok := r.changes(); ok {
			again := s.appendRecord(nil, r, changes)
			back, _, ok := s.parseRecord(again)
			if !ok || back.position != r.position || back.synced != r.synced || back.space != r.space {
				t.Fatalf("%+v came back as %+v, %v", r, back, ok)
			}
		}
	})
}

// FuzzChanges: the same for the payload, which the checksum would keep from the fuzzer.
func FuzzChanges(f *testing.F) {
	s := newSeal(fuzzSalt)
	changes := []change{{key: []byte("a"), value: []byte("value")}, {key: []byte("b"), deleted: true}}
	r, _, _ := s.parseRecord(s.appendRecord(nil, record{kind: kindUpdate, space: Shared, position: 8}, changes))
	f.Add(r.payload, 2, byte(Shared))
	changes[0].space, changes[1].space = Shared, Local
	r, _, _ = s.parseRecord(s.appendRecord(nil, record{kind: kindUpdate, position: 8}, changes))
	f.Add(r.payload, 2, byte(eachItsOwn))
	f.Add([]byte{opPut, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 1, byte(Local))
	f.Add([]byte{opDelete, 0}, 1, byte(Local))
	f.Fuzz(func(t *testing.T, payload []byte, count int, space byte) {
		r := record{kind: kindUpdate, space: SpaceID(space), count: count & 0xffff, payload: payload}
		changes, ok := r.changes()
		if !ok {
			return
		}
		again, _, ok := s.parseRecord(s.appendRecord(nil, r, changes))
		if !ok {
			t.Fatal("what was accepted can't be written")
		}
		back, ok := again.changes()
		if !ok || len(back) != len(changes) {
			t.Fatalf("%d changes came back as %d, %v", len(changes), len(back), ok)
		}
		for i := range back {
			if !bytes.Equal(back[i].key, changes[i].key) || !bytes.Equal(back[i].value, changes[i].value) || back[i].deleted != changes[i].deleted || back[i].space != changes[i].space {
				t.Fatalf("change %d: %+v came back as %+v", i, changes[i], back[i])
			}
		}
	})
}

// FuzzReplay: a journal of any bytes is replayed or refused.
func FuzzReplay(f *testing.F) {
	h := segmentHeader{version: FormatVersion, number: 1, salt: fuzzSalt, size: minSegment}
	segment := func(records []byte) []byte {
		b := make([]byte, segmentStart)
		copy(b, h.encode())
		copy(b[headerCopy:], h.encode())
		return append(b, records...)
	}
	s := newSeal(fuzzSalt)
	records := s.appendRecord(nil, record{kind: kindStart}, nil)
	for p := range Position(3) {
		records = s.appendRecord(records, record{kind: kindUpdate, space: Shared, position: p + 1, synced: p}, []change{{key: []byte{byte(p)}, value: []byte("v")}})
	}
	f.Add(segment(records), segment(nil))
	f.Add(segment(nil), segment(records))
	torn := append([]byte{}, records...)
	torn[len(torn)/2] ^= 1
	f.Add(segment(torn), segment(nil))
	f.Add([]byte{}, []byte("STASISJL"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		files := newMemFiles()
		for i, b := range [][]byte{first, second} {
			files.names[segmentName(uint64(i+1))] = &memNode{data: clone(b), durable: clone(b)}
		}
		o, err := Options{files: files, Segment: minSegment}.filled("ledger")
		if err != nil {
			t.Fatal(err)
		}
		g := newGeneration()
		j, err := openJournal(o, tableMeta{version: FormatVersion}, g)
		if err != nil {
			return
		}
		if g.last != j.last || Position(j.synced.Load()) > j.last {
			t.Fatalf("the journal ends at %d, the replay at %d, synced is %d", j.last, g.last, j.synced.Load())
		}
		if _, err := j.append([]change{{space: Shared, key: []byte("k")}}); err != nil {
			t.Fatal(err)
		}
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzMeta: the same for the table's description.
func FuzzMeta(f *testing.F) {
	f.Add(tableMeta{version: FormatVersion, position: 3, made: 4, tallies: [spaces]tally{{1, 2}, {3, 4}}}.encode())
	f.Add([]byte{0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parseTableMeta(b)
		if ok && m.version <= FormatVersion && !bytes.Equal(m.encode(), b) {
			t.Fatalf("%x came back as %x", b, m.encode())
		}
	})
}
