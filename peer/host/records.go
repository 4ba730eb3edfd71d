package host

import (
	"encoding/binary"
	"time"

	"github.com/zeebo/blake3"

	"stasis/store"
	"stasis/store/booking"
)

// Tables, by the second byte of their keys; the first is always 'P'. FORMAT.md
// describes them.
const (
	space = 'P'

	tableOwner    = 'o' // owner32 -> owner
	tableNumber   = 'n' // -> the number of the next owner
	tableInvite   = 'v' // hash32 -> invite
	tableCrate    = 'c' // number4 crate16 -> crate
	tableUsed     = 'u' // number4 -> totals
	tableTerms    = 'r' // number4 reservation16 -> inner reservation and terms
	tableDrawn    = 'd' // number4 inner16 -> bytes
	tableMirror   = 'x' // number4 inner16 -> bytes before: the store's may differ
	tableIntent   = 'i' // number4 crate16 -> intent
	tablePartial  = 'p' // number4 crate16 -> partial
	tableFence    = 'f' // number4 -> token
	tablePosition = 'q' // number4 -> position
	tableBase     = 'b' // -> the store's position when it was in step
	tableToken    = 't' // token16 -> time: a token that this host showed to its store
)

const (
	recordVersion = 1
	// orderVersion is that of records which say how many copies the owner ordered.
	orderVersion = 2
)

// The labels that derive the ids under which the store knows an owner's crates, fixed for
// ever by version 1 of the format.
const labelCrate = "stasis 1 peer crate"

// innerCrate is the id under which the store keeps an owner's crate. Another owner's
// crate never has it, and who knows it learns nothing of owner or id.
func innerCrate(owner store.OwnerID, id store.CrateID) store.CrateID {
	h := blake3.NewDeriveKey(labelCrate)
	h.Write(owner[:])
	h.Write(id[:])
	var inner store.CrateID
	_, _ = h.Digest().Read(inner[:]) // never fails
	inner[6] = inner[6]&0x0f | 0x80  // a UUID of version 8: made as its maker sees fit
	inner[8] = inner[8]&0x3f | 0x80
	return inner
}

func key(table byte, parts ...[]byte) []byte {
	b := []byte{space, table}
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func (o *owner) key(table byte, id ...byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{space, table}, o.number), id...)
}

// after is the least key behind all that begin with prefix. No prefix ends in 0xff
// throughout, as each begins with 'P'.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; ; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
}

func damaged(what string) error {
	return &store.Error{Kind: store.Corrupt, Op: "read the record of " + what, Hint: "the peer's ledger is damaged: restore it from a backup"}
}

// reader takes fields from a record.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) bytes(into []byte) {
	if len(r.b) < len(into) {
		r.bad, r.b = true, nil
		return
	}
	r.b = r.b[copy(into, r.b):]
}

func (r *reader) byte() byte {
	var b [1]byte
	r.bytes(b[:])
	return b[0]
}

func (r *reader) uint64() uint64 {
	var b [8]byte
	r.bytes(b[:])
	return binary.BigEndian.Uint64(b[:])
}

func (r *reader) int64() int64 {
	n := int64(r.uint64())
	r.bad = r.bad || n < 0
	return n
}

func (r *reader) version() { r.bad = r.byte() != recordVersion || r.bad }

func (r *reader) end(what string) error {
	if r.bad || len(r.b) > 0 {
		return damaged(what)
	}
	return nil
}

// ownerRecord is what is kept of an owner.
type ownerRecord struct {
	number      uint32
	revoked     bool
	fingerprint [32]byte
	quota       int64 // bytes; 0: the store's capacity
	since       time.Time
	name        string
}

func (r ownerRecord) encode() []byte {
	b := []byte{recordVersion, 0}
	if r.revoked {
		b[1] = 1
	}
	b = binary.BigEndian.AppendUint32(b, r.number)
	b = append(b, r.fingerprint[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.quota))
	b = binary.BigEndian.AppendUint64(b, uint64(r.since.Unix()))
	return append(b, r.name...)
}

func decodeOwner(b []byte) (r ownerRecord, err error) {
	in := reader{b: b}
	in.version()
	flags := in.byte()
	var n [4]byte
	in.bytes(n[:])
	in.bytes(r.fingerprint[:])
	r.number, r.revoked, r.quota = binary.BigEndian.Uint32(n[:]), flags == 1, in.int64()
	r.since = time.Unix(in.int64(), 0).UTC()
	r.name = string(in.b)
	if flags > 1 || len(in.b) > MaxName {
		in.bad = true
	}
	in.b = nil
	return r, in.end("an owner")
}

// inviteRecord is what is kept of an invite; its key is the hash of its secret.
type inviteRecord struct {
	quota   int64 // bytes; 0: the store's capacity
	expires time.Time
	owner   store.OwnerID // who has redeemed it; zero: nobody yet
}

func (r inviteRecord) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{recordVersion}, uint64(r.quota))
	b = binary.BigEndian.AppendUint64(b, uint64(r.expires.Unix()))
	return append(b, r.owner[:]...)
}

func decodeInvite(b []byte) (r inviteRecord, err error) {
	in := reader{b: b}
	in.version()
	r.quota = in.int64()
	r.expires = time.Unix(in.int64(), 0).UTC()
	in.bytes(r.owner[:])
	return r, in.end("an invite")
}

