// Package mount shows a vault's filesystem (package fs) to the kernel over FUSE. It
// is the only package that knows go-fuse, and the only one that turns errors into
// errno (errno.go).
//
// Words. A node id is the kernel's name for an inode: here it is the inode's number,
// so that nothing has to be kept to translate it. A reference is what the kernel holds
// after each answer that named an inode; it gives them back with Forget. A handle is an
// open file; its number goes to the kernel and comes back with each request.
//
// Invariants:
//
//   - Every change goes through the kernel that serves this mount, so it may keep names,
//     the absence of names, attributes and content for as long as it likes.
//   - An answer that names an inode has counted one reference to it, and no other
//     answer has.
//   - Each handle is released once: when the kernel says so, or after the session.
//     Closing a file and unmounting at once may lose the kernel's word.
//   - A panic costs the operation it happened in, which is EIO, and not the mount.
//   - Nothing here touches the mount itself, which would be a request to this process.
//   - An interrupt does not end an operation: Go programs send themselves signals all the
//     time, and a close or write that failed for one would be a lie. Package fs and the
//     router bound every wait.
//
// The kernel checks permissions (default_permissions), access control lists among them, and
// keeps file locks. Where only root may enter, whom permissions do not stop, it is not asked
// to check them: with every change of a directory it would forget what it knows of it, and ask
// again for the next name in it. The umask is applied here, as a default list overrules
// it. Access times are those of relatime, but that the kernel answers reads of what it holds
// by itself: of these a close tells, and of a file open for writing nothing does. Of fallocate
// there is what makes room, holes and zeros (fs.Handle.Allocate), and EOPNOTSUPP for the rest.
//
// A name that go-fuse keeps for itself, ".go-fuse-epoll-hack", can't be used in the
// root of a vault.
package mount
