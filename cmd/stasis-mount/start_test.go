package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
