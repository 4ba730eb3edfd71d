// Package directory is a leaf that keeps each crate as one file in a directory,
// on any filesystem that is mounted: a disk, a USB stick, a network share.
//
// Words. The root is the directory that a person names. The marker, ROOT/stasis.node,
// says which leaf lies there and whose it is. The index, ROOT/index, is a small ledger
// that knows each crate's size, root and checksums, the reservations, the totals. An
// intent is a record in the index of files that are about to appear among the crates; a
// mark is one of a file that is about to go. A tombstone remembers which bytes stood for
// an id that has been discarded. The position of the store, which each change of its
// crates moves on, stands in the index and again in the sign, a file in the root.
// FORMAT.md has the bytes.
//
// Invariants:
//
//   - A path without its marker is missing: nothing is made there, nothing is taken
//     for deleted. The marker is looked at before each operation, so that a disk
//     unmounted under an open store is missing too.
//   - A crate is there if and only if the index says so. Its file had its data, its name
//     and its directory synced before the index was told, and the index was synced before
//     the crate was acknowledged.
//   - The index alone is no word on what is there: a copy that was made of a running store, or
//     a disk that was repaired, has an index that is ahead of the files. What is counted by
//     (Stat, List, the receipt of a repeat) is a crate whose file lies there with its size.
//   - Each file below crates/ stands in the index, as a crate, in an intent or under a
//     mark, at every moment and after any crash: none is leaked, and an Open need not look
//     for them. It reads no data.
//   - A file below crates/ is whole: where the index is lost, Rebuild makes it anew from
//     the files.
//   - A file that is adopted is at its old path or in the store, whatever happens; an Open
//     ends an adoption that a crash has interrupted after the rename.
//   - Nothing is acknowledged before the sign says a position that the index has come to
//     with it. A root whose sign is not what the open store wrote holds another state: the
//     store is unavailable, and writes nothing there, until it is opened again.
//
// How a crate comes in: tmp/<id> is written; its data and, beside it, the intent are
// synced; it is renamed to crates/XX/<id>; that directory is synced; one update of
// the index makes the crate, charges it and ends the intent; the index is synced. A batch
// does each step for all of its crates before the next step. How one goes: one synced
// update takes the crate out and leaves a mark; the file is unlinked; marks go in bulk
// once the directories are synced.
//
// Any call on the filesystem may hang where it is a share whose server is gone.
// Each operation therefore runs in a goroutine of its own, which its caller abandons
// some time after the context has ended.
package directory
