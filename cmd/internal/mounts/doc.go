// Package mounts answers questions about mounts and paths without ever touching
// a mount that may hang.
//
// Words. A table is what /proc/self/mountinfo says. A vault mount has the type
// fuse.stasis and its vault's absolute state directory as source. A path is
// covered by the last mount at its longest prefix.
//
// Invariant: no function here makes a system call with a path at or below a vault
// mount, except Detach, which unmounts one. What lies below it is handled as text; the
// daemon behind it knows the rest.
package mounts
