package store

import (
	"context"
	"io"
	"os"
	"time"
)

// Form says how a crate's bytes stand to the content they keep.
type Form uint8

const (
	// Plain: the bytes are the content. Local nodes hold this form.
	Plain Form = iota
	// Sealed: the bytes are encrypted for nodes that must not read them.
	Sealed
)

// Charge is what a crate of size bytes costs of a reservation, in bytes: its
// data in whole 4 KiB units and, in the same units, a header with its checksums.
// Every store charges the same, so that a holder knows what a close will draw.
func Charge(size int64) int64 {
	return roundUp(size) + roundUp(512+Blocks(size)*DigestSize)
}

func roundUp(n int64) int64 { return (n + 4095) &^ 4095 }

// ReserveRequest asks for space. Everything but ID, Holder and Bytes may be left
// zero.
type ReserveRequest struct {
	ID     ReservationID
	Holder OwnerID
	// Bytes is the whole promise, in bytes of Charge, what was drawn already
	// included. Repeating a request is free. Another figure under the same ID grows or
	// shrinks the reservation, never below what was drawn.
	Bytes int64
	// Lease is how long the promise holds without a Renew; 0 means DefaultLease.
	Lease time.Duration
	// Copies is how many leaves should each reserve Bytes; 0 means 1.
	Copies int
	// Zones is how many distinct zones the leaves should lie in.
	Zones int
	// Exclude names leaves that hold a copy already.
	Exclude []NodeID
	// Path names the stores the request came through, so that loops are seen.
	Path []NodeID
	// Hops is how many further delegations are allowed.
	Hops int
}

// DefaultLease is the lease of a reservation that asks for none.
const DefaultLease = time.Hour

// Share is one leaf's part of a reservation.
type Share struct {
	Leaf    NodeID
	Zone    string
	Bytes   int64     // promised in all
	Drawn   int64     // of it, charged by crates stored already
	Expires time.Time // by the store's own clock
}

// Source gives a crate's bytes. It can be opened again at any block, which is
// what lets a broken transfer go on where it stopped. It may be opened from
// several goroutines.
type Source interface {
	// OpenAt gives the bytes from offset, a multiple of BlockSize, to the end.
	OpenAt(ctx context.Context, offset int64) (io.ReadCloser, error)
}

// PutRequest is one crate to keep.
type PutRequest struct {
	Reservation ReservationID
	Crate       CrateID
	Form        Form
	Size        int64 // bytes, 1..MaxCrate
	Source      Source
	// Expect, unless nil, is the root digest the bytes must have: anything else is
	// Corrupt and leaves nothing.
	Expect *Digest
	// Fresh, unless nil, are the checksums of the bytes, computed by the caller while it
	// wrote them, just now, to a file that Adopt is to take: it need not read them again.
	Fresh *Checksums
}

// Receipt is a leaf's statement that it has written, synced and verified a crate.
type Receipt struct {
	Leaf NodeID
	// Sums are the checksums of the stored bytes, computed by the leaf.
	Sums Checksums
	Time time.Time
	// Position is the store's when the crate was there, or a later one; zero: it keeps none.
	Position Position
	// Address and Fingerprint say how to reach a leaf that is remote; both are empty
	// for a local one.
	Address     string
	Fingerprint string
}

// Position tells how far the crates of a store have come, for the owner who asks. Each
// change of them, a crate put or discarded or a mount fenced, makes Count greater and draws
// Mark anew at random, before it is acknowledged: a store that was put back into an earlier
// state has a smaller Count or, where it went on from there, another Mark. It survives a kill
// of the store; after a power cut it may be an earlier one. A repeat that changes nothing
// leaves it. The zero Position is that of a store that keeps none: memory, or a router.
type Position struct {
	Count, Mark uint64
}

// CrateInfo is one line of a listing.
type CrateInfo struct {
	ID   CrateID
	Form Form
	Size int64
	Root Digest
}

// Page is a part of a listing. Next is the cursor for the following part and
// nil at the end.
type Page struct {
	Crates []CrateInfo
	Next   []byte
}

// MaxPage is the most crates one Page may hold.
const MaxPage = 1024

// Status is what a store says of itself. Sizes are in bytes.
type Status struct {
	Leaf     NodeID
	Durable  bool  // false for memory: such a copy never counts
	Capacity int64 // 0: bounded by the device alone
	Used     int64 // charged by crates
	Reserved int64 // promised and not yet drawn
	Free     int64 // what a new reservation may take now
	Crates   int64
	// Device tells stores on one disk apart from stores on several; 0: unknown.
	Device uint64
	// Leaves is on how many places the store keeps crates, where it is not the leaf itself.
	Leaves int
	// Damage counts places found corrupt and passed over since the store was opened.
	Damage int64
	// Position is that of the crates. A store on a disk reads it from there each time, so
	// that it is seen when the disk's content is replaced below it.
	Position Position
}

// DiscardRequest gives up a crate.
type DiscardRequest struct {
	Crate  CrateID
	Holder OwnerID
	// Signature is the owner's, over the crate and the leaf; local stores need none.
	Signature []byte
}

