package directory

import "time"

const (
	// shards is how many directories the crates are spread over, by the last byte of
	// their ids, which is random where the first ones are a time.
	shards = 256
	// InodeFloor is how many inodes are left of a filesystem that has none left for crates: the
	// store's own files need some.
	InodeFloor = 32
	// inlineBlocks is how many block digests stand in a crate's own record; those of
	// larger crates lie beside it, in chunks.
	inlineBlocks = 64
	// chunkBlocks is how many digests a chunk has.
	chunkBlocks = 1024
	// chunksAnUpdate keeps an update of chunks below the ledger's limit of 1 MiB.
	chunksAnUpdate = 24
	// updateKeys is how many keys one update of the index writes at most, its
	// totals and its position included; the ledger allows 100.
	updateKeys = 96

	// MaxBatch is how many crates of a batch are handled together, and maxBatchBytes how
	// many bytes of them; a longer batch is handled in parts.
	MaxBatch      = 256
	maxBatchBytes = 64 << 20
	// batchWriters is how many crates of a batch are written at once.
	batchWriters = 4
	// syncers is how many files or directories are synced at once where each is synced
	// by itself.
	syncers = 16
	// wholeSyncFrom is the number of files from which one syncfs is cheaper than to sync
	// each; not while more than maxForeignDirty bytes of anybody's wait to be written on
	// this machine, as it would wait for them all.
	wholeSyncFrom   = 8
	maxForeignDirty = 64 << 20

	// lookers is how many files are looked for at once, and lookPart how many before it is
	// looked at the clock: a page of a listing ends after listFor, with what was looked for
	// until then. On a disk that must seek for each a whole page may take longer than who
	// asks for it waits.
	lookers  = 16
	lookPart = 128
	listFor  = 2 * time.Second

	// preallocateFrom is the size in bytes from which a file's space is allocated before
	// it is written.
	preallocateFrom = 8 << 20

	// indexBallast is what the index keeps back, in bytes, so that crates can be
	// discarded on a disk without any room.
	indexBallast = 1 << 20

	// marksKept is how many files may have been unlinked with their marks still there.
	marksKept = 256
	// maxTombstones is how many discarded ids are remembered, the youngest; as many as
	// tombstonesCut of the oldest go at once.
	maxTombstones = 1 << 20
	tombstonesCut = 48

	// markerSize is the most bytes a marker may have.
	markerSize = 4096
	// pathSize is the longest path of a file to adopt, in bytes: the kernel's limit.
	pathSize = 4096

	// abandonAfter is how long an operation has, once its context has ended, to undo what
	// it did before its caller returns without it.
	abandonAfter = 2 * time.Second
	// closeWait is how long Close waits for what is under way, and for the filesystem.
	closeWait = 20 * time.Second
)
