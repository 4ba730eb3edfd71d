package fs

import (
	"context"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"stasis/fs/extent"
	"stasis/fs/names"
	"stasis/store"
	"stasis/store/ledger"
)

// Attr is what stat(2) says of an inode: as the namespace has it, with the size and
// the times of newer content where there is some.
type Attr struct {
	names.Inode
	Blocks int64 // of 512 bytes
	// Passing: Blocks changes without anybody's doing, when the content is cut into crates,
	// which have neither holes inside blocks nor room for later.
	Passing bool
}

// GetAttr gives the attributes of an inode. ENOENT.
func (s *FS) GetAttr(ino names.Ino) (Attr, error) {
	f := s.pinned(ino)
	if f == nil {
		return s.settledAttr(ino)
	}
	defer s.unpin(f)
	f.mu.RLock()
	defer f.mu.RUnlock()
	return s.attr(f)
}

func (s *FS) settledAttr(ino names.Ino) (Attr, error) {
	in, err := s.tree.Get(ino)
	if err != nil {
		return Attr{}, err
	}
	return s.attrOf(in)
}

// attr is for a file in use; the caller holds its lock.
func (s *FS) attr(f *file) (Attr, error) {
	in, err := s.tree.Get(f.ino)
	if err != nil || f.body == nil {
		a, e := s.attrOf(in)
		return a, errors.Join(err, e)
	}
	in.Size, in.Atime = f.size, s.atimes.of(in)
	if f.timed {
		in.Mtime, in.Ctime = f.mtime, max(f.mtime, in.Ctime)
	}
	a := Attr{Inode: in}
	if a.Blocks, err = f.body.Blocks(); err != nil {
		return a, err
	}
	if !f.body.Whole() {
		bytes, err := s.extentBytes(in.List, f.record.Limit, func(from, to int64) int64 {
			return max(0, to-from-f.body.HeldBytes(from, to))
		})
		if err != nil {
			return a, err
		}
		a.Blocks += blocks(bytes)
	}
	a.Passing = f.body.Roomy() || a.Blocks != blocks(f.size)
	return a, nil
}

// sparseFrom is the size, in bytes, from which a settled file's holes are looked at
// for its block count; extents are counted up to extentsPerScan.
const sparseFrom = 4 * store.BlockSize

// attrOf is for an inode whose settled content is all there is.
func (s *FS) attrOf(in names.Inode) (Attr, error) {
	in.Atime = s.atimes.of(in)
	a := Attr{Inode: in}
	switch {
	case !in.IsRegular():
		if in.IsDir() {
			a.Blocks = blocks(in.Size)
		}
		return a, nil
	case in.List == 0:
		return a, nil
	case in.Size < sparseFrom:
		a.Blocks = blocks(in.Size)
		return a, nil
	}
	bytes, err := s.extentBytes(in.List, in.Size, func(from, to int64) int64 { return to - from })
	a.Blocks = blocks(bytes)
	return a, err
}

// extentBytes adds up what part says of the extents of a list, as far as limit. What lies
// past extentsPerScan of them is taken for one.
func (s *FS) extentBytes(list names.ListID, limit int64, part func(from, to int64) int64) (bytes int64, err error) {
	if list == 0 {
		return 0, nil
	}
	es, err := s.extents(list, 0, extentsPerScan)
	if err != nil {
		return 0, err
	}
	end := int64(0)
	for _, e := range es {
		if e.Offset < limit {
			bytes += part(e.Offset, min(e.End(), limit))
		}
		end = e.End()
	}
	if len(es) == extentsPerScan && end < limit {
		bytes += part(end, limit)
	}
	return bytes, nil
}

// blocks is size in units of 512 bytes, rounded up to whole pages as filesystems do.
func blocks(size int64) int64 { return (size + 4095) / 4096 * 8 }

