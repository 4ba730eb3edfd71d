package statedir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"stasis/cmd/internal/control"
	"stasis/cmd/internal/mounts"
	"stasis/store"
)

// LockName is the file whose lock whoever uses a state directory holds. It names the
// process.
const LockName = "lock"

// Lock is tryLock with a wait for a process that is about to end: one that
// serves nobody, or was killed.
func Lock(ctx context.Context, state string) (*os.File, error) {
	end := time.Now().Add(lockWait)
	for {
		f, err := tryLock(state)
		if !errors.Is(err, store.Conflict) || time.Now().After(end) {
			return f, err
		}
		if _, silent := control.Who(ctx, state, max(time.Until(end), lockPoll)); silent == nil {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// tryLock takes the state directory for this process, until the file it gives is
// closed or the process ends. Conflict, with the other's process id, if it is in use.
func tryLock(state string) (*os.File, error) {
	path := filepath.Join(state, LockName)
	f, err := openLock(state, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, inUse(state, f)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// The number is for messages alone; what counts is the lock. So a disk too full for it
	// is no reason to stop here.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	return f, nil
}

// openLock opens the lock of a state directory, which may be another user's.
func openLock(state string, flags int) (*os.File, error) {
	return mounts.OpenFile(filepath.Join(state, LockName), flags)
}

func inUse(state string, f *os.File) error {
	e := &store.Error{Kind: store.Conflict, Op: "use the state directory", Subject: state, Detail: "it is in use"}
	if pid := holderOf(f); pid != 0 {
		e.Detail = fmt.Sprintf("it is in use by pid %d", pid)
		e.Hint = fmt.Sprintf("if it serves nobody any more it ends by itself, or with `kill %d`, which loses nothing", pid)
	}
	return e
}

// Locked reports whether a process uses the state directory.
func Locked(state string) bool {
	f, err := openLock(state, os.O_RDONLY)
	if err != nil {
		return false // nobody ever locked it, or could
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}
