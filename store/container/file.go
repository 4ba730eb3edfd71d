package container

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// file is what a container needs of the file it lies in. The other
// implementation is that of the tests, which loses what was not synced. Offsets
// and lengths are in bytes. All methods may be called concurrently.
type file interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes all that was written before the call survive a power cut.
	Sync() error
	Truncate(size int64) error
	// Punch gives the space of a range back to the filesystem; the range reads as zeros
	// then. errors.ErrUnsupported if the filesystem can't.
	Punch(off, n int64) error
	// Allocate makes sure that a range can be written when the disk is full;
	// errors.ErrUnsupported if the filesystem can't.
	Allocate(off, n int64) error
	Size() (int64, error)
	// Allocated is what the file takes on the disk, Avail what a user may still fill there.
	Allocated() (int64, error)
	Avail() (int64, error)
	// NextData is the first offset from off on that is not in a hole; io.EOF if none is.
	NextData(off int64) (int64, error)
	// DropCache asks that the range be read from the medium next time.
	DropCache(off, n int64)
	Close() error
}

// osFile is a file of the operating system, locked for this process.
type osFile struct {
	*os.File
	path     string
	dev, ino uint64
	noPunch  atomic.Bool // the filesystem said that it can't
}

var errNotRegular = errors.New("it is not a regular file")

// openFile opens and locks the file of a container. A lock held elsewhere is
// unix.EWOULDBLOCK.
func openFile(path string, write bool) (*osFile, error) {
	// A device or pipe must not be waited for, hence O_NONBLOCK.
	mode := os.O_RDONLY
	if write {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(path, mode|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errNotRegular
	}
	if err == nil && write {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &osFile{File: f, path: path, dev: uint64(st.Dev), ino: st.Ino}, nil
}

// check reports whether the path still leads to this very file.
func (f *osFile) check() error {
	var st unix.Stat_t
	if err := unix.Stat(f.path, &st); err != nil {
		return fmt.Errorf("the container's file is gone: %w", err)
	}
	if uint64(st.Dev) != f.dev || st.Ino != f.ino {
		return errors.New("another file is in the place of the container")
	}
	return nil
}

// again repeats a system call that a signal interrupted.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func (f *osFile) do(call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := conn.Control(func(fd uintptr) {
		inner = again(func() error { return call(int(fd)) })
	}); err != nil {
		return err
	}
	return inner
}

func (f *osFile) Sync() error { return f.do(unix.Fdatasync) }

func unsupported(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return errors.ErrUnsupported
	}
	return err
}

func (f *osFile) Punch(off, n int64) error {
	if f.noPunch.Load() {
		return errors.ErrUnsupported
	}
	err := unsupported(f.do(func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	}))
	if errors.Is(err, errors.ErrUnsupported) {
		f.noPunch.Store(true)
	}
	return err
}

func (f *osFile) Allocate(off, n int64) error {
	return unsupported(f.do(func(fd int) error { return unix.Fallocate(fd, 0, off, n) }))
}

func (f *osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f *osFile) Allocated() (int64, error) {
	var st unix.Stat_t
	err := f.do(func(fd int) error { return unix.Fstat(fd, &st) })
	return st.Blocks * 512, err
}

func (f *osFile) Avail() (int64, error) {
	var st unix.Statfs_t
	if err := f.do(func(fd int) error { return unix.Fstatfs(fd, &st) }); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

func (f *osFile) NextData(off int64) (next int64, err error) {
	err = f.do(func(fd int) (err error) {
		next, err = unix.Seek(fd, off, unix.SEEK_DATA)
		return err
	})
	switch {
	case errors.Is(err, unix.ENXIO):
		return 0, io.EOF
	case errors.Is(err, unix.EINVAL):
		return off, nil // a filesystem without the notion: all is data
	}
	return next, err
}

func (f *osFile) DropCache(off, n int64) {
	// Advice: if the cache isn't dropped the range is still read and verified.
	_ = f.do(func(fd int) error { return unix.Fadvise(fd, off, n, unix.FADV_DONTNEED) })
}

// syncDir makes the names in the directory of path survive a power cut.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