// Change is what SetAttr changes; nil leaves a value as it is. Times are in
// nanoseconds since the epoch.
type Change struct {
	Mode                *uint32 // permissions
	UID, GID            *uint32
	Size                *int64
	Atime, Mtime, Ctime *int64
	// KillSUIDGID: the program may not keep set-user-id and set-group-id.
	KillSUIDGID bool
}

// SetAttr changes attributes. A new size without a writer commits at once and reports
// what a close would.
func (s *FS) SetAttr(ctx context.Context, ino names.Ino, h *Handle, c Change) (Attr, error) {
	if s.ro {
		return Attr{}, syscall.EROFS
	}
	f := s.pin(ino)
	defer s.unpin(f)
	if c.Size != nil {
		if err := s.resize(ctx, f, h, *c.Size, c.KillSUIDGID); err != nil {
			return Attr{}, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := s.setAttr(f, c); err != nil {
		return Attr{}, err
	}
	return s.attr(f)
}

func (s *FS) resize(ctx context.Context, f *file, h *Handle, size int64, killSUID bool) error {
	in, err := s.tree.Get(f.ino)
	switch {
	case err != nil:
		return err
	case in.IsDir():
		return syscall.EISDIR
	case !in.IsRegular() || h != nil && !h.write:
		return syscall.EINVAL
	}
	if err := s.truncate(ctx, f, size, killSUID); err != nil {
		return err
	}
	if h != nil {
		return nil // its close commits
	}
	return s.closeWriter(ctx, f)
}

// setAttr changes what the namespace holds. The caller holds the lock of the file.
func (s *FS) setAttr(f *file, c Change) error {
	chown := c.UID != nil || c.GID != nil
	if c.Mode == nil && !chown && c.Atime == nil && c.Mtime == nil && c.Ctime == nil && !c.KillSUIDGID {
		return nil
	}
	if c.Atime != nil {
		f.atimesSet.Add(1)
		s.atimes.drop(f.ino)
	}
	strip := chown || c.KillSUIDGID
	change := func(in *names.Inode) error {
		if strip && c.Mode == nil {
			in.Mode = strippedSUID(in.Mode)
		}
		set(&in.UID, c.UID)
		set(&in.GID, c.GID)
		if c.Mode != nil {
			in.Mode = in.Mode&unix.S_IFMT | *c.Mode&0o7777
		}
		set(&in.Atime, c.Atime)
		if f.timed {
			in.Mtime = f.mtime
		}
		set(&in.Mtime, c.Mtime)
		in.Ctime = names.Now()
		set(&in.Ctime, c.Ctime)
		return nil
	}
	var in names.Inode
	_, err := s.shared.Update(func(tx *ledger.Tx) (err error) {
		if strip {
			in, err = s.stripTx(tx, f.ino, change)
		} else {
			in, err = s.tree.UpdateTx(tx, f.ino, change)
		}
		return err
	})
	if err != nil {
		return err
	}
	counts := f.timed || c.Mtime != nil
	f.timed = false
	if f.body != nil && counts {
		return s.countInodes(f, in.Mtime)
	}
	return nil
}

// countInodes has the time of the last write that the inode has count at a start too, and no
// other that the body or its record has.
func (s *FS) countInodes(f *file, mtime int64) error {
	if err := f.body.Stamp(uint64(f.ino), 0); err != nil {
		return err
	}
	if f.record.Mtime == 0 || f.record.Mtime == mtime {
		return nil
	}
	r := f.record
	r.Mtime = 0
	if f.mark == nil || r.Settled {
		if _, err := s.putBody(f, &r); err != nil {
			return err
		}
	}
	f.record = r
	return nil
}

func set[T any](at *T, v *T) {
	if v != nil {
		*at = *v
	}
}

// eachCrate runs fn over the crates of a list, each as often as the list changes to it.
func (s *FS) eachCrate(list names.ListID, fn func(store.CrateID) error) error {
	last := store.CrateID{}
	return s.eachExtent(list, func(e extent.Extent) error {
		if e.Crate == last {
			return nil
		}
		last = e.Crate
		return fn(e.Crate)
	})
}
