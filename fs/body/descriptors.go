package body

import (
	"os"

	"golang.org/x/sys/unix"
)

// descriptorPart is the part (1/descriptorPart) of the descriptors that this process may
// have that bodies leave to others. A program that opens very many files is to be told so,
// and not to keep the ledger and the nodes from theirs.
const descriptorPart = 4

// descriptors is how many files bodies may have open at once.
func descriptors() (int64, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	most := int64(min(l.Cur, 1<<62)) // it may be unlimited
	return most - most/descriptorPart, nil
}

// open opens a file of a body; close must follow. ENFILE if bodies have as many open as
// they may.
func (d *Dir) open(path string, flags int) (*os.File, error) {
	if d.opened.Add(1) > d.mostOpen {
		d.opened.Add(-1)
		return nil, &os.PathError{Op: "open", Path: path, Err: unix.ENFILE}
	}
	f, err := openFile(path, flags)
	if err != nil {
		d.opened.Add(-1)
	}
	return f, err
}

// Full reports whether bodies have as many files open as they may.
func (d *Dir) Full() bool { return d.opened.Load() >= d.mostOpen }

func (d *Dir) close(f *os.File) error {
	d.opened.Add(-1)
	return f.Close()
}
