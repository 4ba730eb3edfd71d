package ledger

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"stasis/store"
)

const lockName = "lock"

// lockDir takes the ledger's directory for this process; closing the file gives
// it up, as does the death of the process. The file holds the owner's pid for the
// message that the next one gets.
func lockDir(dir string) (*os.File, error) {
	const op = "open ledger"
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, diskError(op, dir, err)
	}
	err = retryInterrupted(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		e := &store.Error{Kind: store.Conflict, Op: op, Subject: dir, Detail: "in use by another process"}
		if b, readErr := io.ReadAll(io.LimitReader(f, 32)); readErr == nil && len(b) > 0 {
			e.Detail = "in use by pid " + store.Printable(strings.TrimSpace(string(b)), 32)
		}
		return nil, errors.Join(e, f.Close())
	}
	if err != nil {
		return nil, errors.Join(diskError(op, dir, os.NewSyscallError("flock", err)), f.Close())
	}
	// The pid is for people. A full disk must not keep the ledger shut because of it.
	if _, err := f.WriteAt(fmt.Appendf(nil, "%-10d\n", os.Getpid()), 0); err != nil && !isFull(err) {
		return nil, errors.Join(diskError(op, dir, err), f.Close())
	}
	return f, nil
}
