// Package fs is the filesystem: names, inodes, open files and their bodies, over
// the vault's ledger and a router. It knows nothing of FUSE (fs/mount does) and
// nothing of nodes beyond what the router says of them.
//
// Words. An inode's settled content is a list of extents (package extent), each of
// which names a crate. While a file is written, a body (package body) holds newer
// content over the list, or instead of it. A body is frozen when no writer is left;
// sealing cuts a frozen body into crates, makes a list that names them and switches the
// inode to it. From then on the body is only the nearest place where those crates lie, and
// it goes when every wanted copy is verified elsewhere. A hole is what neither the body nor
// the list has, or what the body holds as one over the list; sealing takes the extents from
// under it. A blank is a body made ahead of use,
// for an inode whose number has not been given yet.
//
// Invariants:
//
//   - The record of a body is in the ledger before its first byte is written, so that a
//     write that returned survives a kill.
//   - An inode's list stays as it was until the body that replaces it is synced: after a
//     power cut a body that was not synced is set aside and the list counts.
//   - A list that was replaced is torn down when the new content has as many copies as
//     the old one had, or all that are wanted.
//   - Set-user-id, set-group-id and capabilities of a program go before its content or size
//     changes at the hands of somebody who may not give them, and durably: no crash leaves
//     them with newer content (killPrivileges). Every way to change content asks for that:
//     write, truncate, open with O_TRUNC, fallocate, a copy within the vault. A store into a
//     mapping does not, as on other filesystems, nor does an exchange of names, which changes
//     no content.
//   - A state change of a content is one update of the ledger, over both spaces: sealing, a step
//     of tearing a list down, the removal of an inode. A list that one update does not hold is
//     built in many and switched by the last; until then it is inert (see change).
//   - A body's file is removed only when the ledger's word that it is not needed any more
//     is durable, and never while its inode has it as its body. Its id is never used again.
//
// Records in the ledger. Shared space: 'e' extents by list and end, 'r' reference counts of
// crates, 'L' lists to tear down, 'S' inodes that share a crate made for another. Local space: 'w' the body of an inode, 'b' a crate that
// lies in a body, 'n' how many do in one body, 'l' a body
// whose file is to go, 'u' an inode that is not durable and why, 'v' a directory whose policy changed, 'V' the default policy last seen, 'B' the boot
// that ran last.
package fs
