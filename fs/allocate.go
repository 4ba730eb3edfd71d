package fs

import (
	"context"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// Allocate is fallocate(2), with the modes that make room or zeros: EOPNOTSUPP for others,
// and where the filesystem that bodies lie on can't. mode is as there; killSUID clears the
// bits that an unprivileged write clears.
//
// Room is made in the body, on this machine: until the content is cut into crates, at the
// latest when the file is closed or, if it stays open, within minutes, writing to the range does
// not fail at once for lack of room. NoSpace, with nothing changed, where there is not so much.
// Of the nodes nothing is asked: they keep no zeros, and a close may be refused still.
// Settled content under the range stays where it is, and room for what replaces it is made
// beside it.
//
// A hole costs nothing anywhere, however long it is.
func (h *Handle) Allocate(ctx context.Context, mode uint32, off, n int64, killSUID bool) error {
	if !h.write {
		return syscall.EBADF
	}
	return h.s.allocate(ctx, h.f, mode, off, n, killSUID)
}

func (s *FS) allocate(ctx context.Context, f *file, mode uint32, off, n int64, killSUID bool) error {
	keep := mode&unix.FALLOC_FL_KEEP_SIZE != 0
	mode &^= unix.FALLOC_FL_KEEP_SIZE
	switch {
	case s.ro:
		return syscall.EROFS
	case off < 0 || n <= 0:
		return syscall.EINVAL
	case mode == unix.FALLOC_FL_PUNCH_HOLE && !keep:
		return syscall.EOPNOTSUPP
	case mode != 0 && mode != unix.FALLOC_FL_PUNCH_HOLE && mode != unix.FALLOC_FL_ZERO_RANGE:
		return syscall.EOPNOTSUPP
	case off > MaxFileSize-n:
		return syscall.EFBIG
	}
	if killSUID {
		if err := s.killPrivileges(ctx, f.ino); err != nil {
			return err
		}
	}
	end := off + n
	var units []int64
	if mode != 0 {
		units = edges(off, end)
	}
	err := s.change(ctx, f, units, func() (err error) {
		switch mode {
		case unix.FALLOC_FL_PUNCH_HOLE:
			err = f.body.Punch(off, end)
		case unix.FALLOC_FL_ZERO_RANGE:
			err = f.body.Zero(off, end, keep)
		default:
			err = f.body.Allocate(off, end, keep)
		}
		if err != nil {
			return err
		}
		if !keep {
			f.size = max(f.size, end)
		}
		f.touch()
		return nil
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return syscall.EOPNOTSUPP
	}
	return err
}
