package statedir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"stasis/cmd/internal/control"
	"stasis/cmd/internal/mounts"
	"stasis/store"
)

// Serving gives the daemon that serves a state directory, and waits, up to endWait, for a
// process that has the directory to answer or to end: one that starts answers soon, one that
// was killed has what it had until the kernel has ended it, which takes a while under load.
// ErrNoDaemon if nobody has the directory. Unavailable, with what to do, if a process has it
// that neither answers nor ends.
func Serving(ctx context.Context, state string) (control.Identity, error) {
	end := time.Now().Add(endWait)
	for {
		id, err := control.Who(ctx, state, min(max(time.Until(end), lockPoll), control.MaxSilence))
		switch {
		case err == nil || errors.Is(err, store.Denied):
			return id, err
		case ctx.Err() != nil:
			return id, ctx.Err()
		case !Locked(state):
			return id, control.ErrNoDaemon
		case time.Now().After(end) || stopped(state):
			return id, stuck(state)
		}
		select {
		case <-ctx.Done():
			return id, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// stuck says what to do about a process that has a state directory, and neither serves nor
// ends.
func stuck(state string) error {
	e := &store.Error{Kind: store.Unavailable, Op: "use the state directory", Subject: state,
		Detail: fmt.Sprintf("a process has it that neither answers nor ends within %s", endWait),
		Hint:   "find it with `fuser " + filepath.Join(state, LockName) + "`"}
	pid := lockedBy(state)
	if pid == 0 {
		return e
	}
	e.Detail = fmt.Sprintf("pid %d has it, and neither answers nor ends within %s", pid, endWait)
	e.Hint = fmt.Sprintf("see what it waits for in %s; `kill -9 %d` ends it and loses nothing that was acknowledged", filepath.Join(state, LogName), pid)
	switch processState(pid) {
	case stateStopped, stateTraced:
		e.Detail = fmt.Sprintf("pid %d has it and is stopped", pid)
		e.Hint = fmt.Sprintf("`kill -CONT %d` lets it go on; `kill -9 %d` ends it and loses nothing that was acknowledged", pid, pid)
	case stateWaits, stateZombie, stateDead:
		e.Hint = fmt.Sprintf("the kernel is ending it, or it waits for a disk: wait until `ps %d` shows it no more, then try again", pid)
	}
	return e
}

// lockedBy gives the process that holds the lock of a state directory, 0 if that is not known.
func lockedBy(state string) int {
	f, err := openLock(state, os.O_RDONLY)
	if err != nil {
		return 0
	}
	defer f.Close()
	return holderOf(f)
}

// holderOf gives the process that holds the lock of a file, by the kernel's list of locks: what
// the file itself says anybody may have written who owns it. The list names who took the lock,
// who may have left it to a child and ended: his number may be another process's by now. So it
// is asked whether that process holds the lock. 0 if none is known to.
func holderOf(f *os.File) int {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	text, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	// 1: FLOCK  ADVISORY  WRITE 2377 00:1b:5482 0 EOF
	is := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1] != "FLOCK" || fields[5] != is {
			continue
		}
		if pid, err := strconv.Atoi(fields[4]); err == nil && pid > 0 && holds(pid, is) {
			return pid
		}
	}
	return 0
}

// holds reports whether a process has a file open by which the lock is held of the file with
// that device and inode. The kernel says so of each of its descriptors, in text: the files
// themselves, which may be anywhere, are left alone.
func holds(pid int, is string) bool {
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		return false
	}
	for _, info := range infos {
		text, err := os.ReadFile(info)
		if err != nil {
			continue // it was closed meanwhile
		}
		for line := range strings.Lines(string(text)) {
			// lock:   1: FLOCK  ADVISORY  WRITE 2377 00:1b:5482 0 EOF
			if fields := strings.Fields(line); len(fields) > 6 && fields[0] == "lock:" && fields[2] == "FLOCK" && fields[6] == is {
				return true
			}
		}
	}
	return false
}

// stopped reports whether the process that has a state directory will do nothing by itself, so
// that waiting on is no use.
func stopped(state string) bool {
	s := processState(lockedBy(state))
	return s == stateStopped || s == stateTraced
}

// The states of processes, as ps(1) shows them.
const (
	stateStopped = 'T'
	stateTraced  = 't' // by a debugger
	stateWaits   = 'D'
	stateZombie  = 'Z'
	stateDead    = 'X'
)

// processState gives the letter that ps(1) shows of a process, 0 if there is none.
func processState(pid int) byte {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// It follows the name, which is in parentheses and may hold any.
	rest := strings.TrimLeft(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	if rest == "" {
		return 0
	}
	return rest[0]
}

// Mounted gives the mount of a state directory's vault. Where there are several filesystems,
// all but one of them left by daemons that were killed, it is the one that the daemon serves.
func Mounted(ctx context.Context, table mounts.Table, state string) (mounts.Mount, bool) {
	of := table.Of(state)
	if len(of) == 0 {
		return mounts.Mount{}, false
	}
	for _, m := range of {
		if m.Device == of[0].Device {
			continue
		}
		id, err := control.Who(ctx, state, control.MaxSilence)
		if err != nil {
			break // then one is as good as the other
		}
		for _, m := range of {
			if m.Device == id.Mount {
				return m, true
			}
		}
		break
	}
	return of[0], true
}
