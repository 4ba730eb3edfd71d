package store

import (
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"
)

// CrateID names a crate for ever. Ids are UUIDs of version 7: made in order of
// time, so that neighbours in time are neighbours in an ordered index, with 74
// random bits, so that two vaults never mint the same one.
type CrateID [16]byte

// NodeID is the identity of a leaf, minted in the store's own root when it is
// first initialised. It moves with the data, not with the path.
type NodeID [16]byte

// ReservationID names a reservation. The holder mints it, which is what makes
// Reserve, Renew and Release repeatable.
type ReservationID [16]byte

// OwnerID is a vault towards the stores it uses: its Ed25519 public key.
type OwnerID [32]byte

// Token is minted at each start of a mount; see Fencer.
type Token [16]byte

// NewCrateID mints a crate id.
func NewCrateID() CrateID { return CrateID(newV7()) }

// NewNodeID mints a node id.
func NewNodeID() NodeID { return NodeID(uuid.New()) }

// NewReservationID mints a reservation id.
func NewReservationID() ReservationID { return ReservationID(newV7()) }

// NewToken mints a mount token.
func NewToken() Token { return Token(uuid.New()) }

// newV7 falls back on a random UUID only if the system's random source fails
// to give the few bytes a version 7 needs, in which case uuid.New panics as
// nothing in the process can be trusted any more.
func newV7() uuid.UUID {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.New()
	}
	return id
}

func (c CrateID) String() string       { return uuid.UUID(c).String() }
func (n NodeID) String() string        { return uuid.UUID(n).String() }
func (r ReservationID) String() string { return uuid.UUID(r).String() }
func (o OwnerID) String() string       { return hex.EncodeToString(o[:]) }

// IsZero reports whether the id was never set.
func (c CrateID) IsZero() bool { return c == CrateID{} }

// IsZero reports whether the id was never set.
func (n NodeID) IsZero() bool { return n == NodeID{} }

// IsZero reports whether the id was never set.
func (o OwnerID) IsZero() bool { return o == OwnerID{} }

// ParseCrateID reads the canonical text form of a crate id.
func ParseCrateID(s string) (CrateID, error) {
	id, err := parseUUID(s)
	return CrateID(id), err
}

// ParseNodeID reads the canonical text form of a node id.
func ParseNodeID(s string) (NodeID, error) {
	id, err := parseUUID(s)
	return NodeID(id), err
}

// parseUUID accepts the canonical form only: ids are also file names, and one
// name must not have two spellings.
func parseUUID(s string) (uuid.UUID, error) {
	id, err := uuid.Parse(s)
	if err != nil || id.String() != s {
		return uuid.UUID{}, &Error{Kind: Invalid, Op: "read an id", Subject: fmt.Sprintf("%.40q", s)}
	}
	return id, nil
}
