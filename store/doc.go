// Package store holds the nouns of stasis and the one interface every place
// that keeps data implements.
//
// Words. A crate is immutable bytes with an id. A store keeps crates. A leaf is
// a store that really holds the bytes: its NodeID is minted once, in its own
// root, and copies are counted by distinct leaves. A reservation is a promise of
// space with a lease, kept and timed by the store that gave it; drawn down crate
// by crate it is called a grant. A receipt is a leaf's statement that it has
// written, synced and verified a crate.
//
// Invariants that every Store keeps:
//
//   - A receipt is only given for a crate that is complete, synced and verified.
//   - A Put that fails leaves nothing visible, and its space is free again.
//   - The bytes behind a crate id never change; a known id with another digest
//     is refused with Conflict.
//   - The sum of what is used and what is reserved never passes the capacity.
//
// This package imports nothing else of stasis, so that everything may import it.
package store
