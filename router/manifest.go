package router

import (
	"encoding/binary"
	"slices"
	"time"

	"stasis/store"
)

// DestinationState is how far a crate is on its way to one node.
type DestinationState uint8

const (
	// Planned: the crate is meant for the node, which may or may not have it yet.
	Planned DestinationState = iota
	// Verified: the leaf's receipt is in. Only such a copy counts.
	Verified
	// Damaged: the leaf had it verified and later gave wrong bytes, or said that it
	// does not have it. It is sent again from a good copy.
	Damaged
	// Refused: the node, which is not on this machine, says that it has other bytes under the
	// crate's id. That is its word alone: the crate stays as it is, and has its copy elsewhere.
	Refused
)

func (s DestinationState) String() string {
	switch s {
	case Planned:
		return "planned"
	case Verified:
		return "verified"
	case Damaged:
		return "damaged"
	case Refused:
		return "refused"
	}
	return "unknown"
}

// Destination is one node a crate was ever meant for.
type Destination struct {
	Node  store.NodeID
	Form  store.Form
	State DestinationState
	// Unknown: the node's copies are being counted anew, as it is not in the state that it was left
	// in. It is no part of the record.
	Unknown bool
	// Durable is false for a leaf that turned out to be memory: it never counts.
	Durable bool
	// Time is that of the receipt; zero without one.
	Time time.Time
	// Address and Fingerprint are the receipt's.
	Address     string
	Fingerprint string
	// Leaves are where a node that delegates has put the crate, and Time is then that of the
	// oldest. Empty: the node is the leaf itself.
	Leaves []Leaf
}

// Leaf is one place behind a node that delegates.
type Leaf struct {
	ID          store.NodeID
	Time        time.Time // of its receipt
	Address     string
	Fingerprint string
}

// eachLeaf calls f with every leaf that has the crate.
func (d *Destination) eachLeaf(f func(store.NodeID)) {
	if len(d.Leaves) == 0 {
		f(d.Node)
	}
	for i := range d.Leaves {
		f(d.Leaves[i].ID)
	}
}

// FormInfo is one form in which a crate is kept.
type FormInfo struct {
	Form store.Form
	Size int64 // bytes as stored
	// Root is zero until this machine has hashed the bytes, itself or by a store of its own:
	// before the first is sent to another machine, and with the first receipt at the latest.
	Root store.Digest
	// Block is the digest of the only block, where there is only one; other crates have
	// records of their own for their checksums.
	Block store.Digest
}

// single reports whether the form has one block, whose digest lies in the manifest.
func (f *FormInfo) single() bool { return f.Size <= store.BlockSize }

// Manifest is what a crate is and where it goes. The checksums of a crate of more
// than one block lie in records of their own: they never change, while destinations
// do.
type Manifest struct {
	Crate        store.CrateID
	Size         int64 // bytes of content
	Origin       uint64
	Source       string
	Created      time.Time
	Wanted       int
	Retired      bool
	Forms        []FormInfo
	Destinations []Destination
	// Barred are nodes that must get no copy: the crate came through them, or lies there for
	// whoever sent it. Only a depot has such crates.
	Barred []store.NodeID
}

// Copies is how many distinct durable leaves have the crate verified. A leaf that two
// nodes lead to is one copy.
func (m *Manifest) Copies() int {
	seen := make([]store.NodeID, 0, 8)
	for i := range m.Destinations {
		if d := &m.Destinations[i]; d.State == Verified && d.Durable && !d.Unknown {
			d.eachLeaf(func(id store.NodeID) {
				if !slices.Contains(seen, id) {
					seen = append(seen, id)
				}
			})
		}
	}
	return len(seen)
}

// Outstanding is how many destinations have no verified copy that counts yet and are to get one.
func (m *Manifest) Outstanding() int {
	n := 0
	for _, d := range m.Destinations {
		if d.Unknown || d.State != Verified && d.State != Refused {
			n++
		}
	}
	return n
}

// Placed reports whether any node has had the crate verified, be its copy damaged since.
func (m *Manifest) Placed() bool {
	return slices.ContainsFunc(m.Destinations, func(d Destination) bool { return d.State == Verified || d.State == Damaged })
}

// verifiedBut reports whether a node other than one has a verified copy.
func (m *Manifest) verifiedBut(id store.NodeID) bool {
	return slices.ContainsFunc(m.Destinations, func(d Destination) bool { return d.State == Verified && d.Node != id })
}

// Destination finds the destination at a node; nil if there is none.
func (m *Manifest) Destination(node store.NodeID) *Destination {
	for i := range m.Destinations {
		if m.Destinations[i].Node == node {
			return &m.Destinations[i]
		}
	}
	return nil
}

// form finds what is known of a form; nil if nothing is.
func (m *Manifest) form(f store.Form) *FormInfo {
	for i := range m.Forms {
		if m.Forms[i].Form == f {
			return &m.Forms[i]
		}
	}
	return nil
}

