// Package peerd opens a peer from its state directory, serves it to the vaults it has
// invited, and answers what the commands ask of it.
//
// Words. The state directory holds the peer's settings, key and ledger; see state.go. The
// node is the store in which the peer keeps what vaults send it: a directory, a container, or a
// router over several such and further peers (depot.go). The gate is what the
// servers serve: the host over the node while that is there, and a refusal while it is
// not.
//
// Invariants:
//
//   - One process uses a state directory at a time, and says which it is.
//   - The node is initialised when the peer is new, and never again: a path without its
//     marker is missing, not new, and a peer whose disk is away serves again once it is back.
//   - peer.toml is what holds. What it asks for in vain it does not silently lack.
//   - Nothing of a peer lies in a vault's mount.
package peerd
