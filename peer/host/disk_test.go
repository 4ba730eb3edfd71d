package host

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a filesystem in a file, whose power can be cut.
type disk struct {
	t          *testing.T
	image, dir string
}

// newDisk makes and mounts one; it skips the test where that can't be done.
func newDisk(t *testing.T, kind string, size int64) *disk {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a loop device")
	}
	for _, tool := range []string{"mkfs." + kind, "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	base := t.TempDir()
	// The medium may be memory: what a cut takes is what the filesystem had not sent to it.
	medium := base
	if m, err := os.MkdirTemp("/dev/shm", "host"); err == nil {
		t.Cleanup(func() { _ = os.RemoveAll(m) })
		medium = m
	}
	d := &disk{t: t, image: filepath.Join(medium, "image"), dir: filepath.Join(base, "mnt")}
	err := errors.Join(os.Mkdir(d.dir, 0o700), os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, size))
	if err != nil {
		t.Fatal(err)
	}
	d.run("mkfs."+kind, "-q", d.image)
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		t.Skipf("loop devices can't be mounted here: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(d.dir, unix.MNT_DETACH) }) // not mounted any more is fine too
	return d
}

func (d *disk) run(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// ioctlShutdown is XFS_IOC_GOINGDOWN, which ext4 knows too; shutdownNoFlush leaves the
// journal as it lies on the disk.
const (
	ioctlShutdown   = 0x8004587d
	shutdownNoFlush = 2
)

func (d *disk) cut() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), ioctlShutdown, shutdownNoFlush)
}

// remount brings it back after a cut. Whoever made a mount namespace meanwhile may keep
// the dead filesystem alive, and the kernel then gives that one out: it waits for its end.
func (d *disk) remount() {
	d.t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = unix.Unmount(d.dir, 0); err != nil {
			continue
		}
		d.run("mount", "-o", "loop", d.image, d.dir)
		alive := filepath.Join(d.dir, "alive")
		if err = os.WriteFile(alive, nil, 0o600); err == nil {
			err = os.Remove(alive)
		}
		if err == nil {
			return
		}
	}
	d.t.Fatalf("%s does not come back: %v", d.dir, err)
}
