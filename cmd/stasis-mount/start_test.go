package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A service manager listens on a path or, with an @, on an abstract name.
func TestNotify(t *testing.T) {
	if err := notify("READY=1"); err != nil && os.Getenv("NOTIFY_SOCKET") == "" {
		t.Errorf("without a service manager: %v", err)
	}
	for _, address := range []string{filepath.Join(t.TempDir(), "notify"), "@stasis-test-" + filepath.Base(t.TempDir())} {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		t.Setenv("NOTIFY_SOCKET", address)
		if err := notify("READY=1\nMAINPID=7"); err != nil {
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

func TestShort(t *testing.T) {
	t.Setenv("HOME", "/home/ann/")
	for path, want := range map[string]string{
		"/home/ann/vault": "~/vault", "/home/ann": "~", "/home/anna/vault": "/home/anna/vault", "/srv/v": "/srv/v", "/home/ann/my vault": "/home/ann/my vault",
	} {
		if got := short(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// A mount must hide nothing, and what is missing is named.
func TestCheckDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := checkDirectory(empty); err != nil {
		t.Error(err)
	}
	for path, words := range map[string]string{dir: "not empty", file: "not a directory", filepath.Join(dir, "none"): "mkdir -p"} {
		if err := checkDirectory(path); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want something about %q", path, err, words)
		}
	}
}

// What the daemon prints last before it dies is what the person reads.
func TestTail(t *testing.T) {
	if got := tail([]byte("\npanic: x\n\ngoroutine 1\na\nb\nc\nd\n")); got != "panic: x\n\ngoroutine 1\na\nb" {
		t.Errorf("%q", got)
	}
}
