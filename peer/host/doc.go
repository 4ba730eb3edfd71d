// Package host keeps the crates of many owners in one store and keeps the owners apart.
// It is what the servers of both protocols serve.
//
// Words. An owner is a vault that has redeemed an invite, known by the fingerprint of
// its certificate. A session is its view: a store.Store of its own. The store is the one
// behind the host: a directory, a container, a router. An inner id is the id under which
// the store knows what an owner calls by another. The spool is a directory for uploads
// that are not complete; a partial is one that nobody sends any more and that may be
// resumed. An intent is a record of a crate that is about to be in the store.
//
// Invariants:
//
//   - What an owner names is looked up among its own. Another's crate is not found by the
//     same steps, and for the same reason, as one that nobody has.
//   - A receipt is given when the crate is durable in the store and its intent durable in
//     the ledger, which it was before the store had the crate: so whatever the store has is
//     recorded, or found by its intent, after any crash.
//   - An owner's promises never pass its quota, and never what the store promised the
//     host in turn: each reservation has one of the store behind it, which outlasts it.
//   - An owner's quota counts every copy that the owner ordered, as reserved and as stored. A
//     peer whose person wants more copies than an owner orders makes them for itself: they
//     take its disks, and nobody's quota.
//   - What one of several owners has reserved and not drawn is a part of what is free, with a
//     quota or without, and for a day at most without being judged again: share.go. What puts
//     under way hold of a reservation that has ended counts like it.
//   - An upload has the space of its file promised on the disk of the spool, by owner, before
//     its first byte: in what the store has promised where the store takes over the file, and
//     otherwise in the account of the spool.
//   - What an interrupted upload holds on disk is part of its reservation, and goes with
//     it. An upload whose bytes are not those expected is received anew before anybody is
//     told that they are wrong.
//   - An owner's position moves on in the update that changes its crates. Where the store is not
//     at the position that the ledger has of it, the records are gone through, and what the store
//     has lost is taken out of them. Until all are, what is listed is what the store says it has,
//     and a crate that it can't tell of keeps no other from being looked for.
//   - Whatever one owner does, another's calls have places and turns of their own (package
//     guard). They are taken in one order, which lanes.go has. While a sender is waited for, only
//     memory and a place among uploads is held, in his owner's lane, and of the store nothing that
//     another put needs.
//   - What an owner's calls leave to be looked after when they fail, reservations to be given
//     back and puts of unknown outcome, has a bound. Each owner is looked after by itself; a round
//     of it ends where the store does not answer, and warns once.
//   - An error that is sent says nothing of this machine's paths or of inner ids.
//
// How a crate comes in. Up to a block: it is read into memory. More: it is written to
// the spool, block by block, from where an earlier attempt stands. Then: intent, synced;
// into the store, by adoption where the spool is on its filesystem; record, charge and
// totals in one update that also ends the intent; receipt. A start looks at the
// intents that are left: a crate that the store has becomes the owner's, as if only the
// answer had been lost, and the rest is forgotten. How one goes: out of the store, then
// out of the records.
//
// How space is held. The owner's own book (store/booking) has quota, leases and what
// was drawn. Its every change is noted before the store is asked to follow, so that a
// start can bring the two in step. The store's leases are longer: it is the host that
// ends them, also those that ended while it did not run.
//
// A revoked owner is refused everything at once, as a stranger is. What it has under way is
// broken off; its reservations, its uploads and its events go, and so does what a call leaves
// that was let in just before. Its crates stay and count as used: a new invite, redeemed by the same owner,
// brings them back, and Forget discards them.
//
// A mount is admitted by Fence for the owner, not for one session: by its token, which each
// of its calls shows, so that one from which another has taken over changes nothing any more.
// It stays admitted when the
// host is started again: the token that is held is in the ledger. It is for the client to
// change nothing before its Fence has succeeded.
//
// Where to start: session.go is the interface, put.go and upload.go how a crate comes in,
// reserve.go and share.go the space, settle.go what a crash leaves, position.go
// and recount.go how an older state is told, admin.go the person's side.
// FORMAT.md has the records.
package host
