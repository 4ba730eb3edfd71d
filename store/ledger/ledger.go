package ledger

import (
	"time"

	"github.com/sirupsen/logrus"
)

// SpaceID names one of the two key spaces. The number is part of the format.
type SpaceID uint8

const (
	// Shared holds what every machine that mounts the vault must agree on.
	Shared SpaceID = 1
	// Local holds what concerns this machine alone.
	Local SpaceID = 2
)

// Position counts updates: the first is 1, and 0 is before all of them. It goes
// on across restarts, backups and restores.
type Position uint64

// Pair is a key and its value, both the receiver's to keep.
type Pair struct {
	Key, Value []byte
}

// Options may be left zero. Sizes are in bytes; for each, 0 means the default.
type Options struct {
	// Log takes what an operator should know; nil discards it.
	Log logrus.FieldLogger
	// State is how the person names the directory to `stasis restore` in the sentence
	// that refuses a damaged ledger; empty means the parent of the ledger's directory.
	State string
	// Segment is how much of the journal is preallocated at a time.
	Segment int64
	// Overlay bounds the memory of updates that are not yet in bbolt.
	Overlay int64
	// Ballast is preallocated and given up when the disk is full, so that the ledger
	// itself can go on; negative means none.
	Ballast int64
	// UpdateKeys is how many keys one update may write, MaxUpdateKeys at most: with few of them
	// tests try what is done in several updates.
	UpdateKeys int
	// KeepJournal bounds the journal that is kept since the newest backup, for Restore;
	// negative means that none is kept and no backup is made before a format upgrade
	// either: for a ledger that can be rebuilt from what it describes.
	KeepJournal int64

	// Gate, unless nil, is called after each update, with nothing else going on in the ledger:
	// its files are what a kill would leave at that moment, for tests to copy. It may not call
	// the ledger.
	Gate func(Position)

	// What the tests replace.
	files      files        // nil means the directory itself
	beforeFold func() error // an error fails the fold
}

// Small is for a store's own index: less than 1 MiB when empty, no ballast, no
// journal kept for restores, as the index can be rebuilt from the store.
func Small() Options {
	return Options{Segment: SmallSegment, Overlay: SmallOverlay, Ballast: -1, KeepJournal: -1, UpdateKeys: SmallUpdateKeys}
}

// Backup is one backup file.
type Backup struct {
	Path     string
	Position Position  // every update up to it is in the backup
	Time     time.Time // when it was made
	Size     int64     // bytes
}

// Restored says how far a Restore came.
type Restored struct {
	Backup   Position // where the backup ended
	Reached  Position // the last update replayed from the journals
	Expected Position // the last update that the journals are known to have held; more than Reached means a loss
	Damage   string   // why the replay ended before Expected; empty if it did not
	Aside    string   // the directory with the damaged files; empty if there were none
}
