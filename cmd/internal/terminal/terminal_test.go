package terminal

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Scripts need paths as they are, a terminal must not obey them.
func TestPath(t *testing.T) {
	const path = "/v/\x1b[2J\x9b\u202E"
	if got := Path(&bytes.Buffer{}, path); got != path {
		t.Errorf("for a script: %q", got)
	}
	f, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := Path(f, path); got != path {
		t.Errorf("for a file: %q", got)
	}
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal can be had: %v", err)
	}
	defer pty.Close()
	if got := Path(pty, path); got != "/v/\uFFFD[2J\uFFFD\uFFFD" {
		t.Errorf("for a terminal: %q", got)
	}
}

func TestLines(t *testing.T) {
	if got := Lines("one\ntwo\x1b[2J\nthree"); got != "one\ntwo\uFFFD[2J\nthree" {
		t.Errorf("%q", got)
	}
}
