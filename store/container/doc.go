// Package container keeps many crates in a single file.
//
// Words. The file is a row of pages of 4 KiB. A superblock says whose container
// it is and where its log starts. The log is a chain of pages, each written
// once: first a checkpoint of all that the container holds, then one commit
// after another. A crate lies in extents, runs of pages: first its header, with
// its checksums and its extents, then its data. A mark is written after each
// commit was synced; it says how far the log must be whole, and the position of the
// container, which each change of its crates moves on. FORMAT.md has the bytes.
//
// Invariants:
//
//   - A commit is written after the data it speaks of is synced, and is
//     acknowledged after it is synced itself. Many puts and discards share one.
//   - A page is used again only after the commit that gave it up is synced, and
//     no page of the log is written again once its commit is synced, as long as that
//     log counts.
//   - Nothing is acknowledged before a mark has the position that it has led to. Where the
//     newest mark is not as it was written the file holds another state: the store is
//     unavailable, and writes nothing, until it is opened again.
//   - The log alone says what the container holds; headers say it again, so that
//     a damaged log is rebuilt by looking for them.
//   - No byte leaves the container that was not checked against the digest in a
//     header, and no header is used that does not name its own page, its crate
//     and its sequence number under the container's key.
//   - A put that waits for its source holds its own crate, its own pages and a block of memory,
//     and no place, turn or lock that another one wants: a source may be a stranger's.
//   - The file never grows past its capacity. What booking promises always fits:
//     what the log and the headers of scattered crates need beyond the charge of
//     the crates is set aside (see overhead).
//
// Opening reads the superblocks, the marks and the log, no header and no data,
// unless the log is damaged. The index is kept in memory; see CrateMemory.
//
// Where to start: page.go (what every page has in common), superblock.go,
// record.go (the log's records), header.go (a crate's header), log.go (writing),
// replay.go and salvage.go (reading), queue.go and commit.go (who is synced when),
// room.go (the space of the file), put.go.
package container
