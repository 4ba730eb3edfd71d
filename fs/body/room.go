package body

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// Allocate sees to it that [off, end) has room on the disk, so that writing there does not
// fail for lack of it, and unless keep is set that the data is at least so long. No byte that is
// read changes, and a sparse body holds no more than before. NoSpace, with nothing
// changed, where there is too little.
func (b *Body) Allocate(off, end int64, keep bool) error {
	f, err := b.file()
	if err != nil {
		return err
	}
	size, err := b.Size()
	if err != nil {
		return err
	}
	if err := b.fits(off, end); err != nil {
		return err
	}
	mode := uint32(0)
	if keep {
		mode = unix.FALLOC_FL_KEEP_SIZE
	}
	b.roomy = true
	err = b.roomForMap(off, end)
	if err == nil {
		err = b.fallocate(mode, off, end-off)
	}
	if isFull(err) && end > size {
		// Somebody else took the room meanwhile. What lies past the end is given back; a part of
		// what lies before may have been allocated, which goes with the body.
		return errors.Join(err, f.Truncate(size))
	}
	if err == nil && end > size && keep {
		b.past = max(b.past, end)
	}
	return err
}

// roomForMap makes room for what the live map may come to have of [off, end).
func (b *Body) roomForMap(off, end int64) error {
	if b.whole {
		return nil
	}
	live, err := b.liveFile()
	if err != nil {
		return err
	}
	from, to := off/Unit/8, (end-1)/Unit/8+1
	return fallocate(live, unix.FALLOC_FL_KEEP_SIZE, from, to-from)
}

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// fits says NoSpace where the filesystem has less room than [off, end) lacks: trying would
// fill it up first.
func (b *Body) fits(off, end int64) error {
	room, err := b.dir.Room()
	if err != nil {
		return err
	}
	from, to := off/Unit*Unit, (end+Unit-1)/Unit*Unit
	if to-from <= room {
		return nil
	}
	have, told, err := b.allocated(from, to)
	if err != nil || !told {
		return err // tmpfs, which takes all or nothing
	}
	if needs := to - from - have; needs > room {
		return &store.Error{Kind: store.NoSpace, Op: "make room in", Subject: b.Path(), Detail: fmt.Sprintf("needs %d bytes, has %d", needs, room)}
	}
	return nil
}

// Trim gives back the room past the end of the data.
func (b *Body) Trim() error {
	f, err := b.file()
	if err != nil {
		return err
	}
	size, err := b.Size()
	if err != nil || b.past <= size {
		return err
	}
	b.past = 0
	return f.Truncate(size)
}

// Punch makes zeros of [off, end) and gives back the room it takes. Units that it covers in
// part a sparse body must hold; those that it covers wholly it holds from then on, without
// taking anything for them.
//
// A kill amid it leaves each unit as it was or zeros: the file changes first, under what was
// held, and then the map, for what was not. So does a power cut before the next Sync: what
// was held when it was synced is in the synced map, and is what was written then or zeros, as
// the filesystem got it to the disk; the rest is not, and the settled content shows.
func (b *Body) Punch(off, end int64) error {
	size, err := b.Size()
	if err != nil {
		return err
	}
	if off >= end {
		return nil
	}
	if off >= size {
		// It is a change to who asks, and none to the filesystem.
		f, err := b.file()
		if err != nil {
			return err
		}
		return b.setTimes(f, unix.Timespec{Nsec: unix.UTIME_OMIT}, unix.Timespec{Nsec: unix.UTIME_NOW})
	}
	end = min(end, size)
	to := end
	if end == size {
		to = (end + Unit - 1) / Unit * Unit // all of the last block
	}
	b.dense, b.holed = min(b.dense, off), true
	if err := b.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, to-off); err != nil {
		return err
	}
	b.dir.acted()
	return b.hold(off, end)
}

// Zero makes zeros of [off, end) as Punch does, and room for it as Allocate does, which comes
// first: where there is none nothing has changed.
func (b *Body) Zero(off, end int64, keep bool) error {
	if err := b.Allocate(off, end, keep); err != nil {
		return err
	}
	size, err := b.Size()
	if err != nil {
		return err
	}
	if end = min(end, size); off >= end {
		return nil
	}
	b.dense, b.holed = min(b.dense, off), true
	err = b.fallocate(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, end-off)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = b.overwrite(off, end)
	}
	if err != nil {
		return err
	}
	return b.hold(off, end)
}

// overwrite writes zeros over the data in [off, end).
func (b *Body) overwrite(off, end int64) error {
	f, err := b.file()
	if err != nil {
		return err
	}
	zeros := make([]byte, min(end-off, store.BlockSize))
	for off < end {
		from, to, err := b.NextData(off)
		if err != nil {
			return err
		}
		for off, to = from, min(to, end); off < to; off += int64(len(zeros)) {
			zeros = zeros[:min(to-off, int64(cap(zeros)))]
			if _, err := f.WriteAt(zeros, off); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *Body) fallocate(mode uint32, off, n int64) error {
	f, err := b.file()
	if err != nil {
		return err
	}
	return fallocate(f, mode, off, n)
}

func fallocate(f *os.File, mode uint32, off, n int64) error {
	for {
		switch err := unix.Fallocate(int(f.Fd()), mode, off, n); err {
		case nil:
			return nil
		case unix.EINTR:
		default:
			return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
		}
	}
}

// fiemap is how Linux tells where a file lies on the disk, from linux/fiemap.h.
type fiemap struct {
	start, length         uint64
	flags, mapped, extent uint32
	_                     uint32
	extents               [64]struct {
		logical, physical, length uint64
		_                         [2]uint64
		flags                     uint32
		_                         [3]uint32
	}
}

const (
	ioctlFiemap      = 0xc020660b // FS_IOC_FIEMAP
	fiemapExtentLast = 1          // FIEMAP_EXTENT_LAST
)

// allocated is how many bytes of [off, end) have room on the disk, written or not. told says
// whether the filesystem tells that.
func (b *Body) allocated(off, end int64) (bytes int64, told bool, err error) {
	f, err := b.file()
	if err != nil {
		return 0, false, err
	}
	for at := off; at < end; {
		m := fiemap{start: uint64(at), length: uint64(end - at)}
		m.extent = uint32(len(m.extents))
		_, _, no := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ioctlFiemap, uintptr(unsafe.Pointer(&m)))
		switch no {
		case 0:
		case unix.EINTR:
			continue
		case unix.EOPNOTSUPP, unix.ENOTTY:
			return 0, false, nil
		default:
			return 0, false, &os.PathError{Op: "fiemap", Path: b.Path(), Err: no}
		}
		if m.mapped == 0 {
			break
		}
		for _, e := range m.extents[:m.mapped] {
			from, to := max(at, int64(e.logical)), min(end, int64(e.logical+e.length))
			bytes += max(0, to-from)
			at = max(at, to)
			if e.flags&fiemapExtentLast != 0 {
				return bytes, true, nil
			}
		}
	}
	return bytes, true, nil
}
