package mount

import (
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"stasis/fs/acl"
	"stasis/fs/names"
)

// GetXAttr gives a value. The size alone is asked for with an empty buffer.
func (r *raw) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, name string, p []byte) (uint32, fuse.Status) {
	ino := names.Ino(in.NodeId)
	value, err := r.fsys.GetXattr(r.ctx, ino, name)
	if err == nil && len(value) > len(p) {
		err = syscall.ERANGE
	}
	copy(p, value)
	return uint32(len(value)), r.status("get an extended attribute", ino, err)
}

// ListXAttr gives the names, each with a NUL behind it. trusted.* is for the
// administrator only, as elsewhere.
func (r *raw) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, p []byte) (uint32, fuse.Status) {
	ino := names.Ino(in.NodeId)
	list, err := r.fsys.ListXattr(ino)
	if err != nil {
		return 0, r.status("list extended attributes", ino, err)
	}
	var all []byte
	for _, name := range list {
		if in.Uid == 0 || !strings.HasPrefix(name, "trusted.") {
			all = append(append(all, name...), 0)
		}
	}
	if len(all) > len(p) {
		return uint32(len(all)), fuse.ERANGE
	}
	return uint32(copy(p, all)), fuse.OK
}

// SetXAttr sets a value. The permission bits follow an access control list, which only a
// kernel that checks permissions expects.
func (r *raw) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	ino := names.Ino(in.NodeId)
	err := r.fsys.SetXattr(ino, name, value, int(in.Flags), in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0)
	if err == nil && name == acl.Access && !r.checked {
		r.forgetAttr(ino)
	}
	return r.status("set an extended attribute", ino, err)
}

// RemoveXAttr removes an attribute.
func (r *raw) RemoveXAttr(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	ino := names.Ino(in.NodeId)
	return r.status("remove an extended attribute", ino, r.fsys.RemoveXattr(ino, name))
}
