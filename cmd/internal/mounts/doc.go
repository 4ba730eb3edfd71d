// Package mounts answers questions about mounts and paths without ever touching
// a mount that may hang.
//
// Words. A table is what /proc/self/mountinfo says. A vault mount has the type
// fuse.stasis and its vault's absolute state directory as source. A path is
// covered by the last mount at its longest prefix. A foreign mount has the type and names a
// vault that it is not of: any user may mount a filesystem with any type and source.
//
// Invariants:
//
//   - No function here makes a system call with a path at or below a vault mount, except
//     Detach, which unmounts one. What lies below it is handled as text; the daemon behind
//     it knows the rest.
//   - Root is led nowhere by what other users have made: he follows none of their links, and enters
//     none of their FUSE mounts, whatever is renamed or mounted meanwhile. Whose a vault's key is,
//     nobody is led astray in asking, and what answers late is not waited for. What root's
//     commands open, or look at, in a state directory goes through this package for that.
//   - A mount counts as a vault's only if the user who made it, who is in the table, is the
//     one to whom the vault's key belongs, or root. Which of several such mounts a daemon
//     serves it says by the device number (package control).
package mounts
