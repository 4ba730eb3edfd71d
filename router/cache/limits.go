package cache

import "time"

const (
	// MaxFiles is the most blocks that are kept; each takes some 200 bytes of memory.
	MaxFiles = 1 << 17
	// MaxWaiting is how many blocks may wait to be written, in memory; more are not kept.
	MaxWaiting = 32
	// KeepRate is how many bytes a second are written for long: what comes faster is as soon
	// fetched again, and whoever reads it has better use for the disk and the processor.
	// KeepBurst are the bytes that may come at once.
	KeepRate  = 128 << 20
	KeepBurst = 64 << 20
	// TrimEvery is how often it is looked whether others have brought the filesystem
	// below the floor.
	TrimEvery = 5 * time.Second
	// TouchAfter is how old the noted time of a block's last use may get.
	TouchAfter = 10 * time.Minute
	// SpareTries is how many blocks that can't be spared are passed over in a row before
	// nothing is dropped.
	SpareTries = 256
	// unit is what a file's size is rounded up to on the disk, in bytes.
	unit = 4096
	// FloorMargin is by how much more than the floor is kept free, in bytes, as others write
	// between the look and the writing.
	FloorMargin = 16 << 20
)
