package fs

import (
	"encoding/binary"

	"stasis/fs/names"
	"stasis/store"
)

// Tables of this package in the ledger; see the package comment.
const (
	tableExtent    = 'e'
	tableRefs      = 'r'
	tableTeardown  = 'L'
	tableShare     = 'S'
	tableBody      = 'w'
	tableLying     = 'b'
	tableLiers     = 'n'
	tableAttention = 'u'
	tableBoot      = 'B'
	tableDropped   = 'l'
	tableReview    = 'v'
	tableDefault   = 'V'
)

const recordVersion = 1

func key(table byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{table}, n)
}

func extentKey(list names.ListID, end int64) []byte {
	return binary.BigEndian.AppendUint64(key(tableExtent, uint64(list)), uint64(end))
}

func crateKey(table byte, c store.CrateID) []byte {
	return append([]byte{table}, c[:]...)
}

// encoder and decoder are the two halves of one layout: a version byte, then fixed
// and counted fields in order. The decoder keeps the first thing that did not fit.
type encoder []byte

func newEncoder() encoder       { return encoder{recordVersion} }
func (e *encoder) u64(v uint64) { *e = binary.BigEndian.AppendUint64(*e, v) }
func (e *encoder) i64(v int64)  { e.u64(uint64(v)) }
func (e *encoder) u8(v byte)    { *e = append(*e, v) }
func (e *encoder) flag(on bool) {
	if on {
		e.u8(1)
	} else {
		e.u8(0)
	}
}
func (e *encoder) raw(p []byte)     { *e = append(*e, p...) }
func (e *encoder) counted(p []byte) { *e = append(binary.AppendUvarint(*e, uint64(len(p))), p...) }

type decoder struct {
	b   []byte
	bad bool
}

func newDecoder(b []byte) *decoder {
	d := &decoder{b: b}
	if d.u8() != recordVersion {
		d.bad = true
	}
	return d
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) u8() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if p := d.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) i64() int64 { return int64(d.u64()) }

func (d *decoder) crate() (c store.CrateID) {
	copy(c[:], d.take(16))
	return c
}

func (d *decoder) counted() []byte {
	n, k := binary.Uvarint(d.b)
	if k <= 0 || n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	d.b = d.b[k:]
	return append([]byte(nil), d.take(int(n))...)
}

// end reports what kept the record from being read.
func (d *decoder) end(what string) error {
	if d.bad || len(d.b) != 0 {
		return &store.Error{Kind: store.Corrupt, Op: "read the ledger's record of " + what}
	}
	return nil
}

// bodyRecord is what the ledger knows of the body of an inode.
type bodyRecord struct {
	Body store.CrateID
	// Whole: the body holds everything; the inode's list is only what counts if the body
	// is lost.
	Whole bool
	// Settled: the body was synced when it had Size bytes.
	Settled bool
	// Unplaced: the last commit found no space; Reason says where.
	Unplaced bool
	// Limit is how many bytes of the inode's list still show through a sparse body.
	Limit int64
	// Size, in bytes, as of the last commit or sync.
	Size int64
	// Mtime is the time of the last write up to then, in nanoseconds since the epoch; 0: the
	// inode has it.
	Mtime int64
	// List is the list that a sealing under way is making, or 0.
	List names.ListID
	// Places is where the content goes as of the last commit; it holds the space drawn.
	Places  places
	Planned bool // Places counts: the content was committed, and found room
	// Cutting: the body is being cut to Limit bytes.
	Cutting bool
	// Lost: a sync of the body failed, and what was written may be gone although a later sync
	// succeeds. It is never called synced again.
	Lost   bool
	Reason string
}

const (
	flagWhole = 1 << iota
	flagSettled
	flagUnplaced
	flagPlanned
	flagCutting
	flagLost
)

