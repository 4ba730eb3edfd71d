package depot

import (
	"encoding/binary"

	"stasis/router"
	"stasis/store"
	"stasis/store/booking"
)

// The table of reservations. FORMAT.md describes it.
const (
	tableDepot        = 'Z'
	tableReservations = 'r'

	recordVersion = 1
	// maxIDs is how many ids a request may exclude, or have come through.
	maxIDs = 1024
)

func reservationKey(id store.ReservationID) []byte {
	return append([]byte{tableDepot, tableReservations}, id[:]...)
}

// terms are what a reservation asks for beside space.
type terms struct {
	copies, zones int
	hops          int
	exclude, path []store.NodeID
}

// record is a reservation as it lies in the ledger.
type record struct {
	ask   terms
	drawn int64
	terms booking.Terms
	plan  router.Plan
}

func (r record) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{recordVersion}, uint64(r.drawn))
	for _, n := range []int{r.ask.copies, r.ask.zones, r.ask.hops} {
		b = binary.BigEndian.AppendUint16(b, uint16(min(n, 1<<16-1)))
	}
	for _, ids := range [][]store.NodeID{r.ask.exclude, r.ask.path} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(ids)))
		for _, id := range ids {
			b = append(b, id[:]...)
		}
	}
	b = append(b, r.terms.Encode()...)
	plan, _ := r.plan.MarshalBinary() // never fails
	return append(b, plan...)
}

func decodeRecord(b []byte) (r record, err error) {
	damaged := &store.Error{Kind: store.Corrupt, Op: "read the record of a reservation", Hint: "the peer's ledger is damaged: restore it from a backup"}
	take := func(n int) []byte {
		if n > len(b) {
			b = nil
			err = damaged
			return make([]byte, n)
		}
		p := b[:n]
		b = b[n:]
		return p
	}
	number := func() int { return int(binary.BigEndian.Uint16(take(2))) }
	ids := func() (out []store.NodeID) {
		n := number()
		if n > maxIDs {
			err = damaged
			return nil
		}
		for range n {
			out = append(out, store.NodeID(take(16)))
		}
		return out
	}
	if take(1)[0] != recordVersion {
		return r, damaged
	}
	r.drawn = int64(binary.BigEndian.Uint64(take(8)))
	r.ask.copies, r.ask.zones, r.ask.hops = number(), number(), number()
	r.ask.exclude, r.ask.path = ids(), ids()
	if err != nil || r.drawn < 0 || len(b) < booking.TermsSize {
		return r, damaged
	}
	if r.terms, err = booking.DecodeTerms(take(booking.TermsSize)); err != nil {
		return r, damaged
	}
	if r.plan.UnmarshalBinary(b) != nil {
		return r, damaged
	}
	return r, nil
}
