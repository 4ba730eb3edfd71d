package directory

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/store/storetest"
)

// TestPowerCut cuts the power of a filesystem on a loop device at random points of
// put, batch, adopt and discard: what was not synced is gone, in whatever order the
// filesystem had written it.
func TestPowerCut(t *testing.T) {
	for _, fs := range []string{"xfs", "ext4"} {
		t.Run(fs, func(t *testing.T) {
			rounds := 3
			if storetest.Soak() {
				rounds = 200
			}
			m := newLoop(t, fs, 512<<20)
			seed := storetest.Seed(t)
			crashBase(t, m.dir)
			run(t, "sync", "-f", m.dir)
			e := newExpected()
			e.lenient = fs == "ext4"
			for i := range rounds {
				e.crashRound(t, m.dir, seed+uint64(i), func() { m.cut(t) })
				m.unmount(t)
				m.mount(t)
				e.check(t, m.dir)
				if t.Failed() {
					t.Fatalf("round %d", i)
				}
			}
			e.worked(t, rounds)
		})
	}
}

// loop is a filesystem in a file.
type loop struct {
	image, dir string
	options    string
}

// newLoop makes and mounts one; it skips the test where that can't be done.
func newLoop(t *testing.T, fs string, size int64) *loop {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a loop device")
	}
	for _, tool := range []string{"mkfs." + fs, "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	base := t.TempDir()
	// The medium may be memory: what a cut takes is what the filesystem had not sent to it.
	l := &loop{image: filepath.Join(memoryDir(t), "image"), dir: filepath.Join(base, "mnt"), options: "loop"}
	if fs == "xfs" {
		l.options += ",nouuid" // a copy may be mounted beside the original; see mount
	}
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(l.image)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs."+fs, "-q", l.image)
	if out, err := exec.Command("mount", "-o", l.options, l.image, l.dir).CombinedOutput(); err != nil {
		t.Skipf("loop devices can't be mounted here: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(l.dir, unix.MNT_DETACH) }) // not mounted any more is fine too
	return l
}

// mount mounts it again. A mount namespace that somebody made meanwhile may keep the
// dead filesystem alive, and the kernel then gives that one out. A copy of the image is
// what its disk holds, too.
func (l *loop) mount(t *testing.T) {
	t.Helper()
	run(t, "mount", "-o", l.options, l.image, l.dir)
	if l.dead() == nil {
		return
	}
	l.unmount(t)
	another := l.image + "+"
	run(t, "cp", "--sparse=always", l.image, another)
	if err := os.Rename(another, l.image); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "-o", l.options, l.image, l.dir)
	if err := l.dead(); err != nil {
		t.Fatalf("mounted again, %s is still dead: %v", l.dir, err)
	}
}

// dead tells why the filesystem takes no writes.
func (l *loop) dead() error {
	probe := filepath.Join(l.dir, "alive")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		return err
	}
	return os.Remove(probe)
}

// ioctlShutdown is XFS_IOC_GOINGDOWN, which ext4 knows too; shutdownNoFlush leaves
// the journal as it lies on the disk.
const (
	ioctlShutdown   = 0x8004587d
	shutdownNoFlush = 2
)

// shutdown is what "xfs_io -x -c shutdown" does, but without its look at every mount
// of the machine, which hangs with the first one that does.
func shutdown(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), ioctlShutdown, shutdownNoFlush)
}

// cut cuts the power of the mount.
func (l *loop) cut(t *testing.T) {
	t.Helper()
	if err := shutdown(l.dir); err != nil {
		t.Fatalf("shut %s down: %v", l.dir, err)
	}
}

// unmount waits for the killed child's last hold on the mount.
func (l *loop) unmount(t *testing.T) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = unix.Unmount(l.dir, 0); err == nil {
			return
		}
	}
	t.Fatalf("unmount %s: %v", l.dir, err)
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("%s %v: %w: %s", name, args, err, out))
	}
}
