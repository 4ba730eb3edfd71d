package mount

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"stasis/fs/names"
)

// Lookup finds a name. That it does not exist is an answer the kernel may keep: one
// without an inode.
func (r *raw) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir := names.Ino(in.NodeId)
	a, err := r.fsys.Lookup(dir, name)
	if err == syscall.ENOENT {
		out.SetEntryTimeout(cacheFor)
		return fuse.OK
	}
	return r.entry("look up a name", dir, a, err, out)
}

// specOf describes an inode that the caller makes.
func specOf(by fuse.Owner, mode, umask uint32) names.Spec {
	return names.Spec{Mode: mode, Umask: umask, UID: by.Uid, GID: by.Gid}
}

// Mknod makes a file or a special file.
func (r *raw) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	dir, spec := names.Ino(in.NodeId), specOf(in.Owner, in.Mode, in.Umask)
	spec.Rdev = in.Rdev
	a, err := r.fsys.Make(dir, name, spec)
	return r.entry("make a node", dir, a, err, out)
}

// Mkdir makes a directory.
func (r *raw) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	dir := names.Ino(in.NodeId)
	a, err := r.fsys.Make(dir, name, specOf(in.Owner, unix.S_IFDIR|in.Mode&0o7777, in.Umask))
	return r.entry("make a directory", dir, a, err, out)
}

// Symlink makes a symlink.
func (r *raw) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	dir, spec := names.Ino(in.NodeId), specOf(in.Owner, unix.S_IFLNK|0o777, 0)
	spec.Target = target
	a, err := r.fsys.Make(dir, name, spec)
	return r.entry("make a symlink", dir, a, err, out)
}

// Link gives an inode one more name.
func (r *raw) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	dir := names.Ino(in.NodeId)
	a, err := r.fsys.Link(names.Ino(in.Oldnodeid), dir, name)
	return r.entry("make a link", dir, a, err, out)
}

// Readlink gives the target of a symlink.
func (r *raw) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	ino := names.Ino(in.NodeId)
	target, err := r.fsys.Readlink(ino)
	r.accessed(ino)
	return []byte(target), r.status("read a symlink", ino, err)
}

// Unlink takes a name away from anything but a directory.
func (r *raw) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	dir := names.Ino(in.NodeId)
	return r.status("remove a file", dir, r.fsys.Unlink(dir, name))
}

// Rmdir removes an empty directory.
func (r *raw) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	dir := names.Ino(in.NodeId)
	return r.status("remove a directory", dir, r.fsys.Rmdir(dir, name))
}

// Rename moves a name.
func (r *raw) Rename(_ <-chan struct{}, in *fuse.RenameIn, name, newName string) fuse.Status {
	dir := names.Ino(in.NodeId)
	return r.status("rename", dir, r.fsys.Rename(dir, name, names.Ino(in.Newdir), newName, in.Flags))
}
