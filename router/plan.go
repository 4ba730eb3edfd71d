package router

import (
	"encoding/binary"

	"stasis/store"
)

// Target is one node of a Plan.
type Target struct {
	Node store.NodeID
	// Bytes are charged there.
	Bytes int64
	// Resident, of Bytes, lie already on the node's filesystem in a body to be adopted.
	Resident int64
	// Reserved: the node has promised the space. Otherwise it is silent: its copy is
	// queued, and reserved when the node is back.
	Reserved bool
}

// Plan is where one content goes. The zero Plan holds nothing.
type Plan struct {
	Targets []Target
	// Wanted is how many copies the policy asked for.
	Wanted int
	// Short says in a sentence why there are fewer targets than wanted; empty if there
	// are not.
	Short string
	// Waiting says which wanted nodes are silent; empty if none is.
	Waiting string
}

const planVersion = 1

// MarshalBinary never fails.
func (p Plan) MarshalBinary() ([]byte, error) {
	b := []byte{planVersion}
	b = binary.AppendUvarint(b, uint64(p.Wanted))
	b = appendString(b, p.Short)
	b = appendString(b, p.Waiting)
	b = binary.AppendUvarint(b, uint64(len(p.Targets)))
	for _, t := range p.Targets {
		b = append(b, t.Node[:]...)
		b = append(b, bit(t.Reserved))
		b = binary.AppendUvarint(b, uint64(t.Bytes))
		b = binary.AppendUvarint(b, uint64(t.Resident))
	}
	return b, nil
}

// UnmarshalBinary gives Corrupt for what MarshalBinary did not make.
func (p *Plan) UnmarshalBinary(b []byte) error {
	r := reader{b: b}
	r.version(planVersion)
	q := Plan{Wanted: int(r.bounded(1 << 16)), Short: r.text(), Waiting: r.text()}
	for range r.bounded(MaxDestinations) {
		var t Target
		r.fixed(t.Node[:])
		t.Reserved = r.flag()
		t.Bytes = int64(r.bounded(1 << 62))
		t.Resident = int64(r.bounded(1 << 62))
		q.Targets = append(q.Targets, t)
	}
	if err := r.end("read plan"); err != nil {
		return err
	}
	*p = q
	return nil
}
