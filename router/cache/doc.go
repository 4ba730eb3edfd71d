// Package cache keeps blocks that were read from far away in files, so that they need
// not be fetched again.
//
// Words. A block is a block of a crate as its checksums divide it; its name is the
// crate's id and its number. The floor is how much of the filesystem must stay free for
// others.
//
// Invariants:
//
//   - What is here is never needed: any file may go at any time, a start without the
//     directory is as good as one with it, and nothing is synced.
//   - Bytes from here are no better than the disk they were on: who reads a block
//     compares it with its checksum, and drops it if it is wrong.
//   - The files take at most the cap, and no file is written, or kept, while less than the
//     floor is free. The least recently used go first. A block whose crate has no other
//     place left, as Options.Spare says, is kept as long as others can go instead.
//   - What comes faster than KeepRate for long is kept in part, and the rest not.
//   - Memory is bounded by MaxFiles and by the blocks that wait to be written.
//
// FORMAT.md describes the directory.
package cache