// crateRecord says that the store keeps a crate for an owner.
type crateRecord struct {
	form store.Form
	size int64
	root store.Digest
	copies
}

// copies is how many copies the owner has ordered of something; 0 is 1. It ends a record, and
// makes its version orderVersion, where it is more.
type copies uint16

func (c copies) count() int64 { return int64(max(1, c)) }

func (c copies) end(record []byte) []byte {
	if c <= 1 {
		return record
	}
	record[0] = orderVersion
	return binary.BigEndian.AppendUint16(record, uint16(c))
}

func (r *reader) versionOrder() (ordered bool) {
	v := r.byte()
	r.bad = v != recordVersion && v != orderVersion || r.bad
	return v == orderVersion
}

func (r *reader) copies(ordered bool) copies {
	if !ordered {
		return 1
	}
	var b [2]byte
	r.bytes(b[:])
	c := copies(binary.BigEndian.Uint16(b[:]))
	r.bad = r.bad || c < 2
	return c
}

func (r crateRecord) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{recordVersion, byte(r.form)}, uint64(r.size))
	return r.copies.end(append(b, r.root[:]...))
}

// charge is what the crate costs its owner.
func (r crateRecord) charge() int64 { return r.count() * store.Charge(r.size) }

func decodeCrate(b []byte) (r crateRecord, err error) {
	in := reader{b: b}
	ordered := in.versionOrder()
	r.form, r.size = store.Form(in.byte()), in.int64()
	in.bytes(r.root[:])
	r.copies = in.copies(ordered)
	if r.form > store.Sealed || r.size < 1 || r.size > store.MaxCrate {
		in.bad = true
	}
	return r, in.end("a crate")
}

func (r crateRecord) info(id store.CrateID) store.CrateInfo {
	return store.CrateInfo{ID: id, Form: r.form, Size: r.size, Root: r.root}
}

func encodeTotals(t booking.Totals) []byte {
	b := binary.BigEndian.AppendUint64([]byte{recordVersion}, uint64(t.Used))
	return binary.BigEndian.AppendUint64(b, uint64(t.Crates))
}

func decodeTotals(b []byte) (t booking.Totals, err error) {
	in := reader{b: b}
	in.version()
	t.Used, t.Crates = in.int64(), in.int64()
	return t, in.end("an owner's totals")
}

// termsRecord is a reservation of an owner, and the one that stands for it in the store.
type termsRecord struct {
	inner store.ReservationID
	terms booking.Terms
	copies
}

func (r termsRecord) encode() []byte {
	b := append(r.inner[:len(r.inner):len(r.inner)], r.terms.Encode()...)
	if r.copies > 1 {
		b = binary.BigEndian.AppendUint16(b, uint16(r.copies))
	}
	return b
}

func decodeTermsRecord(b []byte) (r termsRecord, err error) {
	if len(b) < len(r.inner) {
		return r, damaged("a reservation")
	}
	b = b[copy(r.inner[:], b):]
	in := reader{b: b[min(len(b), booking.TermsSize):]}
	r.copies = in.copies(len(in.b) > 0)
	r.terms, err = booking.DecodeTerms(b[:min(len(b), booking.TermsSize)])
	if err != nil || in.end("") != nil {
		return r, damaged("a reservation")
	}
	return r, nil
}

func encodeDrawn(n int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{recordVersion}, uint64(n))
}

func decodeDrawn(b []byte) (int64, error) {
	in := reader{b: b}
	in.version()
	n := in.int64()
	return n, in.end("what a reservation has drawn")
}

// intent says that a crate is about to be in the store.
type intent struct {
	form  store.Form
	size  int64
	inner store.ReservationID // of the store
	copies
}

func (r intent) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{recordVersion, byte(r.form)}, uint64(r.size))
	return r.copies.end(append(b, r.inner[:]...))
}

func decodeIntent(b []byte) (r intent, err error) {
	in := reader{b: b}
	ordered := in.versionOrder()
	r.form, r.size = store.Form(in.byte()), in.int64()
	in.bytes(r.inner[:])
	r.copies = in.copies(ordered)
	if r.form > store.Sealed || r.size < 1 || r.size > store.MaxCrate {
		in.bad = true
	}
	return r, in.end("a crate that is coming in")
}

// partialRecord is an upload that may be resumed.
type partialRecord struct {
	form        store.Form
	size        int64
	root        store.Digest
	reservation store.ReservationID // the owner's
	file        [16]byte            // its name in the spool
}

func (r partialRecord) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{recordVersion, byte(r.form)}, uint64(r.size))
	return append(append(append(b, r.root[:]...), r.reservation[:]...), r.file[:]...)
}

func decodePartial(b []byte) (r partialRecord, err error) {
	in := reader{b: b}
	in.version()
	r.form, r.size = store.Form(in.byte()), in.int64()
	in.bytes(r.root[:])
	in.bytes(r.reservation[:])
	in.bytes(r.file[:])
	if r.form > store.Sealed || r.size < 1 || r.size > store.MaxCrate {
		in.bad = true
	}
	return r, in.end("an interrupted upload")
}
