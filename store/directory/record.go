package directory

import (
	"encoding/binary"
	"fmt"

	"stasis/store"
)

// The kinds of keys in the index: the first byte of each.
const (
	keyCrate    = 'c' // + id: record
	keyChunk    = 'b' // + id + number: digests of blocks
	keyTotals   = 'u' // totals
	keyMeta     = 'm' // meta
	keyFence    = 'f' // token
	keyTerms    = 'r' // + reservation: booking.Terms
	keyDrawn    = 'd' // + reservation: bytes
	keyIntent   = 'p' // + number: intent
	keyAdopted  = 'a' // + id: adoption
	keyMark     = 'x' // + id: mark
	keyTomb     = 't' // + id: tombstone
	keyPosition = 'n' // standing
)

const recordVersion = 1

const idSize = len(store.CrateID{})

// record is what the index holds of a crate.
type record struct {
	id     store.CrateID
	form   store.Form
	size   int64
	root   store.Digest
	inline []store.Digest // all digests, if there are at most inlineBlocks
}

func newRecord(id store.CrateID, form store.Form, sums store.Checksums) record {
	r := record{id: id, form: form, size: sums.Size, root: sums.Root()}
	if len(sums.Blocks) <= inlineBlocks {
		r.inline = sums.Blocks
	}
	return r
}

func (r record) info() store.CrateInfo {
	return store.CrateInfo{ID: r.id, Form: r.form, Size: r.size, Root: r.root}
}

func (r record) charge() int64 { return store.Charge(r.size) }

const recordHead = 1 + 1 + 8 + store.DigestSize

func (r record) encode() []byte {
	b := make([]byte, 0, recordHead+len(r.inline)*store.DigestSize)
	b = append(b, recordVersion, byte(r.form))
	b = binary.BigEndian.AppendUint64(b, uint64(r.size))
	b = append(b, r.root[:]...)
	return append(b, joinDigests(r.inline)...)
}

func damagedRecord(what string) error {
	return &store.Error{
		Kind: store.Corrupt, Op: "read the index", Detail: what + " is damaged",
		Hint: "move the index aside: it is then made anew from the crates",
	}
}

func parseRecord(id store.CrateID, b []byte) (record, error) {
	bad := func() (record, error) { return record{}, damagedRecord("the record of crate " + id.String()) }
	if len(b) < recordHead || b[0] != recordVersion || b[1] > byte(store.Sealed) {
		return bad()
	}
	r := record{id: id, form: store.Form(b[1]), size: int64(binary.BigEndian.Uint64(b[2:]))}
	copy(r.root[:], b[10:])
	if r.size < 1 || r.size > store.MaxCrate {
		return bad()
	}
	want := store.Blocks(r.size)
	if want > inlineBlocks {
		want = 0
	}
	var ok bool
	if r.inline, ok = splitDigests(b[recordHead:], want); !ok {
		return bad()
	}
	return r, nil
}

func joinDigests(ds []store.Digest) []byte {
	b := make([]byte, 0, len(ds)*store.DigestSize)
	for i := range ds {
		b = append(b, ds[i][:]...)
	}
	return b
}

func splitDigests(b []byte, want int64) ([]store.Digest, bool) {
	if int64(len(b)) != want*store.DigestSize {
		return nil, false
	}
	ds := make([]store.Digest, want)
	for i := range ds {
		copy(ds[i][:], b[i*store.DigestSize:])
	}
	return ds, true
}

// named is a crate's file: what an intent lists and a mark says.
type named struct {
	id   store.CrateID
	form store.Form
}

// encodeIntent lists the files that are about to appear.
func encodeIntent(files []named) []byte {
	b := make([]byte, 0, 1+len(files)*(1+idSize))
	b = append(b, recordVersion)
	for _, f := range files {
		b = append(b, byte(f.form))
		b = append(b, f.id[:]...)
	}
	return b
}

func parseIntent(b []byte) ([]named, error) {
	if len(b) < 1 || b[0] != recordVersion || (len(b)-1)%(1+idSize) != 0 {
		return nil, damagedRecord("an intent")
	}
	var files []named
	for b = b[1:]; len(b) > 0; b = b[1+idSize:] {
		if b[0] > byte(store.Sealed) {
			return nil, damagedRecord("an intent")
		}
		files = append(files, named{id: store.CrateID(b[1 : 1+idSize]), form: store.Form(b[0])})
	}
	return files, nil
}

// adoption is the intent to rename a file of somebody else's into the store. It
// has all that the crate's record needs: the file's data is verified and synced.
type adoption struct {
	reservation store.ReservationID
	path        string
	rec         record
}

