package mount

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"stasis/fs"
	"stasis/fs/names"
)

// openOut answers an open. The kernel keeps what it has read of the file before, and
// says nothing of the close of a file that was not open for writing.
func (r *raw) openOut(h *fs.Handle, user, flags uint32, out *fuse.OpenOut) {
	out.Fh = r.open.add(h, user)
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		out.OpenFlags |= fuse.FOPEN_NOFLUSH
	}
}

// Open opens a file; O_TRUNC comes with it.
func (r *raw) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	ino := names.Ino(in.NodeId)
	kill := in.Mode&fuse.OPEN_KILL_SUIDGID != 0
	h, err := r.fsys.Open(r.ctx, ino, in.Flags, kill)
	if err != nil {
		return r.status("open", ino, err)
	}
	if in.Flags&unix.O_TRUNC != 0 && in.Flags&unix.O_ACCMODE == unix.O_RDONLY {
		// Who opens for reading may still cut the file, which package fs does for writers only.
		if _, err := r.fsys.SetAttr(r.ctx, ino, nil, fs.Change{Size: new(int64), KillSUIDGID: kill}); err != nil {
			h.Release()
			return r.status("open", ino, err)
		}
	}
	r.openOut(h, in.Uid, in.Flags, out)
	return fuse.OK
}

// Create makes a file and opens it. The kernel has looked for the name before.
func (r *raw) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	dir := names.Ino(in.NodeId)
	a, h, err := r.fsys.Create(dir, name, specOf(in.Owner, in.Mode, in.Umask), in.Flags)
	return r.created("create a file", dir, a, h, err, in, out)
}

// Tmpfile makes a file without a name and opens it.
func (r *raw) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	dir := names.Ino(in.NodeId)
	a, h, err := r.fsys.Tmpfile(dir, specOf(in.Owner, in.Mode, in.Umask), in.Flags)
	return r.created("create a file without a name", dir, a, h, err, in, out)
}

func (r *raw) created(op string, dir names.Ino, a fs.Attr, h *fs.Handle, err error, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	if err == nil {
		fillEntry(&out.EntryOut, a)
		r.openOut(h, in.Uid, in.Flags, &out.OpenOut)
	}
	return r.status(op, dir, err)
}

// Read reads up to the end of the file.
func (r *raw) Read(_ <-chan struct{}, in *fuse.ReadIn, p []byte) (fuse.ReadResult, fuse.Status) {
	h := r.open.get(in.Fh)
	if h == nil {
		return nil, fuse.EBADF
	}
	n, err := h.ReadAt(r.ctx, p, int64(in.Offset))
	if err != nil {
		return nil, r.status("read", h.Ino(), err)
	}
	if r.atime && !h.Quiet() {
		h.Accessed()
	}
	return fuse.ReadResultData(p[:n]), fuse.OK
}

// Write writes where the kernel says, which is the end of the file for O_APPEND.
func (r *raw) Write(_ <-chan struct{}, in *fuse.WriteIn, p []byte) (uint32, fuse.Status) {
	h := r.open.get(in.Fh)
	if h == nil {
		return 0, fuse.EBADF
	}
	n, err := h.WriteAt(r.ctx, p, int64(in.Offset), in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0)
	if n > 0 {
		err = nil // the rest is tried again, and fails then
	}
	return uint32(n), r.status("write", h.Ino(), err)
}

// Flush is a close(2): what it returns is what the program gets.
func (r *raw) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	h := r.open.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	return r.status("close", h.Ino(), h.Flush(r.ctx))
}

// Fsync makes a file durable on this machine.
func (r *raw) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	h := r.open.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	return r.status("fsync", h.Ino(), h.Fsync(r.ctx))
}

// Release ends a handle, once nobody has it any more.
func (r *raw) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if h := r.open.take(in.Fh); h != nil {
		r.unseen(h)
		h.Release()
	}
}

// Lseek finds data and holes; other seeks are the kernel's own.
func (r *raw) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	h := r.open.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	off, err := h.Seek(r.ctx, int64(in.Offset), int(in.Whence))
	out.Offset = uint64(off)
	return r.status("seek", h.Ino(), err)
}

// CopyFileRange shares what it can. Where it can't the kernel copies, by writes that say for
// themselves what they clear; this, like Fallocate, does not say. The kernel does not ask for
// the access time of what is copied.
func (r *raw) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	from, to := r.open.get(in.FhIn), r.open.get(in.FhOut)
	if from == nil || to == nil {
		return 0, fuse.EBADF
	}
	n, err := to.CopyRange(r.ctx, int64(in.OffOut), from, int64(in.OffIn), int64(min(in.Len, maxCopy)), in.Uid != 0)
	if n > 0 && !from.Quiet() && r.accessed(from.Ino()) {
		r.forgetAttr(from.Ino())
	}
	return uint32(n), r.status("copy a range", to.Ino(), err)
}

// Fallocate makes room or zeros. Unlike a write it does not say whether the program may keep
// set-user-id: only root may.
func (r *raw) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	h := r.open.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	// What does not fit is negative, which package fs refuses.
	err := h.Allocate(r.ctx, in.Mode, int64(in.Offset), int64(in.Length), in.Uid != 0)
	return r.status("fallocate", h.Ino(), err)
}
