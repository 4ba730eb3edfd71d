package integration

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// lockOps ask for locks and wait for none. The workers are the several processes that
// compete for them.
var lockOps = map[string]func(s *side, fd int, op modelOp) outcome{
	"flock":   func(_ *side, fd int, op modelOp) outcome { return failing(unix.Flock(fd, op.Flags|unix.LOCK_NB)) },
	"lock":    func(_ *side, fd int, op modelOp) outcome { return op.lock(fd, unix.F_SETLK) },
	"lockofd": func(_ *side, fd int, op modelOp) outcome { return op.lock(fd, unix.F_OFD_SETLK) },
	"getlock": func(_ *side, fd int, op modelOp) outcome { return op.lock(fd, unix.F_GETLK) },
	"getofd":  func(_ *side, fd int, op modelOp) outcome { return op.lock(fd, unix.F_OFD_GETLK) },
}

func (op modelOp) lock(fd, command int) outcome {
	l := unix.Flock_t{Type: int16(op.Flags), Whence: unix.SEEK_SET, Start: op.Offset, Len: op.Size}
	err := unix.FcntlFlock(uintptr(fd), command, &l)
	if command == unix.F_SETLK || command == unix.F_OFD_SETLK || err != nil {
		return outcome{err: err}
	}
	// The same process holds the lock on both sides.
	return outcome{text: fmt.Sprintf("type %d from %d length %d by %d", l.Type, l.Start, l.Len, l.Pid)}
}
