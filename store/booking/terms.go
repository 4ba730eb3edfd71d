package booking

import (
	"context"
	"encoding/binary"
	"time"

	"stasis/store"
)

// Terms are what a store persists of a reservation when it is made, renewed,
// grown or shrunk.
type Terms struct {
	ID     store.ReservationID
	Holder store.OwnerID
	Bytes  int64         // promised in all, bytes of store.Charge
	Lease  time.Duration // the length asked for, cut to MaxLease
	// Expires is the end by the wall clock: what counts after the machine restarted.
	Expires time.Time
	// Boot and Deadline are the end by CLOCK_BOOTTIME on the boot they were written
	// in: what counts as long as the machine runs.
	Boot     [16]byte
	Deadline time.Duration
}

// Record is a persisted reservation as a store loads it.
type Record struct {
	Terms
	Drawn int64 // bytes charged by crates that were committed under it
}

// Journal is how a Book persists. Calls for one reservation come one after the
// other, calls for different ones at once.
type Journal interface {
	// SaveTerms makes the terms durable. The Drawn that the store has persisted under the
	// same id stays as it is.
	SaveTerms(ctx context.Context, t Terms) error
	// DeleteTerms durably removes the terms and the Drawn of a reservation. Deleting
	// what is not there succeeds.
	DeleteTerms(ctx context.Context, id store.ReservationID) error
}

// TermsSize is the length of encoded Terms, in bytes.
const TermsSize = 1 + 16 + 32 + 8 + 8 + 8 + 16 + 8

const termsVersion = 1

// Encode gives the terms in TermsSize bytes: a version, then the fields in order,
// integers big-endian, Expires in nanoseconds since 1970.
func (t Terms) Encode() []byte {
	b := make([]byte, 0, TermsSize)
	b = append(b, termsVersion)
	b = append(b, t.ID[:]...)
	b = append(b, t.Holder[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Bytes))
	b = binary.BigEndian.AppendUint64(b, uint64(t.Lease))
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expires.UnixNano()))
	b = append(b, t.Boot[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(t.Deadline))
}

// DecodeTerms reads what Encode wrote; anything else is Corrupt.
func DecodeTerms(b []byte) (Terms, error) {
	var t Terms
	if len(b) != TermsSize || b[0] != termsVersion {
		return t, &store.Error{Kind: store.Corrupt, Op: "read the terms of a reservation"}
	}
	b = b[1:]
	b = b[copy(t.ID[:], b):]
	b = b[copy(t.Holder[:], b):]
	t.Bytes = int64(binary.BigEndian.Uint64(b))
	t.Lease = time.Duration(binary.BigEndian.Uint64(b[8:]))
	t.Expires = time.Unix(0, int64(binary.BigEndian.Uint64(b[16:])))
	b = b[24:]
	b = b[copy(t.Boot[:], b):]
	t.Deadline = time.Duration(binary.BigEndian.Uint64(b))
	if t.Bytes < 0 || t.Lease <= 0 || t.Lease > MaxLease {
		return Terms{}, &store.Error{Kind: store.Corrupt, Op: "read the terms of a reservation"}
	}
	return t, nil
}

// left is how long the terms still hold, at most their own lease. Zero or less
// means lapsed.
func (t Terms) left(c Clock) time.Duration {
	if id := c.BootID(); t.Boot == id && id != [16]byte{} {
		return min(t.Deadline-c.Boot(), t.Lease)
	}
	return min(t.Expires.Sub(c.Wall()), t.Lease)
}
