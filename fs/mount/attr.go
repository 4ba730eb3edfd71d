package mount

import (
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
		out.SetTimeout(cacheFor)
		fillAttr(&out.Attr, a)
	}
	return r.status("get attributes", ino, err)
}

// Statx answers statx(2) where more is asked for than stat(2) has: the time of birth.
func (r *raw) Statx(_ <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	ino := names.Ino(in.NodeId)
	a, err := r.fsys.GetAttr(ino)
	if err == nil {
		out.SetTimeout(cacheFor)
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
	if asksNothing(in) && !r.mayStrip(ino, in.Caller) {
		return fuse.EPERM
	}
	a, err := r.fsys.SetAttr(r.ctx, ino, h, changeOf(in))
	if err == nil {
		out.SetTimeout(cacheFor)
		fillAttr(&out.Attr, a)
	}
	return r.status("set attributes", ino, err)
}

// mayStrip reports whether a program may clear set-user-id and set-group-id of an inode, if
// it has them: the kernel, which checks what is asked for, sees nothing to check in a
// chown(2) of neither owner.
func (r *raw) mayStrip(ino names.Ino, who fuse.Caller) bool {
	a, err := r.fsys.GetAttr(ino)
	switch {
	case err != nil || who.Uid == 0 || who.Uid == a.UID || a.IsDir() || a.Mode&(unix.S_ISUID|unix.S_ISGID) == 0:
		return true
	case fs.StrippedSUID(a.Mode) == a.Mode:
		return who.Gid == a.GID // set-group-id that the group can't use
	}
	return false
}
