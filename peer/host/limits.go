package host

import (
	"time"

	"stasis/peer/wire"
	"stasis/store"
)

const (
	// MaxOwners is how many owners a peer knows, revoked ones included. Of others there are no
	// more than guard.Owners at a time.
	MaxOwners = 4096
	// MaxInvites is how many invites are kept at once, those redeemed included.
	MaxInvites = 8192
	// MaxLifetime is the longest time an invite can be redeemed.
	MaxLifetime = 365 * 24 * time.Hour
	// MaxName is the longest name of an owner, in bytes.
	MaxName = 256
	// MaxFences is the most tokens that one Fence may name.
	MaxFences = wire.MaxTokens

	// ReservationsAnOwner is how many reservations one owner may hold at once, those included that
	// have ended and of which the store still has something.
	ReservationsAnOwner = 512
	// LongestLease is the longest lease that an owner gets; a longer one is cut to it. Vaults ask
	// for an hour.
	LongestLease = 24 * time.Hour
	// SparedPart: what one of several owners has reserved and not drawn is never more than
	// what would be free without it but 1/SparedPart. See share.go.
	SparedPart = 4
	// MirrorLease is by how much the lease asked of the store outlasts the owner's: it is
	// the host that ends them, and this only bounds what a host that never comes back
	// leaves behind.
	MirrorLease = 24 * time.Hour

	// SmallCrate is the largest crate that goes from memory into the store, in bytes: one
	// block, of which nothing could be resumed.
	SmallCrate = store.BlockSize
	// partCrates and partBytes bound what of a batch is handled together.
	partCrates = 256
	partBytes  = 16 << 20

	// What each owner is sure of, and what there is beside for whoever asks; see guard.Lanes.
	// How many owners there are at a time is guard.Owners.

	// MemoryAnOwner and MemoryPool are the bytes in memory of small crates, and of the blocks of
	// large ones that go on to the store as they come.
	MemoryAnOwner = 2 << 20
	MemoryPool    = 32 << 20
	// UploadsAnOwner and UploadsPool are how many large crates are received at once, with a
	// chunk of memory each.
	UploadsAnOwner = 4
	UploadsPool    = 64
	// ReadersAnOwner and ReadersPool are how many crates are read or verified at once, with a
	// block of memory each. A vault makes 64 calls.
	ReadersAnOwner = 2
	ReadersPool    = 64
	// BriefAnOwner and BriefPool are how many calls at once are worked on that only change or
	// ask for records.
	BriefAnOwner = 1
	BriefPool    = 16
	// LightAnOwner and LightPool are how many puts of small crates the store works on at once,
	// a batch being one, HeavyAnOwner and HeavyPool how many of large ones. Each kind has its
	// own turns, so that neither waits for the other.
	LightAnOwner = 1
	LightPool    = 8
	HeavyAnOwner = 1
	HeavyPool    = 4
	// StreamsAnOwner and StreamsPool are how many streams of events there are.
	StreamsAnOwner = 2
	StreamsPool    = 32
	// chunkSize is how many bytes of an upload are read at a time.
	chunkSize = 256 << 10
	// deliverLimit bounds how long a crate that was received wholly may take to be verified,
	// synced and recorded, whether or not its sender still waits: 64 GiB on a slow disk.
	deliverLimit = 30 * time.Minute
	// itemsAnUpdate is how many crates stand in one update of the ledger, which takes 100
	// keys; each has three.
	itemsAnUpdate = 30

	// IntentsAnOwner is how many crates of one owner may be on their way into the store at once,
	// those included of which it is not clear yet whether the store has them. More than what is
	// under way in all turns of one owner, so that it bounds only what outages and broken calls
	// leave.
	IntentsAnOwner = 4096

	// PartialsAnOwner is how many interrupted uploads of one owner are kept.
	PartialsAnOwner = 64
	// PartialKept is how long an interrupted upload waits to be resumed.
	PartialKept = 6 * time.Hour
	// SpoolFloor is what a spool that is not on the store's account leaves free of its disk, in
	// bytes, or less where the disk is small. A crate that doesn't fit is put without a spool and
	// can't be resumed, or refused by a store that would need the same space for it.
	SpoolFloor = 256 << 20
	// flushEvery is after how many bytes of an upload its writing to the disk is begun.
	flushEvery = 8 << 20

	// tendEvery is how often leases, interrupted uploads and what an error left are looked
	// after.
	tendEvery = 5 * time.Second
	// settleAfter is how long the outcome of a put that ended in an error is left to
	// become clear.
	settleAfter = time.Minute
	// undoLimit bounds what is done for a caller who has gone, or in the background.
	undoLimit = 10 * time.Second
	// openLimit bounds what Open asks of the store.
	openLimit = 20 * time.Second

	// recountPage is how many records a recount goes through before it pauses.
	recountPage = 256
	// recountFailures is after how many crates in a row that the store gives no answer for a
	// recount breaks off, to be begun again later.
	recountFailures = 16

	// damageAgain is how long it is before an owner and the log are told once more of a crate that
	// is found damaged again, and damageKnown how many such crates of one owner are remembered.
	damageAgain = time.Hour
	damageKnown = 4096

	// relayAhead is how many of the store's events are taken ahead of being passed on, relayGather
	// how long others are waited for, and relayPause how long it is before a store is listened to
	// again that broke off. Passing on has one part in relayShare of the time.
	relayAhead  = 1024
	relayGather = 200 * time.Millisecond
	relayPause  = time.Second
	relayShare  = 9
	// EventsKept is how many events of an owner are remembered.
	EventsKept = 256
)
