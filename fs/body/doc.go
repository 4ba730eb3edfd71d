// Package body keeps bodies: local files with the current content of inodes.
//
// Words. A body is whole when it holds everything its inode has, 1:1 from offset
// 0. A sparse body holds the units (4 KiB) that were changed, at their own
// offsets, over a settled content that lies elsewhere; its map says which.
//
// Invariants:
//
//   - What Write returned for survives a kill of the daemon: the data and the live
//     map lie in the page cache of files by then.
//   - What Sync returned for survives a power cut: the data first, then the synced map
//     beside it, replaced as a whole. A unit is in the synced map only when its data
//     was synced before. So a power cut leaves of a hole that was punched since what was
//     settled, or zeros.
//   - After a power cut the synced map counts and after a kill the live one; which of
//     the two it was the caller knows.
//
// A hole is a unit that a body holds and of which its file has nothing: it reads as zeros,
// whatever the settled content has there. A long one costs a few bytes in the map.
//
// On disk: a body lies in the directory that is named by the last hexadecimal digit of its
// id. NAME is the data; NAME.live is the map as of the last write and NAME.synced
// as of the last Sync. ../FORMAT.md has what they look like.
package body