// Known reports whether the checksums of a form are recorded.
func (m *Manifest) Known(f store.Form) bool {
	i := m.form(f)
	return i != nil && i.Root != store.Digest{}
}

// Manifests of version 2 tell of the leaves behind each node, and of nodes that must get no
// copy; those of version 3 of nodes that refuse the crate, too. Each is written in the oldest
// version that can tell what it has to.
const (
	manifestVersion        = 1
	manifestVersionLeaves  = 2
	manifestVersionRefused = 3
)

func (m *Manifest) version() byte {
	v := byte(manifestVersion)
	if len(m.Barred) > 0 {
		v = manifestVersionLeaves
	}
	for i := range m.Destinations {
		switch d := &m.Destinations[i]; {
		case d.State == Refused:
			return manifestVersionRefused
		case len(d.Leaves) > 0:
			v = manifestVersionLeaves
		}
	}
	return v
}

func (m *Manifest) encode() []byte {
	b := make([]byte, 0, 96+48*len(m.Destinations))
	version := m.version()
	b = append(b, version, bit(m.Retired))
	b = binary.AppendUvarint(b, uint64(m.Size))
	b = binary.AppendUvarint(b, m.Origin)
	b = binary.AppendVarint(b, m.Created.UnixNano())
	b = binary.AppendUvarint(b, uint64(m.Wanted))
	b = appendString(b, m.Source)
	b = binary.AppendUvarint(b, uint64(len(m.Forms)))
	for _, f := range m.Forms {
		b = append(b, byte(f.Form))
		b = binary.AppendUvarint(b, uint64(f.Size))
		b = append(b, f.Root[:]...)
		if f.single() {
			b = append(b, f.Block[:]...)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(m.Destinations)))
	for _, d := range m.Destinations {
		b = append(b, d.Node[:]...)
		b = append(b, byte(d.Form), byte(d.State), bit(d.Durable))
		b = appendReceipt(b, d.Time, d.Address, d.Fingerprint)
		if version == manifestVersion {
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(d.Leaves)))
		for _, l := range d.Leaves {
			b = append(b, l.ID[:]...)
			b = appendReceipt(b, l.Time, l.Address, l.Fingerprint)
		}
	}
	if version != manifestVersion {
		b = binary.AppendUvarint(b, uint64(len(m.Barred)))
		for _, id := range m.Barred {
			b = append(b, id[:]...)
		}
	}
	return b
}

func appendReceipt(b []byte, t time.Time, address, fingerprint string) []byte {
	var ns int64
	if !t.IsZero() {
		ns = t.UnixNano()
	}
	b = binary.AppendVarint(b, ns)
	b = appendString(b, address)
	return appendString(b, fingerprint)
}

func (r *reader) receipt() (t time.Time, address, fingerprint string) {
	if ns := r.varint(); ns != 0 {
		t = time.Unix(0, ns)
	}
	return t, r.text(), r.text()
}

func decodeManifest(crate store.CrateID, b []byte) (Manifest, error) {
	r := reader{b: b}
	version := r.byte()
	worst := Damaged
	switch version {
	case manifestVersion, manifestVersionLeaves:
	case manifestVersionRefused:
		worst = Refused
	default:
		r.bad = true
	}
	m := Manifest{Crate: crate, Retired: r.flag()}
	m.Size = int64(r.bounded(store.MaxCrate))
	m.Origin = r.uvarint()
	m.Created = time.Unix(0, r.varint())
	m.Wanted = int(r.bounded(1 << 16))
	m.Source = r.text()
	for range r.bounded(4) {
		var f FormInfo
		f.Form = store.Form(r.byte())
		f.Size = int64(r.bounded(store.MaxCrate << 1))
		r.fixed(f.Root[:])
		if f.single() {
			r.fixed(f.Block[:])
		}
		m.Forms = append(m.Forms, f)
	}
	for range r.bounded(MaxDestinations) {
		var d Destination
		r.fixed(d.Node[:])
		d.Form = store.Form(r.byte())
		d.State = DestinationState(r.byte())
		d.Durable = r.flag()
		d.Time, d.Address, d.Fingerprint = r.receipt()
		if version != manifestVersion {
			for range r.bounded(MaxLeaves) {
				var l Leaf
				r.fixed(l.ID[:])
				l.Time, l.Address, l.Fingerprint = r.receipt()
				d.Leaves = append(d.Leaves, l)
			}
		}
		if d.State > worst {
			r.bad = true
		}
		m.Destinations = append(m.Destinations, d)
	}
	if version != manifestVersion {
		for range r.bounded(MaxBarred) {
			var id store.NodeID
			r.fixed(id[:])
			m.Barred = append(m.Barred, id)
		}
	}
	return m, r.end("read the manifest of crate " + crate.String())
}
