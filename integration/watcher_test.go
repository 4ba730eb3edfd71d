package integration

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watcher collects what is renamed into watched directories. The kernel reports a rename
// only once it has succeeded, so what is collected when the daemon dies is what programs
// were told.
type watcher struct {
	t    testing.TB
	fd   int // f.Fd() would make it blocking
	f    *os.File
	done chan struct{}

	mu      sync.Mutex
	dirs    map[int32]string
	arrived map[string]bool
	lost    bool // the kernel's queue ran over
}

func newWatcher(t testing.TB) *watcher {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{t: t, fd: fd, f: os.NewFile(uintptr(fd), "inotify"), done: make(chan struct{}), dirs: map[int32]string{}, arrived: map[string]bool{}}
	go w.collect()
	return w
}

// add watches a directory and those below it.
func (w *watcher) add(dir string) {
	w.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		id, err := unix.InotifyAddWatch(w.fd, path, unix.IN_MOVED_TO|unix.IN_ONLYDIR)
		w.dirs[int32(id)] = path
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *watcher) collect() {
	defer close(w.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := w.f.Read(buf)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				w.t.Errorf("read what was renamed: %v", err)
			}
			return
		}
		w.take(buf[:n])
	}
}

func (w *watcher) take(events []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(events) >= unix.SizeofInotifyEvent {
		id := int32(binary.NativeEndian.Uint32(events))
		mask := binary.NativeEndian.Uint32(events[4:])
		length := binary.NativeEndian.Uint32(events[12:])
		name := events[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+length]
		events = events[unix.SizeofInotifyEvent+length:]
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			w.lost = true
		case mask&unix.IN_MOVED_TO != 0:
			w.arrived[filepath.Join(w.dirs[id], string(bytes.TrimRight(name, "\x00")))] = true
		}
	}
}

// await waits until n names are in place, or until the one who puts them there has ended;
// its end is put back.
func (w *watcher) await(n int, ended chan error) {
	for {
		w.mu.Lock()
		enough := len(w.arrived) >= n
		w.mu.Unlock()
		if enough {
			return
		}
		select {
		case err := <-ended:
			ended <- err
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// close gives the names that were renamed into place so far. Nothing may be under way.
func (w *watcher) close() map[string]bool {
	w.t.Helper()
	// What has happened is in the queue; a mark behind it tells that all was read.
	mark, err := os.MkdirTemp("", "stasis-mark-")
	if err != nil {
		w.t.Fatal(err)
	}
	defer os.RemoveAll(mark)
	w.add(mark)
	from, to := filepath.Join(mark, "from"), filepath.Join(mark, "to")
	if err := errors.Join(os.WriteFile(from, nil, 0o600), os.Rename(from, to)); err != nil {
		w.t.Fatal(err)
	}
	for {
		w.mu.Lock()
		seen := w.arrived[to]
		w.mu.Unlock()
		if seen {
			break
		}
		select {
		case <-w.done:
			w.t.Fatal("the watch ended early")
		default:
			time.Sleep(time.Millisecond)
		}
	}
	_ = w.f.Close()
	<-w.done
	if w.lost {
		w.t.Log("more renames than the kernel could queue; some go unchecked")
	}
	delete(w.arrived, to)
	return w.arrived
}
