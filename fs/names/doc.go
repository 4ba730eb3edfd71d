// Package names is the namespace of a vault: inodes, directory entries, extended
// attributes and policies, kept in the ledger's shared space.
//
// Words. An inode is a file, directory, symlink or special file with its
// attributes; its number is never reused. A dentry is a name in a directory that
// leads to an inode. A cookie is a dentry's place in the listing of its directory.
// An orphan is an inode without a name: unlinked while open, or made by O_TMPFILE.
// A list is the settled content of a file, an extent list that package fs keeps;
// here it is only a number that hangs on the inode.
//
// Invariants:
//
//   - Each operation is one update of the ledger, with all its checks inside it:
//     after a crash it has happened or it has not.
//   - Every dentry has one cookie record with the same inode and type, and leads to
//     an inode that exists. A directory has one dentry, the root has none.
//   - The link count of a file is the number of its dentries, that of a directory is
//     two and its subdirectories. It is 0 exactly where there is an orphan record.
//   - A cookie stays with its dentry as long as the dentry exists, and a rename within
//     one directory keeps it. Cookies are handed out in rising order and never twice,
//     so that a listing that goes on after a cookie sees every entry that stayed, once.
//   - The counters are the number and the sizes of the inodes that exist.
//
// Answers of the namespace are errors of type syscall.Errno, as ext4 gives them;
// whatever the ledger reports is passed on as it is, and a record that can't be
// read is store.Corrupt. Permissions are not looked at: the kernel has done that
// (default_permissions). The entries "." and ".." are not stored and not listed;
// fs/mount makes them up.
//
// The keys and values are described in FORMAT.md.
package names
