package ledger

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// files is the directory of a ledger as the journal uses it. Names are relative.
// The tests have a second implementation, which forgets what was not synced.
type files interface {
	Create(name string) (file, error) // for reading and writing; it must not exist
	Open(name string) (file, error)   // for reading and writing
	Rename(from, to string) error     // replaces to
	Remove(name string) error
	List() ([]string, error)
	SyncDir() error       // makes creates, renames and removes durable
	Free() (int64, error) // bytes that this user may still fill
}

// file is one file of the journal.
type file interface {
	io.ReaderAt
	io.WriterAt // one write(2) unless the kernel writes short
	Datasync() error
	Allocate(size int64) error // gives the file at least size bytes that are its own
	Truncate(size int64) error
	Size() (int64, error)
	Close() error
}

type osFiles struct{ dir string }

func (o osFiles) Create(name string) (file, error) {
	f, err := os.OpenFile(filepath.Join(o.dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (o osFiles) Open(name string) (file, error) {
	f, err := os.OpenFile(filepath.Join(o.dir, name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (o osFiles) Rename(from, to string) error {
	return os.Rename(filepath.Join(o.dir, from), filepath.Join(o.dir, to))
}

func (o osFiles) Remove(name string) error { return os.Remove(filepath.Join(o.dir, name)) }

func (o osFiles) List() ([]string, error) {
	entries, err := os.ReadDir(o.dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (o osFiles) SyncDir() error { return syncDir(o.dir) }

func (o osFiles) Free() (int64, error) {
	var st unix.Statfs_t
	if err := retryInterrupted(func() error { return unix.Statfs(o.dir, &st) }); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

type osFile struct{ *os.File }

func (f osFile) Datasync() error {
	err := retryInterrupted(func() error { return unix.Fdatasync(int(f.Fd())) })
	return os.NewSyscallError("fdatasync", err)
}

// Allocate falls back on writing zeros where the filesystem has no fallocate: a
// network share, some FUSE filesystems.
func (f osFile) Allocate(size int64) error {
	err := retryInterrupted(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return os.NewSyscallError("fallocate", err)
	}
	have, err := f.Size()
	if err != nil {
		return err
	}
	zeros := make([]byte, 256<<10)
	for have < size {
		n := min(int64(len(zeros)), size-have)
		if _, err := f.WriteAt(zeros[:n], have); err != nil {
			return err
		}
		have += n
	}
	return nil
}

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func retryInterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
