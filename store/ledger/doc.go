// Package ledger is the vault's transactional database: ordered keys and
// values in two spaces, changed by small atomic updates.
//
// Words:
//   - update: at most MaxUpdateKeys keys, of one space or of both, that change together. Its
//     position is its number.
//   - journal: files to which each update is appended with one write(2) before Update
//     returns. A segment is one of these files.
//   - overlay: the updates that are not yet in the table, in memory, as one or two
//     generations: the active one takes updates, the sealed one is being folded.
//   - table: the bbolt file. To fold is to write a generation into it.
//   - synced: what survives a power cut. An update that returned survives the death
//     of the process.
//   - lineage: one history of positions. A restore begins another.
//   - ballast: a file that is given up when the disk is full.
//
// What stays true:
//   - After a kill the ledger holds every update that returned; after a power cut a
//     prefix of them that contains every one up to Synced.
//   - A read sees the overlay over the table, as one moment had it.
//   - The table never holds an update that the journal has not been asked to make
//     durable first, so that a backup and the journals since it make up the ledger.
//   - A segment is given up only when the table has its updates and no restore of the
//     newest backup would replay it, or the bound on what is kept is passed.
//   - Where a later segment begins at a position, what earlier ones say of it and of
//     all that follow counts no more: so a tail that was cut stays cut.
//   - Nothing that bbolt or a file holds is believed without a checksum, and no
//     damage ends the process.
//
// Where to start: update.go and read.go are the interface, record.go and segment.go
// the journal's bytes, journal.go its writing, recover.go its reading, table.go the
// fence around bbolt, checkpoint.go what moves updates from one to the other.
// FORMAT.md describes the files.
package ledger
