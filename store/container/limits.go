package container

import "time"

const (
	// PageSize is the unit of everything in the file, in bytes: that of store.Charge.
	PageSize = 4096

	// MinCapacity is the smallest container, in bytes.
	MinCapacity = 4 << 20
	// MaxCapacity is the largest container, in bytes: what 31 bits of pages address.
	MaxCapacity = 8 << 40

	// CrateMemory is what the index takes in memory for one crate in few pieces,
	// in bytes, the free slots of its tree nodes and the map of free space
	// included. A test measures it.
	CrateMemory = 320

	// minReservations is how many reservations even the smallest container keeps; a
	// larger one keeps one for 256 KiB, at most booking.MaxReservations. Each takes space
	// in the log, which is set aside for all of them.
	minReservations = 64

	// maxWrites is how many writes of what comes in the file is asked for at once, each of which
	// takes a thread; further ones wait for their turn. How many crates come in at once, with a
	// block of 1 MiB in memory each, is for the callers to bound.
	maxWrites = 32

	// syncAlone is from how many bytes of data on a Put syncs them by itself before
	// it joins a commit, so that the small ones don't wait for the large ones.
	syncAlone = 4 << 20

	// journalPages is how many pages of commits the log may have before it is
	// replaced by a new checkpoint, if the checkpoint is smaller than that.
	journalPages = 1024

	// poolPages is how many pages beyond those of a checkpoint the log holds ready,
	// allocated on the disk: so many commits can be written when it is full.
	poolPages = 16

	// shrinkPages is how many pages the file must get shorter by for the log to be
	// moved out of its tail.
	shrinkPages = 256

	// maxPending is how many changes wait for one commit at most; further ones
	// wait for their turn.
	maxPending = 4096

	// maxKnownDamage is how many damaged blocks are remembered, so that
	// reading one again doesn't count it again.
	maxKnownDamage = 4096

	// maxDamageLines is how many places found at an opening are listed in the log.
	maxDamageLines = 32

	// readWindow is how much of the log is read at once, in bytes.
	readWindow = 1 << 20

	// supplyPages is how many pages the log takes at once when its store runs low.
	supplyPages = 64

	// commitBytes is how many bytes of records make a commit full; a single change
	// may have more.
	commitBytes = 8 * payloadSize

	// punchPages is the shortest run of free pages that is given back to the
	// filesystem; shorter ones only wait to be used again.
	punchPages = 16

	// tidyPages is how many freed pages make it worth to give runs back.
	tidyPages = 256

	// maxLoose is how many freed extents are remembered for that.
	maxLoose = 65536

	// hangGrace is how long a cancelled call waits for the disk before it leaves what it
	// began to end by itself.
	hangGrace = 2 * time.Second

	// lookers is how many headers are read at once for a listing, and lookPart how many before
	// it is looked at the clock: a page ends after listFor, with what was looked for until
	// then. On a disk that must seek for each a whole page may take longer than who asks for
	// it waits.
	lookers  = 16
	lookPart = 128
	listFor  = 2 * time.Second

	// digestWindow is how many digests a reader holds: 256 MiB of a crate.
	digestWindow = 256
)
