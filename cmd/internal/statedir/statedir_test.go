package statedir

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
