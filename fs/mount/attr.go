package mount

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"stasis/fs"
	"stasis/fs/names"
)

// GetAttr answers stat(2).
func (r *raw) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	ino := names.Ino(in.NodeId)
	a, err := r.fsys.GetAttr(ino)
	if err == nil {
		out.SetTimeout(attrFor(a))
		fillAttr(&out.Attr, a)
	}
	return r.status("get attributes", ino, err)
}

// attrFor is how long the kernel may use attributes. Those of a program with the rights of
// another are asked for at each use: they go with a change of its content, of which the answer
// has no room for them, and the kernel runs programs by what it remembers.
func attrFor(a fs.Attr) time.Duration {
	switch {
	case a.IsRegular() && a.Mode&(unix.S_ISUID|unix.S_ISGID) != 0:
		return 0
	case a.Passing:
		return passingFor
	}
	return cacheFor
}

// Statx answers statx(2) where more is asked for than stat(2) has: the time of birth.
func (r *raw) Statx(_ <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	ino := names.Ino(in.NodeId)
	a, err := r.fsys.GetAttr(ino)
	if err == nil {
		out.SetTimeout(attrFor(a))
		fillStatx(&out.Statx, a)
	}
	return r.status("get attributes", ino, err)
}

// SetAttr answers chmod, chown, truncate and utimensat.
func (r *raw) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	ino := names.Ino(in.NodeId)
	// Without a number the handle is nil: 0 is nobody's.
	number, _ := in.GetFh()
	h := r.open.get(number)
	c := changeOf(in)
	c.KillSUIDGID = c.KillSUIDGID || asksNothing(in) && r.mayStrip(ino, in.Caller)
	a, err := r.fsys.SetAttr(r.ctx, ino, h, c)
	if err == nil {
		out.SetTimeout(attrFor(a))
		fillAttr(&out.Attr, a)
	}
	return r.status("set attributes", ino, err)
}

// Access answers access(2) and chdir(2) where the kernel does not check permissions:
// there root asks, which may do anything but run a file that nobody may run.
func (r *raw) Access(_ <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	ino := names.Ino(in.NodeId)
	if in.Mask&unix.X_OK == 0 {
		return fuse.OK
	}
	a, err := r.fsys.GetAttr(ino)
	if err == nil && a.IsRegular() && a.Mode&0o111 == 0 {
		err = syscall.EACCES
	}
	return r.status("look at permissions", ino, err)
}

// mayStrip reports whether a program may clear set-user-id and set-group-id of an inode
// by a request that asks for nothing. The kernel, which checks what is asked for, has
// checked nothing: it may be a chown(2) of neither owner by anybody, or come before a
// write, a copy or an allocation. Those clear by themselves, but the answer to this one is the
// only one by which the kernel learns it before it lets anybody else run the program.
func (r *raw) mayStrip(ino names.Ino, who fuse.Caller) bool {
	a, err := r.fsys.GetAttr(ino)
	return err == nil && (who.Uid == 0 || who.Uid == a.UID || r.open.writes(ino, who.Uid))
}
