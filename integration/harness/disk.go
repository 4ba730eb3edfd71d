package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Disk is a filesystem that a test may unmount, fill and cut the power of.
type Disk struct {
	t      testing.TB
	Kind   string // ext4, xfs or tmpfs
	Point  string // where it is mounted
	image  string
	device string
	size   int64
	up     bool
	cut    bool // it was shut down, and not mounted since
}

// NewDisk makes a filesystem of a size in a file, or a tmpfs, and mounts it. XFS wants
// 300 MiB at least; the file is sparse. Make a disk before the vault that uses it: what
// is made last is cleared first.
func NewDisk(t testing.TB, kind string, size int64) *Disk {
	t.Helper()
	NeedRoot(t)
	base := Dir(t)
	d := &Disk{t: t, Kind: kind, Point: Mkdir(t, base, "point"), size: size}
	t.Cleanup(d.discard)
	if kind != "tmpfs" {
		d.image = filepath.Join(base, "image")
		f, err := os.Create(d.image)
		if err == nil {
			err = f.Truncate(size)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		mkfs := []string{"mkfs.ext4", "-q", "-F", "-m", "0"}
		if kind == "xfs" {
			mkfs = []string{"mkfs.xfs", "-q", "-f"}
		}
		Must(t, append(mkfs, d.image)...)
		d.attach()
	}
	d.Mount()
	return d
}

// Mount mounts the disk again. After a cut it is what is on the disk, even if somebody
// still holds the mount before: another mount namespace, or a process.
func (d *Disk) Mount() {
	d.t.Helper()
	if d.Kind == "tmpfs" {
		Must(d.t, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", d.size), "tmpfs", d.Point)
		d.up = true
		return
	}
	d.mountImage()
	if d.cut && !takesFiles(d.Point) {
		// The filesystem that was shut down lives on. It goes on with the image that it has;
		// the disk is a copy from now on.
		d.Unmount()
		d.release()
		Must(d.t, "cp", "--sparse=always", d.image, d.image+".copy")
		d.image += ".copy"
		d.attach()
		d.mountImage()
	}
	d.cut = false
}

// takesFiles reports whether a filesystem works, without a trace: the file has no name.
func takesFiles(point string) bool {
	fd, err := unix.Open(point, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err == nil {
		_ = unix.Close(fd) // nothing was written
	}
	return err == nil
}

func (d *Disk) mountImage() {
	d.t.Helper()
	options := "rw"
	if d.Kind == "xfs" {
		options = "nouuid" // it may be mounted twice
	}
	Must(d.t, "mount", "-t", d.Kind, "-o", options, d.device, d.Point)
	d.up = true
}

func (d *Disk) attach() {
	d.t.Helper()
	d.device = strings.TrimSpace(Must(d.t, "losetup", "--find", "--show", d.image))
}

// release gives up the loop device, which ends with its last user.
func (d *Disk) release() {
	if r, err := (Command{Args: []string{"losetup", "-d", d.device}}).run(); err != nil || r.Code != 0 {
		d.t.Errorf("release the loop device: %v %v", err, r)
	}
	d.device = ""
}

// Unmount takes it away, as a person pulls a stick after asking; a tmpfs loses its
// content.
func (d *Disk) Unmount() {
	d.t.Helper()
	if err := d.unmountSoon(); err != nil {
		out, _ := Command{Args: []string{"fuser", "-vm", d.Point}}.run()
		d.t.Fatalf("unmount %s: %v\n%v", d.Point, err, out)
	}
}

// unmountSoon gives the processes that ended just now the moment that they take to give
// up their files.
func (d *Disk) unmountSoon() error {
	err := d.unmount(0)
	for end := time.Now().Add(endLimit); err == unix.EBUSY && time.Now().Before(end); err = d.unmount(0) {
		time.Sleep(pollStep)
	}
	return err
}

// Yank takes it away from under whoever uses it: the name is gone at once, open files
// live on.
func (d *Disk) Yank() {
	d.t.Helper()
	if err := d.unmount(unix.MNT_DETACH); err != nil {
		d.t.Fatalf("detach %s: %v", d.Point, err)
	}
}

func (d *Disk) unmount(flags int) error {
	if err := unix.Unmount(d.Point, flags|unix.UMOUNT_NOFOLLOW); err != nil {
		return err
	}
	d.up = false
	return nil
}

// Cut cuts the power: what was not synced is gone, and every use fails until the disk
// has been unmounted and mounted again.
func (d *Disk) Cut() {
	d.t.Helper()
	// What `xfs_io -x -c shutdown` does, which looks at every other mount first and hangs
	// with the one that does.
	f, err := os.Open(d.Point)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ioctlShutdown, shutdownNoFlush); err != nil {
		d.t.Fatalf("shut %s down: %v", d.Point, err)
	}
	d.cut = true
}

// ioctlShutdown is XFS_IOC_GOINGDOWN, which ext4 knows too; shutdownNoFlush leaves the
// journal as it lies on the disk.
const (
	ioctlShutdown   = 0x8004587d
	shutdownNoFlush = 2
)

// Free is what a user may still fill, in bytes.
func (d *Disk) Free() int64 {
	d.t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(d.Point, &s); err != nil {
		d.t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}

func (d *Disk) discard() {
	if d.up {
		if err := d.unmountSoon(); err != nil {
			d.t.Errorf("the test left the disk %s in use: %v", d.Point, err)
			_ = d.unmount(unix.MNT_DETACH)
		}
	}
	if d.device != "" {
		d.release()
	}
}
