package mount

import (
	"bytes"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/sirupsen/logrus"

	"stasis/fs/names"
)

// reporter puts the reasons of failed operations into the log, and not more of them
// than somebody can read: a program that retries would fill the disk.
type reporter struct {
	log logrus.FieldLogger

	mu    sync.Mutex
	since time.Time // when the current count began
	said  int
	kept  int // back, since then
}

// status turns the outcome of an operation into what the kernel gets.
func (r *reporter) status(op string, ino names.Ino, err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	no, answer := toErrno(err)
	if !answer {
		r.report(op, ino, err)
	}
	return fuse.Status(no)
}

func (r *reporter) report(op string, ino names.Ino, err error) {
	say, kept := r.admit(time.Now())
	if kept > 0 {
		r.log.WithField("failures", kept).Error("more operations failed than were logged")
	}
	if say {
		r.log.WithError(err).WithFields(logrus.Fields{"op": op, "inode": uint64(ino)}).Error("an operation failed")
	}
}

// admit says whether one more failure may be logged, and how many were not since the
// last one that was.
func (r *reporter) admit(now time.Time) (say bool, kept int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.since) >= reportEvery {
		r.since, r.said = now, 0
		kept, r.kept = r.kept, 0
	}
	if r.said == reportBurst {
		r.kept++
		return false, kept
	}
	r.said++
	return true, kept
}

// logWriter takes the lines that go-fuse logs.
type logWriter struct{ log logrus.FieldLogger }

func (w logWriter) Write(p []byte) (int, error) {
	say := w.log.WithField("from", "go-fuse").Warn
	if bytes.Contains(p, []byte("Unimplemented opcode")) {
		// The kernel asks for everything once, such as poll(2), and then knows.
		say = w.log.WithField("from", "go-fuse").Debug
	}
	say(string(bytes.TrimSpace(p)))
	return len(p), nil
}
