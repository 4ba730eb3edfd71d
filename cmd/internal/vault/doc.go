// Package vault opens a vault from its state directory, wires ledger, router and
// filesystem to one another, and answers what the commands ask of it.
//
// Words. The state directory holds the vault's settings, key, ledger and bodies; see
// state.go. A service is an open vault as the commands see it, whether it is mounted by a
// daemon or opened by a command for a moment.
//
// Invariants:
//
//   - One process uses a state directory at a time, and says which it is.
//   - What a mount is made of never lies in that mount.
//   - A node's place is initialised by `node add` and by the making of a new vault, and by
//     nothing else: a path without its marker is missing, not new.
//   - vault.toml is what holds; the ledger's records of nodes follow it.
package vault