// Store is a place that keeps crates: a directory, a container, memory, a peer,
// a router over further stores.
//
// All methods may be called concurrently. Each honours its context: when it is
// cancelled the method returns soon, and a Put that had not acknowledged leaves nothing
// visible. Errors carry a Kind. A store that can't be reached, or whose root has lost
// its marker (an unmounted disk), answers Unavailable, never NotFound.
type Store interface {
	// Reserve promises space on one or more leaves, all or nothing; NoSpace or Quota
	// if it can't. The promise survives a restart of the store. Idempotent by ID.
	Reserve(ctx context.Context, r ReserveRequest) ([]Share, error)
	// Renew starts the lease anew, with its length as asked for in Reserve. NotFound
	// after it lapsed: reserve again.
	Renew(ctx context.Context, id ReservationID) (time.Time, error)
	// Release ends a reservation; crates stored under it stay. Releasing what is not
	// there succeeds.
	Release(ctx context.Context, id ReservationID) error

	// Put keeps a crate and draws its Charge from the reservation; NotFound if that is
	// unknown or lapsed, NoSpace if it has too little left. When it returns nil at least
	// one leaf has the crate durable and verified: the receipts say which. After an error
	// nothing visible is left. A repeat for a crate that is there with the same root gives a
	// receipt again and draws nothing; with another root it is a Conflict.
	Put(ctx context.Context, r PutRequest) ([]Receipt, error)
	// Open gives length bytes of a crate from offset; a negative length means to the
	// end. Each byte is verified before it is returned; a block that fails gives Corrupt.
	// A range outside the crate is Invalid.
	Open(ctx context.Context, id CrateID, offset, length int64) (io.ReadCloser, error)
	// Verify reads a range from the medium, checks it and proves it: BLAKE3, keyed with
	// the nonce, over the bytes. The range is as in Open.
	Verify(ctx context.Context, id CrateID, offset, length int64, nonce Digest) (Digest, error)
	// Stat tells of one crate without reading it: of what lies there, not of what is noted.
	// Where it can be seen without a read that the bytes are gone or too few it is Corrupt.
	Stat(ctx context.Context, id CrateID) (CrateInfo, error)
	// Discard gives up a crate and frees its space. Discarding what is not there
	// succeeds. Durable when it returns.
	Discard(ctx context.Context, r DiscardRequest) error
	// List goes through all crates in the order of their ids, from a cursor of an earlier
	// page, or from the start if it is nil. Crates are counted by it: one for which Stat is
	// Corrupt is not listed. So a page may have few crates, or none, and not be the last.
	List(ctx context.Context, cursor []byte) (Page, error)
	// Status reads no data.
	Status(ctx context.Context) (Status, error)
	// Close waits for what is under way and gives up the store's files and locks.
	Close() error
}

// Adopter is a store that can take over a local file by rename.
type Adopter interface {
	// Adopt verifies the file at path against r.Size and r.Expect (hashing it, unless its
	// checksums are in r.Fresh), syncs it and moves it in; r.Source is not used. Conflict, with nothing
	// changed, if the file lies on another filesystem. After a crash the file is at path
	// or in the store, and Adopted or a repeat of Adopt finds it.
	Adopt(ctx context.Context, r PutRequest, path string) ([]Receipt, error)
	// AdoptsFrom reports whether files in dir lie on the store's filesystem.
	AdoptsFrom(dir string) bool
	// Resident tells the store that bytes of its reservations are already on its
	// filesystem, in files that it will adopt: they are not charged twice. The figure
	// replaces the one before and is not persisted.
	Resident(bytes int64)
}

// Filer is a store that can hand out the file in which a crate lies 1:1 from
// offset 0. The file must not be written.
type Filer interface {
	File(ctx context.Context, id CrateID) (*os.File, error)
}

// Unverified is a store that can give a crate's bytes without checking them, for a caller
// that has the checksums and checks them itself: nobody else may be given these bytes.
type Unverified interface {
	// OpenUnverified is Open but for the check.
	OpenUnverified(ctx context.Context, id CrateID, offset, length int64) (io.ReadCloser, error)
}

// OpenUnverified opens a range of a crate for a caller who checks every byte itself.
func OpenUnverified(ctx context.Context, s Store, id CrateID, offset, length int64) (io.ReadCloser, error) {
	if u, ok := s.(Unverified); ok {
		return u.OpenUnverified(ctx, id, offset, length)
	}
	return s.Open(ctx, id, offset, length)
}

// PutResult is the outcome for one crate of a batch.
type PutResult struct {
	Receipts []Receipt
	Err      error
}

// Batcher is a store for which many small crates at once are cheaper than one by
// one: write all, sync all, make all visible, acknowledge all. Each result is as
// that of a Put of its own.
type Batcher interface {
	PutBatch(ctx context.Context, rs []PutRequest) []PutResult
}

// Fencer is a store that serves one running mount of its vault at a time, so
// that a copied or restored state directory can't destroy the other's data.
type Fencer interface {
	// Fence makes next the token the store holds, durably. It is refused with Conflict
	// if the store holds a token that is not in known: a mount with another history used it
	// since. takeOver is a person's decision that this mount is the right one. Until
	// Fence succeeded nothing that changes the store is allowed.
	Fence(ctx context.Context, known []Token, next Token, takeOver bool) error
}
