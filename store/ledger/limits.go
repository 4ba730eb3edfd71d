package ledger

const (
	// MaxKey is the longest key, in bytes.
	MaxKey = 1024
	// MaxUpdateKeys is how many keys one update may write.
	MaxUpdateKeys = 100
	// MaxUpdateBytes is how many bytes of keys and values one update may write.
	MaxUpdateBytes = 1 << 20
	// MaxScan is how many pairs one Scan may return.
	MaxScan = 4096

	// DefaultSegment is the preallocated size of a journal segment, in bytes.
	DefaultSegment = 8 << 20
	// DefaultOverlay bounds the overlay's memory, in bytes.
	DefaultOverlay = 64 << 20
	// DefaultBallast is the size of the ballast file, in bytes.
	DefaultBallast = 16 << 20
	// DefaultKeepJournal bounds the journal kept since the newest backup, in bytes.
	DefaultKeepJournal = 512 << 20

	// SmallSegment is the segment of a Small ledger, in bytes.
	SmallSegment = 256 << 10
	// SmallOverlay is the overlay of a Small ledger, in bytes.
	SmallOverlay = 4 << 20

	// KeepBackups is how many daily backups are kept.
	KeepBackups = 7
)
