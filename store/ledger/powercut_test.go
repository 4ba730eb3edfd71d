package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A filesystem's own emergency stop: what is not on the disk is gone, as in a power
// cut. ext4 and XFS share the number.
const (
	shutdownRequest  = 0x8004587d
	shutdownNoFlush  = 2
	powerCutDiskSize = 64 << 20 // bytes
)

func shutdownFilesystem(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	flags := uint32(shutdownNoFlush)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), shutdownRequest, uintptr(unsafe.Pointer(&flags)))
	if errno != 0 {
		err = errno
	}
	return errors.Join(err, f.Close())
}

func run(name string, arg ...string) error {
	if out, err := exec.Command(name, arg...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w: %s", name, arg, err, out)
	}
	return nil
}

// TestFilesystemPowerCut does what TestPowerCuts simulates, bbolt's commits and the
// kernel's preallocation included.
func TestFilesystemPowerCut(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	rng := seeded(t)
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			base := t.TempDir()
			disk, mnt := filepath.Join(base, "disk"), filepath.Join(base, "mnt")
			size := int64(powerCutDiskSize)
			if kind == "xfs" {
				size = 320 << 20 // the least that mkfs.xfs takes is 300 MiB
			}
			if err := errors.Join(os.Mkdir(mnt, 0o700), os.WriteFile(disk, nil, 0o600), os.Truncate(disk, size)); err != nil {
				t.Fatal(err)
			}
			if err := run("mkfs."+kind, "-q", disk); err != nil {
				t.Skip(err)
			}
			mount := func() {
				if err := run("mount", "-o", "loop", "-t", kind, disk, mnt); err != nil {
					t.Skip(err)
				}
				if _, err := os.ReadDir(mnt); errors.Is(err, unix.EIO) {
					t.Skip("a mount namespace made meanwhile still holds the filesystem that was stopped")
				}
			}
			mount()
			t.Cleanup(func() {
				if err := unix.Unmount(mnt, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
					t.Error(err)
				}
			})
			for range rounds(4) {
				synced, last := updateAndCut(t, mnt, time.Duration(rng.IntN(250))*time.Millisecond)
				if err := run("umount", mnt); err != nil {
					t.Fatal(err)
				}
				mount()
				db := openTest(t, filepath.Join(mnt, "ledger"), Options{Segment: 64 << 10, Ballast: -1})
				if p := db.Position(); p < synced || p > last {
					t.Fatalf("after the cut the ledger is at %d; it was at %d, synced up to %d", p, last, synced)
				}
				checkCount(t, db)
				closeTest(t, db)
			}
		})
	}
}

// updateAndCut updates, syncs and folds for a while and stops the filesystem
// meanwhile. It says what was synced before the stop, and what was updated at most.
func updateAndCut(t *testing.T, mnt string, after time.Duration) (synced, last Position) {
	t.Helper()
	db := openTest(t, filepath.Join(mnt, "ledger"), Options{Segment: 64 << 10, Ballast: -1})
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; !stop.Load(); i++ {
			p, err := countUp(db.Space(Shared))
			if err == nil && i%100 == 0 {
				err = db.Sync(context.Background(), p)
			}
			if err == nil && i%300 == 0 {
				err = db.foldUpTo(p)
			}
			if err != nil {
				return // the filesystem has stopped
			}
		}
	}()
	time.Sleep(20*time.Millisecond + after) // so long the ledger runs
	synced = db.Synced()
	if err := shutdownFilesystem(mnt); err != nil {
		t.Fatal(err)
	}
	stop.Store(true)
	<-done
	last = db.Position() + 1 // the last one may have come to the disk and been refused
	_ = db.die()             // every close may fail now, and nothing depends on it
	return synced, last
}
