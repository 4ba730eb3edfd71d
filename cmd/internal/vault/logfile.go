package vault

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// MaxLog is the size, in bytes, at which the log is rotated; the one before is kept,
	// so that both together stay below twice as much.
	MaxLog = 8 << 20
	// oldSuffix names the log before.
	oldSuffix = ".1"
)

// LogFile is a log of bounded size. It may be written concurrently.
type LogFile struct {
	mu     sync.Mutex
	path   string
	file   *os.File
	size   int64
	stderr bool
}

// OpenLog opens the log at path, made if need be. With stderr what the process
// writes to its standard error, a crash of the runtime included, goes there too.
func OpenLog(path string, stderr bool) (*LogFile, error) {
	l := &LogFile{path: path, stderr: stderr}
	return l, l.open()
}

func (l *LogFile) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	info, err := f.Stat()
	if err == nil && l.stderr {
		err = unix.Dup3(int(f.Fd()), int(os.Stderr.Fd()), 0)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("open the log %s: %w", l.path, err), f.Close())
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Write appends one record. A log that can't be rotated goes on in the file it has.
func (l *LogFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(p)) > MaxLog {
		if err := l.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return n, err
}

func (l *LogFile) rotate() error {
	if err := os.Rename(l.path, l.path+oldSuffix); err != nil {
		l.size = 0 // tried again one file's length later
		return nil
	}
	old := l.file
	if err := l.open(); err != nil {
		return err
	}
	return old.Close()
}

// Close closes the log.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
