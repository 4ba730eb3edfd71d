package mount

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"stasis/fs/names"
)

// The offsets after "." and ".." in a listing, which package names leaves free.
const (
	afterSelf   = 1
	afterParent = 2
)

// list gives the entries of a directory after an offset to add, until that has
// enough.
func (r *raw) list(dir names.Ino, offset uint64, add func(fuse.DirEntry) bool) error {
	if offset < afterSelf && !add(fuse.DirEntry{Name: ".", Ino: uint64(dir), Mode: unix.S_IFDIR, Off: afterSelf}) {
		return nil
	}
	if offset < afterParent {
		parent, err := r.fsys.Parent(dir)
		if err != nil {
			return err
		}
		if !add(fuse.DirEntry{Name: "..", Ino: uint64(parent), Mode: unix.S_IFDIR, Off: afterParent}) {
			return nil
		}
	}
	for cookie := max(offset, afterParent); ; {
		es, err := r.fsys.ReadDir(dir, cookie, dirPage)
		if err != nil {
			return err
		}
		for _, e := range es {
			if !add(fuse.DirEntry{Name: e.Name, Ino: uint64(e.Ino), Mode: e.Type, Off: e.Cookie}) {
				return nil
			}
			cookie = e.Cookie
		}
		if len(es) < dirPage {
			return nil
		}
	}
}

// ReadDir lists names.
func (r *raw) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	dir := names.Ino(in.NodeId)
	r.listed(dir, in.Offset)
	return r.status("list a directory", dir, r.list(dir, in.Offset, out.AddDirEntry))
}

// ReadDirPlus lists names and what a lookup of each would say, with a reference to
// each but "." and "..".
func (r *raw) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	dir := names.Ino(in.NodeId)
	r.listed(dir, in.Offset)
	return r.status("list a directory", dir, r.list(dir, in.Offset, func(e fuse.DirEntry) bool {
		entry := out.AddDirLookupEntry(e)
		if entry != nil && e.Off > afterParent {
			r.describe(entry, names.Ino(e.Ino))
		}
		return entry != nil
	}))
}

// listed sets the access time of a directory whose listing begins.
func (r *raw) listed(dir names.Ino, offset uint64) {
	if offset == 0 {
		r.accessed(dir)
	}
}

// describe fills in an entry of a listing. An entry without an inode is a name only: so
// it is for what was removed meanwhile, or can't be read, of which a lookup will speak.
func (r *raw) describe(entry *fuse.EntryOut, ino names.Ino) {
	// The reference comes first, so that the inode stays.
	r.fsys.Ref(ino)
	a, err := r.fsys.GetAttr(ino)
	if err != nil {
		r.fsys.Forget(ino, 1)
		return
	}
	fillEntry(entry, a)
}

// FsyncDir makes the names in a directory durable.
func (r *raw) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return r.status("fsync a directory", names.Ino(in.NodeId), r.fsys.FsyncDir(r.ctx))
}
