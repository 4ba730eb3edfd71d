package store

import (
	"encoding/hex"
	"fmt"
)

// The ids travel and are configured as text: UUIDs in their canonical form, the
// others in lower-case hexadecimal. Reading gives Invalid for anything else.

// MarshalText gives the canonical UUID.
func (c CrateID) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads the canonical UUID.
func (c *CrateID) UnmarshalText(b []byte) error { return readUUID((*[16]byte)(c), b) }

// MarshalText gives the canonical UUID.
func (n NodeID) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads the canonical UUID.
func (n *NodeID) UnmarshalText(b []byte) error { return readUUID((*[16]byte)(n), b) }

// MarshalText gives the canonical UUID.
func (r ReservationID) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the canonical UUID.
func (r *ReservationID) UnmarshalText(b []byte) error { return readUUID((*[16]byte)(r), b) }

// MarshalText gives 32 hexadecimal digits.
func (t Token) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(t[:])), nil }

// UnmarshalText reads 32 hexadecimal digits.
func (t *Token) UnmarshalText(b []byte) error { return readHex(t[:], b) }

// MarshalText gives 64 hexadecimal digits.
func (o OwnerID) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (o *OwnerID) UnmarshalText(b []byte) error { return readHex(o[:], b) }

// MarshalText gives 64 hexadecimal digits.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (d *Digest) UnmarshalText(b []byte) error { return readHex(d[:], b) }

func readUUID(into *[16]byte, b []byte) error {
	id, err := parseUUID(string(b))
	if err == nil {
		*into = id
	}
	return err
}

func readHex(into, b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil || len(raw) != len(into) || hex.EncodeToString(raw) != string(b) {
		return &Error{Kind: Invalid, Op: "read an id", Subject: fmt.Sprintf("%.80q", b)}
	}
	copy(into, raw)
	return nil
}
