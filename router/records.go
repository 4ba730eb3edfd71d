package router

import (
	"encoding/binary"
	"time"

	"stasis/store"
)

// entry is one copy to be sent: what the queue remembers of it.
type entry struct {
	size   int64
	charge int64
	queued time.Time
	// reserved: the charge was drawn and counts as promised until the crate is stored.
	reserved bool
	// resident: the charge lies on the node's filesystem in a body to be adopted.
	resident bool
	// repair: the node's own copy is wrong and is discarded first.
	repair bool
}

const (
	entryVersion  = 1
	entryReserved = 1 << 0
	entryResident = 1 << 1
	entryRepair   = 1 << 2
)

func (e entry) encode() []byte {
	flags := bit(e.reserved)*entryReserved | bit(e.resident)*entryResident | bit(e.repair)*entryRepair
	b := []byte{entryVersion, flags}
	b = binary.AppendUvarint(b, uint64(e.size))
	return binary.AppendVarint(b, e.queued.UnixNano())
}

func decodeEntry(b []byte) (entry, error) {
	r := reader{b: b}
	r.version(entryVersion)
	flags := r.byte()
	e := entry{
		reserved: flags&entryReserved != 0, resident: flags&entryResident != 0, repair: flags&entryRepair != 0,
		size: int64(r.bounded(store.MaxCrate)),
	}
	e.charge = store.Charge(e.size)
	e.queued = time.Unix(0, r.varint())
	return e, r.end("read an entry of the queue")
}

// grantRecord is what survives of a grant: the reservation and what was last asked
// of it, so that a restart can ask the same again.
type grantRecord struct {
	id    store.ReservationID
	bytes int64
}

const grantVersion = 1

func (g grantRecord) encode() []byte {
	b := append([]byte{grantVersion}, g.id[:]...)
	return binary.AppendUvarint(b, uint64(g.bytes))
}

func decodeGrant(b []byte) (g grantRecord, err error) {
	r := reader{b: b}
	r.version(grantVersion)
	r.fixed(g.id[:])
	g.bytes = int64(r.bounded(1 << 62))
	return g, r.end("read a grant")
}

// nodeRecord is what is known of a node while it is away.
type nodeRecord struct {
	id                store.NodeID
	kind, zone        string
	durable           bool
	seen              time.Time
	crates, used, cap int64
	free              int64
}

const nodeVersion = 1

func (n nodeRecord) encode() []byte {
	b := append([]byte{nodeVersion}, n.id[:]...)
	b = appendString(b, n.kind)
	b = appendString(b, n.zone)
	b = append(b, bit(n.durable))
	b = binary.AppendVarint(b, n.seen.UnixNano())
	for _, v := range []int64{n.crates, n.used, n.cap, n.free} {
		b = binary.AppendUvarint(b, uint64(max(v, 0)))
	}
	return b
}

func decodeNode(b []byte) (n nodeRecord, err error) {
	r := reader{b: b}
	r.version(nodeVersion)
	r.fixed(n.id[:])
	n.kind, n.zone, n.durable = r.text(), r.text(), r.flag()
	n.seen = time.Unix(0, r.varint())
	for _, v := range []*int64{&n.crates, &n.used, &n.cap, &n.free} {
		*v = int64(r.bounded(1 << 62))
	}
	return n, r.end("read the record of a node")
}

// encodeSums writes the digests of one chunk.
func encodeSums(ds []store.Digest) []byte {
	b := make([]byte, 1, 1+len(ds)*store.DigestSize)
	b[0] = sumsVersion
	for i := range ds {
		b = append(b, ds[i][:]...)
	}
	return b
}

const sumsVersion = 1

func decodeSums(b []byte) ([]store.Digest, error) {
	r := reader{b: b}
	r.version(sumsVersion)
	ds := make([]store.Digest, len(r.b)/store.DigestSize)
	for i := range ds {
		r.fixed(ds[i][:])
	}
	return ds, r.end("read checksums")
}

const (
	tokenVersion = 1
	deadVersion  = 1
)

func encodeTime(version byte, t time.Time) []byte {
	return binary.AppendVarint([]byte{version}, t.UnixNano())
}
