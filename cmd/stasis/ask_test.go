package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/store"
)

// hanging is a peer whose opening takes longer than the test: somebody has its lock, who neither
// answers nor lets go.
func hanging(t *testing.T) target {
	t.Helper()
	dir := t.TempDir()
	fd, err := unix.Open(filepath.Join(dir, "lock"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := os.WriteFile(filepath.Join(dir, config.PeerFileName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return target{state: dir, peer: true}
}

// What another user's directory makes hang root waits for with a bound, and an interrupt ends the
// wait at once.
func TestWithinABound(t *testing.T) {
	v := hanging(t)
	start := time.Now()
	if err := v.within(t.Context(), question{op: api.OpStatus, quick: true, alone: look}, 100*time.Millisecond); !errors.Is(err, store.Unavailable) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := v.within(ctx, question{op: api.OpStatus, alone: look}, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("interrupted: %v", err)
	}
	if took := time.Since(start); took > changeLimit {
		t.Errorf("it took %s", took)
	}
}
