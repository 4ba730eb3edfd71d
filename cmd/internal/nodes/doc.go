// Package nodes makes, finds and opens the stores that the [[node]] tables of a
// configuration name, for a vault as for a peer.
//
// Invariants:
//
//   - A node's place is initialised by an explicit call and by nothing else: a path without
//     its marker is missing, not new.
//   - What a mount is made of never lies in that mount.
package nodes
