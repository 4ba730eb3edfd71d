package ledger

import "time"

// What a caller may ask for.
const (
	// MaxKey is the longest key, in bytes.
	MaxKey = 1024
	// MaxUpdateKeys is how many keys one update may write, over both spaces.
	MaxUpdateKeys = 1024
	// SmallUpdateKeys is the same for a store's own index.
	SmallUpdateKeys = 100
	// MaxUpdateBytes is how many bytes of keys and values one update may write.
	MaxUpdateBytes = 1 << 20
	// MaxScan is how many pairs one Scan may return.
	MaxScan = 4096
	// MaxUpdateWait is how long an update waits for the checkpointer when the overlay
	// is full, before it fails with Unavailable.
	MaxUpdateWait = 30 * time.Second
)

// The defaults of Options, in bytes.
const (
	DefaultSegment     = 8 << 20
	DefaultOverlay     = 64 << 20
	DefaultBallast     = 16 << 20
	DefaultKeepJournal = 512 << 20

	SmallSegment = 256 << 10
	SmallOverlay = 4 << 20
)

const (
	// minSegment is the smallest segment, in bytes: a header and some records.
	minSegment = 32 << 10
	// minOverlay is the smallest overlay, in bytes: two updates of the largest size.
	minOverlay = 2 * (MaxUpdateBytes + MaxUpdateKeys*entryOverhead)
	// entryOverhead is what an entry of the overlay costs beside its key and value, in
	// bytes: slice headers and its part of a tree node.
	entryOverhead = 128
	// unfoldedSegments is how many segments' worth of journal may wait to be folded
	// before updates wait; it bounds the replay at open.
	unfoldedSegments = 16
	// sealPart is the part of those bounds (1/sealPart) at which a generation is sealed
	// and folded early.
	sealPart = 4

	// checkpointEvery is how long an update stays out of bbolt when little goes on.
	checkpointEvery = 5 * time.Second
	// retryMin and retryMax bound the pauses after a checkpoint that failed.
	retryMin = 100 * time.Millisecond
	retryMax = 5 * time.Second
	// maxSyncTurns is how often one sync tries again on a journal that fails while
	// updates go on.
	maxSyncTurns = 8
	// tidyEvery is how often the ballast and the spare segment are looked after.
	tidyEvery = 10 * time.Second
	// openTimeout is how long bbolt may wait for its own lock; ours is held already.
	openTimeout = time.Second

	// mapSize is how much address space bbolt maps at once, in bytes: growing past it
	// waits for readers.
	mapSize = 16 << 30
	// smallMapSize is the same for a ledger with a small overlay.
	smallMapSize = 1 << 30
	// growTable and growSmallTable are the steps in which bbolt extends its file, in bytes.
	growTable      = 4 << 20
	growSmallTable = 256 << 10
	// growCopy is the same for a copy, which will not grow later.
	growCopy = 32 << 10
	// copyBatch is how much of a backup is written in one transaction, in bytes.
	copyBatch = 4 << 20

	// BackupEvery is the age at which the newest backup calls for another.
	BackupEvery = 24 * time.Hour
	// KeepBackups is how many backups are kept in the ledger's directory.
	KeepBackups = 7
	// backupPart: a backup is due too when the kept journal passes KeepJournal/backupPart.
	backupPart = 2
)
