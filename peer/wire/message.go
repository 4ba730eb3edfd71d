package wire

import (
	"time"

	"stasis/store"
)

// Reserve is store.ReserveRequest.
type Reserve struct {
	ID      store.ReservationID `json:"id"`
	Bytes   int64               `json:"bytes"`
	LeaseMS int64               `json:"lease_ms,omitempty"`
	Copies  int                 `json:"copies,omitempty"`
	Zones   int                 `json:"zones,omitempty"`
	Exclude []store.NodeID      `json:"exclude,omitempty"`
	Path    []store.NodeID      `json:"path,omitempty"`
	Hops    int                 `json:"hops,omitempty"`
}

// Share is store.Share.
type Share struct {
	Leaf    store.NodeID `json:"leaf"`
	Zone    string       `json:"zone,omitempty"`
	Bytes   int64        `json:"bytes"`
	Drawn   int64        `json:"drawn"`
	Expires time.Time    `json:"expires"`
}

// Shares answers a Reserve.
type Shares struct {
	Shares []Share `json:"shares"`
}

// Reservation names one, to renew or release it.
type Reservation struct {
	ID store.ReservationID `json:"id"`
}

// Renewed answers a renewal.
type Renewed struct {
	Expires time.Time `json:"expires"`
}

// PutHead opens the sending of a crate.
type PutHead struct {
	Reservation store.ReservationID `json:"reservation"`
	Crate       store.CrateID       `json:"crate"`
	Form        uint8               `json:"form,omitempty"`
	Size        int64               `json:"size"`
	Expect      *store.Digest       `json:"expect,omitempty"`
}

// Begin asks for the bytes of a crate from an offset, a multiple of store.BlockSize.
type Begin struct {
	Offset int64 `json:"offset"`
}

// Sums are store.Checksums; the digests of the blocks follow one another.
type Sums struct {
	Size   int64  `json:"size"`
	Blocks []byte `json:"blocks"`
}

// Position is store.Position: that of the owner's crates at the peer, not of its store. Both
// numbers take all of 64 bits, and encoding/json keeps each of them; a reader that makes a
// float of a number would not.
type Position struct {
	Count uint64 `json:"count"`
	Mark  uint64 `json:"mark"`
}

// Receipt is store.Receipt.
type Receipt struct {
	Leaf        store.NodeID `json:"leaf"`
	Sums        Sums         `json:"sums"`
	Time        time.Time    `json:"time"`
	Position    Position     `json:"position,omitzero"`
	Address     string       `json:"address,omitempty"`
	Fingerprint string       `json:"fingerprint,omitempty"`
}

// Receipts answers a put.
type Receipts struct {
	Receipts []Receipt `json:"receipts"`
}

// Batch opens an exchange of small crates: the bytes of all follow one another in order.
type Batch struct {
	Crates []PutHead `json:"crates"`
}

// BatchResult is the outcome for one crate: receipts or an error.
type BatchResult struct {
	Receipts []Receipt `json:"receipts,omitempty"`
	Error    *Error    `json:"error,omitempty"`
}

// BatchResults answers a Batch, in its order.
type BatchResults struct {
	Results []BatchResult `json:"results"`
}

// Range is a part of a crate, to read or to verify. A negative length means to the end.
type Range struct {
	Crate  store.CrateID `json:"crate"`
	Offset int64         `json:"offset"`
	Length int64         `json:"length"`
	Nonce  *store.Digest `json:"nonce,omitempty"`
	// Unverified: the reader has the checksums; the peer need not check what it sends.
	Unverified bool `json:"unverified,omitempty"`
}

// Proof answers a verification.
type Proof struct {
	Digest store.Digest `json:"digest"`
}

// Crate names one.
type Crate struct {
	ID store.CrateID `json:"id"`
}

// Info is store.CrateInfo.
type Info struct {
	ID   store.CrateID `json:"id"`
	Form uint8         `json:"form,omitempty"`
	Size int64         `json:"size"`
	Root store.Digest  `json:"root"`
}

// Discard gives up a crate. The signature is the owner's, over crate and leaf.
type Discard struct {
	Crate     store.CrateID `json:"crate"`
	Signature []byte        `json:"signature,omitempty"`
}

// List asks for a page; no cursor means the first.
type List struct {
	Cursor []byte `json:"cursor,omitempty"`
}

// Page is store.Page.
type Page struct {
	Crates []Info `json:"crates"`
	Next   []byte `json:"next,omitempty"`
}

// Status is store.Status.
type Status struct {
	Leaf     store.NodeID `json:"leaf"`
	Durable  bool         `json:"durable"`
	Capacity int64        `json:"capacity"`
	Used     int64        `json:"used"`
	Reserved int64        `json:"reserved"`
	Free     int64        `json:"free"`
	Crates   int64        `json:"crates"`
	Damage   int64        `json:"damage,omitempty"`
	Leaves   int          `json:"leaves,omitempty"` // 0: the peer is the leaf itself
	Position Position     `json:"position,omitzero"`
	Version  int          `json:"version"`
}

// Fence is the request of store.Fencer.
type Fence struct {
	Known    []store.Token `json:"known"`
	Next     store.Token   `json:"next"`
	TakeOver bool          `json:"take_over,omitempty"`
}

// Redeem turns an invite into the right to keep crates. The signature is the owner key's,
// over the secret and the fingerprint of the certificate that is shown.
type Redeem struct {
	Secret    []byte        `json:"secret"`
	Owner     store.OwnerID `json:"owner"`
	Name      string        `json:"name,omitempty"`
	Signature []byte        `json:"signature"`
}

// Redeemed says what the owner may have.
type Redeemed struct {
	Leaf  store.NodeID `json:"leaf"`
	Quota int64        `json:"quota"` // bytes; 0: the peer's capacity
}

// Cursor and Event are the store's own: what a store tells unasked.
type (
	Cursor = store.Cursor
	Event  = store.Event
)

// The kinds of events.
const (
	EventAlive   = store.EventAlive
	EventGap     = store.EventGap
	EventDamaged = store.EventDamaged
	EventSpace   = store.EventSpace
	EventCopies  = store.EventCopies
)

// Empty is an answer without content.
type Empty struct{}