func (r *bodyRecord) encode() []byte {
	e := newEncoder()
	e.raw(r.Body[:])
	var flags byte
	for _, f := range []struct {
		on  bool
		bit byte
	}{{r.Whole, flagWhole}, {r.Settled, flagSettled}, {r.Unplaced, flagUnplaced}, {r.Planned, flagPlanned}, {r.Cutting, flagCutting}, {r.Lost, flagLost}} {
		if f.on {
			flags |= f.bit
		}
	}
	e.u8(flags)
	e.i64(r.Limit)
	e.i64(r.Size)
	e.i64(r.Mtime)
	e.u64(uint64(r.List))
	e.i64(r.Places.Part)
	e.u64(uint64(len(r.Places.Runs)))
	for _, run := range r.Places.Runs {
		e.u64(uint64(run.Pieces))
		plan, _ := run.Plan.MarshalBinary() // never fails
		e.counted(plan)
	}
	e.counted([]byte(r.Reason))
	return e
}

func decodeBody(b []byte) (bodyRecord, error) {
	d := newDecoder(b)
	r := bodyRecord{Body: d.crate()}
	flags := d.u8()
	r.Whole, r.Settled, r.Unplaced = flags&flagWhole != 0, flags&flagSettled != 0, flags&flagUnplaced != 0
	r.Limit, r.Size, r.Mtime = d.i64(), d.i64(), d.i64()
	r.List = names.ListID(d.u64())
	r.Planned, r.Cutting, r.Lost = flags&flagPlanned != 0, flags&flagCutting != 0, flags&flagLost != 0
	r.Places.Part = d.i64()
	for n := d.u64(); n > 0 && !d.bad; n-- {
		run := run{Pieces: int(d.u64())}
		if err := run.Plan.UnmarshalBinary(d.counted()); err != nil {
			return r, err
		}
		r.Places.Runs = append(r.Places.Runs, run)
	}
	r.Reason = string(d.counted())
	return r, d.end("a body")
}

// lyingRecord says where in a body a crate lies.
type lyingRecord struct {
	Body           store.CrateID
	Offset, Length int64 // bytes
	Ino            names.Ino
	// Shared: other crates lie in the same body, and the body's count says how many.
	Shared bool
}

func (r *lyingRecord) encode() []byte {
	e := newEncoder()
	e.raw(r.Body[:])
	e.i64(r.Offset)
	e.i64(r.Length)
	e.u64(uint64(r.Ino))
	e.flag(r.Shared)
	return e
}

func decodeLying(b []byte) (lyingRecord, error) {
	d := newDecoder(b)
	r := lyingRecord{Body: d.crate(), Offset: d.i64(), Length: d.i64()}
	r.Ino, r.Shared = names.Ino(d.u64()), d.u8() == 1
	return r, d.end("a crate in a body")
}

// teardownRecord is a list that was replaced, or that is being made. Its key holds the
// inode whose newer content must have Copies copies before it goes, or 0: at once.
type teardownRecord struct{ Copies int }

func (r *teardownRecord) encode() []byte {
	e := newEncoder()
	e.u64(uint64(r.Copies))
	return e
}

func decodeTeardown(b []byte) (teardownRecord, error) {
	d := newDecoder(b)
	r := teardownRecord{Copies: int(d.u64())}
	return r, d.end("a replaced list")
}

func teardownKey(ino names.Ino, list names.ListID) []byte {
	return binary.BigEndian.AppendUint64(key(tableTeardown, uint64(ino)), uint64(list))
}

// attentionRecord marks an inode that is not durable.
type attentionRecord struct {
	State  State
	Bytes  int64
	Since  int64 // ns since the epoch
	Reason string
}

func (r *attentionRecord) encode() []byte {
	e := newEncoder()
	e.u8(byte(r.State))
	e.i64(r.Bytes)
	e.i64(r.Since)
	e.counted([]byte(r.Reason))
	return e
}

func decodeAttention(b []byte) (attentionRecord, error) {
	d := newDecoder(b)
	r := attentionRecord{State: State(d.u8()), Bytes: d.i64(), Since: d.i64(), Reason: string(d.counted())}
	return r, d.end("an inode that is not durable")
}