func (a adoption) encode() []byte {
	b := append([]byte{recordVersion}, a.reservation[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(a.path)))
	b = append(b, a.path...)
	return append(b, a.rec.encode()...)
}

func parseAdoption(id store.CrateID, b []byte) (a adoption, err error) {
	const head = 1 + idSize + 2
	if len(b) < head || b[0] != recordVersion {
		return a, damagedRecord("an adoption")
	}
	copy(a.reservation[:], b[1:])
	n := int(binary.BigEndian.Uint16(b[1+idSize:]))
	if len(b) < head+n {
		return a, damagedRecord("an adoption")
	}
	a.path = string(b[head : head+n])
	a.rec, err = parseRecord(id, b[head+n:])
	return a, err
}

// mark says that a crate's file is to go. The number tells the marks of two
// discards of one id apart.
type mark struct {
	number uint64
	form   store.Form
}

func (m mark) encode() []byte {
	return append(binary.BigEndian.AppendUint64([]byte{recordVersion}, m.number), byte(m.form))
}

func parseMark(b []byte) (mark, error) {
	if len(b) != 10 || b[0] != recordVersion || b[9] > byte(store.Sealed) {
		return mark{}, damagedRecord("a mark")
	}
	return mark{number: binary.BigEndian.Uint64(b[1:]), form: store.Form(b[9])}, nil
}

// tombstone is what stood for an id that has been discarded.
type tombstone struct {
	form store.Form
	root store.Digest
}

func (t tombstone) encode() []byte {
	return append([]byte{recordVersion, byte(t.form)}, t.root[:]...)
}

func parseTombstone(b []byte) (t tombstone, err error) {
	if len(b) != 2+store.DigestSize || b[0] != recordVersion || b[1] > byte(store.Sealed) {
		return t, damagedRecord("a tombstone")
	}
	t.form = store.Form(b[1])
	copy(t.root[:], b[2:])
	return t, nil
}

// totals are the counters of the index.
type totals struct {
	used, crates, tombs int64
}

func (t totals) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{recordVersion}, uint64(t.used))
	b = binary.BigEndian.AppendUint64(b, uint64(t.crates))
	return binary.BigEndian.AppendUint64(b, uint64(t.tombs))
}

func parseTotals(b []byte) (totals, error) {
	if len(b) != 25 || b[0] != recordVersion {
		return totals{}, damagedRecord("its totals")
	}
	return totals{
		used: int64(binary.BigEndian.Uint64(b[1:])), crates: int64(binary.BigEndian.Uint64(b[9:])),
		tombs: int64(binary.BigEndian.Uint64(b[17:])),
	}, nil
}

// meta is what the index says of itself: which store it belongs to, and what it was
// told at its making.
type meta struct {
	id       store.NodeID
	capacity int64 // bytes; 0: the device alone
}

func (m meta) encode() []byte {
	return binary.BigEndian.AppendUint64(append([]byte{recordVersion}, m.id[:]...), uint64(m.capacity))
}

func parseMeta(b []byte) (m meta, err error) {
	if len(b) < 1 {
		return m, damagedRecord("its description")
	}
	if b[0] > recordVersion {
		return m, &store.Error{
			Kind: store.Invalid, Op: "read the index", Detail: fmt.Sprintf("version %d, this program knows up to %d", b[0], recordVersion),
			Hint: "use a newer stasis",
		}
	}
	if len(b) != 1+idSize+8 {
		return m, damagedRecord("its description")
	}
	copy(m.id[:], b[1:])
	m.capacity = int64(binary.BigEndian.Uint64(b[1+idSize:]))
	if b[0] != recordVersion || m.capacity < 0 {
		return meta{}, damagedRecord("its description")
	}
	return m, nil
}

func key(kind byte, id []byte) []byte {
	return append(append(make([]byte, 0, 1+len(id)), kind), id...)
}

func crateKey(kind byte, id store.CrateID) []byte { return key(kind, id[:]) }

func numberKey(kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, n)
}

func chunkKey(id store.CrateID, n int64) []byte {
	return binary.BigEndian.AppendUint32(crateKey(keyChunk, id), uint32(n))
}

func chunksOf(size int64) int64 {
	if n := store.Blocks(size); n > inlineBlocks {
		return (n + chunkBlocks - 1) / chunkBlocks
	}
	return 0
}

func (s *Store) receipt(sums store.Checksums, position store.Position) []store.Receipt {
	return []store.Receipt{{Leaf: s.leaf, Sums: sums, Time: s.clock.Wall(), Position: position}}
}
