package statedir

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A user's state directory whose lock is a pipe holds up no command of root's about it.
func TestLockIsAPipe(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, LockName), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { Locked(dir); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("Locked hangs for ever on a pipe")
	}
}

// One whose lock is a link to a file of root's has nothing written there.
func TestLockIsALink(t *testing.T) {
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "shadow")
	if err := os.WriteFile(other, []byte("root:secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(dir, LockName)); err != nil {
		t.Fatal(err)
	}
	f, err := Lock(context.Background(), dir)
	if err == nil {
		f.Close()
	}
	if text, _ := os.ReadFile(other); string(text) != "root:secret\n" {
		t.Errorf("the file now reads %q", text)
	}
}

// Who holds a lock the kernel says, not what its owner has written into it.
func TestLockNamesAnother(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, LockName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString("1\n")
	mine := fmt.Sprintf("pid %d", os.Getpid())
	if err := stuck(dir); !strings.Contains(err.Error(), mine) {
		t.Error(err)
	}
	if _, err = tryLock(dir); err == nil || !strings.Contains(err.Error(), mine) {
		t.Error(err)
	}
}

// The kernel's list of locks names who took a lock, also where a child has it from him and he has
// it no more: then no process is named, as the number may be another's by now.
func TestLockLeftToAChild(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, LockName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sleep", "600")
	child.ExtraFiles = []*os.File{f}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait() // its outcome is no matter
	}()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if !Locked(dir) {
		t.Fatal("the child does not have the lock")
	}
	if pid := lockedBy(dir); pid != 0 {
		t.Errorf("pid %d is named, this process is %d and has the lock no more", pid, os.Getpid())
	}
}
