package statedir

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"stasis/cmd/internal/mounts"
)

// LogName is the log in a state directory.
const LogName = "stasis.log"

// OldSuffix names the log before.
const OldSuffix = ".1"

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
	if err := os.Rename(l.path, l.path+OldSuffix); err != nil {
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

// NewLog gives a log into the bounded file at path, or onto standard error if that is
// empty. With stderr, what else the process says there goes into the file too.
func NewLog(path string, level logrus.Level, stderr bool) (*logrus.Logger, error) {
	log := logrus.New()
	log.SetLevel(level)
	log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: true})
	if path == "" {
		return log, nil
	}
	path, err := mounts.Abs(path)
	if err != nil {
		return nil, err
	}
	file, err := OpenLog(path, stderr)
	if err != nil {
		return nil, err
	}
	log.SetOutput(file)
	return log, nil
}
