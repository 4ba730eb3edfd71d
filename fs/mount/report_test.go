package mount

import (
	"bytes"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/sirupsen/logrus"

	"stasis/store"
)

func logTo(w *bytes.Buffer) logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(w)
	return l
}

// An answer is no news; a failure's reason is what the operator needs.
func TestStatusLogsFailures(t *testing.T) {
	var out bytes.Buffer
	r := &reporter{log: logTo(&out)}
	if got := r.status("look up", 7, syscall.ENOENT); got != fuse.ENOENT || out.Len() != 0 {
		t.Errorf("an answer: %v, log %q", got, out.String())
	}
	err := &store.Error{Kind: store.Unavailable, Op: "read crate", Subject: "7f3a"}
	if got := r.status("read", 7, err); got != fuse.EIO || !strings.Contains(out.String(), "7f3a") || !strings.Contains(out.String(), "inode=7") {
		t.Errorf("a failure: %v, log %q", got, out.String())
	}
}

// A program that tries again and again must not fill the disk with its log.
func TestReporterIsBounded(t *testing.T) {
	r := &reporter{}
	now, said := time.Now(), 0
	for range 10 * reportBurst {
		if say, kept := r.admit(now); say {
			said++
		} else if kept != 0 {
			t.Errorf("%d told early", kept)
		}
	}
	if said != reportBurst {
		t.Errorf("%d were logged, want %d", said, reportBurst)
	}
	if say, kept := r.admit(now.Add(reportEvery)); !say || kept != 9*reportBurst {
		t.Errorf("later: %v, %d kept back", say, kept)
	}
}

func TestPanicIsEIO(t *testing.T) {
	var out bytes.Buffer
	r := &raw{reporter: reporter{log: logTo(&out)}}
	if got := r.panicked("boom"); got != fuse.EIO || !strings.Contains(out.String(), "boom") || !strings.Contains(out.String(), "goroutine") {
		t.Errorf("%v, log %q", got, out.String())
	}
}
