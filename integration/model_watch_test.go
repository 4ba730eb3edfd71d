package integration

import (
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// watched is an inode of which one wants to know what an operation does to it.
type watched struct {
	name   string
	fd     int // O_PATH, and so follows it wherever it goes
	before unix.Statx_t
}

// watch does an operation, and says besides which times of the inodes that it is about
// changed. One that is left as it was by one filesystem is so by the other.
func (s *side) watch(op modelOp) outcome {
	var all []*watched
	defer func() {
		for _, w := range all {
			_ = unix.Close(w.fd)
		}
	}()
	look := func(name, path string) {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			all = append(all, &watched{name: name, fd: fd})
		}
	}
	if op.Path != "" {
		look("path", s.path(op.Path))
		look("directory", path.Dir(s.path(op.Path)))
	}
	if op.Kind == "rename" || op.Kind == "link" {
		look("to", s.path(op.To))
		look("directory of to", path.Dir(s.path(op.To)))
	}
	for name, slot := range map[string]int{"file": op.Slot, "file 2": op.Slot2} {
		if fd, open := s.files[slot]; open {
			if fd, err := unix.Open(procPath(fd), unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
				all = append(all, &watched{name: name, fd: fd})
			}
		}
	}
	for _, w := range all {
		if err := statAll(w.fd, &w.before); err != nil {
			return outcome{err: err, text: "watched"}
		}
	}
	nextTick()
	out := s.do(op)
	changes := []string{}
	for _, w := range all {
		var after unix.Statx_t
		if err := statAll(w.fd, &after); err != nil {
			return outcome{err: err, text: "watched"}
		}
		for _, t := range []struct {
			name          string
			before, after unix.StatxTimestamp
		}{{"mtime", w.before.Mtime, after.Mtime}, {"ctime", w.before.Ctime, after.Ctime}, {"btime", w.before.Btime, after.Btime}} {
			if t.before != t.after && (after.Mode&unix.S_IFMT != unix.S_IFIFO || t.name == "btime") {
				changes = append(changes, w.name+" "+t.name)
			}
		}
		changes = append(changes, fmt.Sprintf("%s links %d", w.name, after.Nlink))
	}
	sortedChanges := sorted(changes)
	out.text += " changed: " + strings.Join(sortedChanges, ", ")
	return out
}

func statAll(fd int, st *unix.Statx_t) error {
	return unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME, st)
}

// nextTick waits until the kernel's coarse clock, by which files are stamped, goes on.
func nextTick() {
	tick := func() (ts unix.Timespec) {
		_ = unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts) // of a clock that exists
		return ts
	}
	for was := tick(); was == tick(); {
		time.Sleep(time.Millisecond)
	}
}
