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
// What an inode is and what the kernel remembers of it are two things. The kernel takes back
// what it remembers where it knows that a request changes it: size, blocks and times with a
// write, a copy or an allocation, link counts with names. Whatever else this process changes it
// takes back itself before it answers whoever caused it: by an answer that has the attributes
// (SETATTR, CREATE), by InodeNotify (raw.forgetAttr), never with a lock held, or by attributes
// that were given out for no time at all (attrFor). The last is so for regular files with
// set-user-id or set-group-id: a write takes those, its answer has no room to say so, and
// execve(2) goes by what is remembered. Blocks alone change with nobody waiting, when content is
// cut into crates; a second bounds what is remembered of them (passingFor).
//
// Who may not give a program the rights of another takes them with a change of its content. The
// kernel says so with WRITE, OPEN (for O_TRUNC) and SETATTR (for a size); with COPY_FILE_RANGE
// and FALLOCATE it does not, and there everybody but root may not. Before each but a truncate it
// also sends a SETATTR that asks for nothing, the same as for a chown(2) of neither owner by
// anybody: it is believed of root, the owner, and who has opened the file for writing
// (raw.mayStrip). FICLONE and FIDEDUPERANGE do not reach a FUSE filesystem, and a store into a
// mapping takes nothing, here as elsewhere.
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
