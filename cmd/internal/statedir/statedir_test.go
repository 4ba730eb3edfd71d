package statedir

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/store"
)

// A service manager listens on a path or, with an @, on an abstract name.
func TestNotify(t *testing.T) {
	if err := Notify("READY=1"); err != nil && os.Getenv("NOTIFY_SOCKET") == "" {
		t.Errorf("without a service manager: %v", err)
	}
	for _, address := range []string{filepath.Join(t.TempDir(), "notify"), "@stasis-test-" + filepath.Base(t.TempDir())} {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		t.Setenv("NOTIFY_SOCKET", address)
		if err := Notify("READY=1\nMAINPID=7"); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		n, err := c.Read(buf)
		if err != nil || string(buf[:n]) != "READY=1\nMAINPID=7" {
			t.Errorf("%s: got %q, %v", address, buf[:n], err)
		}
	}
}

// Two processes in one state directory would undo each other's work.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	f, err := Lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tryLock(dir); !errors.Is(err, store.Conflict) || !strings.Contains(err.Error(), "pid") {
		t.Errorf("the state directory can be taken twice: %v", err)
	}
	if !Locked(dir) {
		t.Error("it does not count as in use")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if Locked(dir) {
		t.Error("it is in use after it was given up")
	}
}

// A log that grows without end fills the disk that keeps the only ledger.
func TestLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), LogName)
	l, err := OpenLog(path, false)
	if err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("x", 1<<20-1) + "\n")
	for range 3 * MaxLog / len(line) {
		if _, err := l.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + OldSuffix} {
		info, err := os.Stat(p)
		if err != nil || info.Size() == 0 || info.Size() > MaxLog {
			t.Errorf("%s: %v, %v", p, info, err)
		}
	}
}

// A log is read with tail, on a terminal. What stands in it may come from anywhere.
func TestLogIsPrintable(t *testing.T) {
	path := filepath.Join(t.TempDir(), LogName)
	log, err := NewLog(path, logrus.DebugLevel, false)
	if err != nil {
		t.Fatal(err)
	}
	const nasty = "\x1b[2J\x1b]0;owned\a\u009b31m\x9b\u202Egpj\u200B\nlevel=error forged"
	log.WithError(errors.New(nasty)).WithFields(logrus.Fields{"name": nasty, "raw": []byte(nasty), "list": []string{nasty}}).Warn(nasty)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if line, more, _ := strings.Cut(string(text), "\n"); line != store.Printable(line, 1<<20) || more != "" {
		t.Errorf("the log has %q", text)
	}
}
