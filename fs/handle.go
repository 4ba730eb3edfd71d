package fs

import (
	"context"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"stasis/fs/body"
	"stasis/fs/names"
)

// Handle is an open file. Its methods may be called concurrently, but for Release,
// which is the last.
type Handle struct {
	s     *FS
	f     *file
	flags uint32 // of open(2)
	write bool
	read  atomic.Bool // something was
	// changed and atime are what the last read found: when the inode had been changed and
	// read before it, in nanoseconds since the epoch.
	changed, atime atomic.Int64
	// atimesSet is how often programs had set the access time when the file was opened.
	atimesSet uint32
	released  atomic.Bool
}

// Open opens a regular file. flags are those of open(2); O_TRUNC cuts it, where the handle may
// write. killSUID clears what an unprivileged write clears.
func (s *FS) Open(ctx context.Context, ino names.Ino, flags uint32, killSUID bool) (*Handle, error) {
	in, err := s.tree.Get(ino)
	if err != nil {
		return nil, err
	}
	switch in.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return nil, syscall.EISDIR
	default:
		return nil, syscall.EINVAL
	}
	write := flags&unix.O_ACCMODE != unix.O_RDONLY
	if err := s.mayOpen(write); err != nil {
		return nil, err
	}
	h := s.open(ino, flags)
	if write && flags&unix.O_TRUNC != 0 {
		if err := s.truncate(ctx, h.f, 0, killSUID); err != nil {
			h.Release()
			return nil, err
		}
	}
	return h, nil
}

// mayOpen says whether a program may open a file at all. ENFILE if this process has too
// many open to keep what the program would write: better said now than at the first write.
func (s *FS) mayOpen(write bool) error {
	switch {
	case !write:
		return nil
	case s.ro:
		return syscall.EROFS
	case s.bodies.Full():
		return syscall.ENFILE
	}
	return nil
}

func (s *FS) open(ino names.Ino, flags uint32) *Handle {
	f, write := s.pin(ino), flags&unix.O_ACCMODE != unix.O_RDONLY
	if write {
		s.mu.Lock()
		f.writers++
		s.mu.Unlock()
	}
	return &Handle{s: s, f: f, flags: flags, write: write, atimesSet: f.atimesSet.Load()}
}

// Ino is the inode of the file.
func (h *Handle) Ino() names.Ino { return h.f.ino }

// Writes reports whether the file was opened for writing.
func (h *Handle) Writes() bool { return h.write }

// Quiet reports whether reads leave the access time as it is: O_NOATIME.
func (h *Handle) Quiet() bool { return h.flags&unix.O_NOATIME != 0 }

// Unread reports whether the file was opened to be read, and nothing was read by ReadAt, nor
// has a program set the access time since.
func (h *Handle) Unread() bool {
	return !h.write && !h.read.Load() && h.f.atimesSet.Load() == h.atimesSet
}

// ReadAt fills p from off and gives the number of bytes, fewer only at the end of the
// file.
func (h *Handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if !h.read.Load() {
		h.read.Store(true)
	}
	n, seen, err := h.s.read(ctx, h.f, p, off)
	if err == nil {
		h.changed.Store(seen.changed)
		h.atime.Store(seen.atime)
	}
	return n, err
}

// Accessed notes that what ReadAt gave was read now.
func (h *Handle) Accessed() { h.s.accessed(h.f.ino, seen{h.changed.Load(), h.atime.Load()}) }

// WriteAt puts p at off. killSUID clears the bits that an unprivileged write clears.
func (h *Handle) WriteAt(ctx context.Context, p []byte, off int64, killSUID bool) (int, error) {
	if !h.write {
		return 0, syscall.EBADF
	}
	return h.s.write(ctx, h.f, p, off, killSUID)
}

// Flush commits what was written: it comes at every close(2), and only its error
// is the close's. NoSpace or Quota if too few places have room.
func (h *Handle) Flush(ctx context.Context) error {
	if !h.write {
		return nil
	}
	return h.s.commit(ctx, h.f)
}

// Fsync makes the file durable on this machine, with its names.
func (h *Handle) Fsync(ctx context.Context) error { return h.s.fsync(ctx, h.f) }

// Release ends the handle. Without a writer left the content is frozen.
func (h *Handle) Release() {
	if h.released.Swap(true) {
		return
	}
	s, f := h.s, h.f
	frozen := false
	if h.write {
		s.mu.Lock()
		f.writers--
		frozen = f.writers == 0
		s.mu.Unlock()
	}
	if frozen {
		f.mu.RLock()
		frozen = f.body != nil
		f.mu.RUnlock()
	}
	if !frozen {
		s.blanks.waive(f.ino)
	}
	s.unpin(f)
	if frozen {
		s.sealLater(f.ino)
	}
}

// closeWriter does for a change without a handle what a close does for one with.
func (s *FS) closeWriter(ctx context.Context, f *file) error {
	if s.writing(f) {
		return nil
	}
	err := s.commit(ctx, f)
	s.sealLater(f.ino)
	return err
}

// Seek is lseek for SEEK_DATA and SEEK_HOLE. A hole is what neither the body nor the
// settled content has.
func (h *Handle) Seek(ctx context.Context, off int64, whence int) (int64, error) {
	size, data, err := h.s.dataAt(h.f, off)
	if err != nil {
		return 0, err
	}
	if off < 0 || off >= size {
		return 0, syscall.ENXIO
	}
	switch whence {
	case unix.SEEK_DATA:
		for !data.is {
			if off = data.end; off >= size {
				return 0, syscall.ENXIO
			}
			if size, data, err = h.s.dataAt(h.f, off); err != nil {
				return 0, err
			}
		}
	case unix.SEEK_HOLE:
		for data.is && off < size {
			if off = data.end; off >= size {
				return size, nil
			}
			if size, data, err = h.s.dataAt(h.f, off); err != nil {
				return 0, err
			}
		}
	default:
		return 0, syscall.EINVAL
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return off, nil
}

// stretch is a run of bytes that are all data, or all hole.
type stretch struct {
	is  bool
	end int64
}

// dataAt says what there is at an offset of a file, and up to where.
func (s *FS) dataAt(f *file, off int64) (size int64, st stretch, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	in, err := s.tree.Get(f.ino)
	if err != nil {
		return 0, st, err
	}
	size, limit := in.Size, in.Size
	if off < 0 {
		return size, st, nil
	}
	if b := f.body; b != nil {
		size, limit = f.size, f.record.Limit
		if off >= size {
			return size, st, nil
		}
		run, held := b.Held(off/body.Unit*body.Unit, size)
		end := off/body.Unit*body.Unit + run
		if b.Whole() || held {
			st, err = heldAt(b, off, end)
			return size, st, err
		}
		if off >= limit {
			return size, stretch{false, end}, nil
		}
		limit = min(limit, end)
	}
	if off >= size {
		return size, st, nil
	}
	es, err := s.extents(in.List, off, 1)
	switch {
	case err != nil:
		return size, st, err
	case in.List == 0 || len(es) == 0 || es[0].Offset >= limit:
		return size, stretch{false, max(limit, off+1)}, nil
	case es[0].Offset > off:
		return size, stretch{false, es[0].Offset}, nil
	}
	return size, stretch{true, min(es[0].End(), limit)}, nil
}

// heldAt asks the filesystem that a body lies on about what it holds from off to end.
func heldAt(b *body.Body, off, end int64) (stretch, error) {
	from, to, err := b.NextData(off)
	if err != nil {
		return stretch{}, err
	}
	if from > off {
		return stretch{false, min(from, end)}, nil
	}
	return stretch{true, min(to, end)}, nil
}
