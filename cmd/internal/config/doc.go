// Package config reads and edits vault.toml, the file in which a person says how
// many copies a vault wants and where its nodes are, and reads peer.toml, which says the
// same for a peer.
//
// Words. A setting is one of the keys at the top of the file; a node is one of its
// [[node]] tables. The order of the tables is the order of preference.
//
// Invariants:
//
//   - What is not understood is refused, with the line and a hint, and never passed
//     over: a typo in `copies` must not cost anybody their copies.
//   - An edit keeps every byte that is not its business: comments, order, spaces.
//   - An edit is atomic and survives a power cut when it returns; the file it leaves
//     has been read back and says what was meant.
package config
