package container

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/store/storetest"
)

// cutDisk is a filesystem on a loop device whose power can be cut.
type cutDisk struct {
	t     *testing.T
	image string
	dir   string
	on    bool
}

func newCutDisk(t *testing.T, mkfs ...string) *cutDisk {
	t.Helper()
	if !storetest.Soak() {
		t.Skip("takes minutes and a loop device; STASIS_SOAK=1 runs it")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	for _, tool := range []string{"xfs_io", mkfs[0]} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	tmp := t.TempDir()
	d := &cutDisk{t: t, image: filepath.Join(tmp, "image"), dir: filepath.Join(tmp, "disk")}
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, 512<<20); err != nil {
		t.Fatal(err)
	}
	d.run(mkfs[0], append(mkfs[1:], d.image)...)
	t.Cleanup(d.unmount)
	d.mount()
	return d
}

func (d *cutDisk) run(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s: %v: %s", name, err, out)
	}
}

func (d *cutDisk) mount() {
	d.t.Helper()
	d.run("mount", "-o", "loop", d.image, d.dir)
	d.on = true
}

// unmount waits until the device is gone: a namespace of another process may hold on to
// the mount for a moment, and would write to the image behind the next one's back.
func (d *cutDisk) unmount() {
	d.t.Helper()
	if !d.on {
		return
	}
	d.on = false
	if err := unix.Unmount(d.dir, 0); err != nil {
		d.t.Fatal(err)
	}
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		out, err := exec.Command("losetup", "-j", d.image).CombinedOutput()
		if err != nil || time.Now().After(deadline) {
			d.t.Fatalf("the loop device stays: %v: %s", err, out)
		}
		if len(out) == 0 {
			return
		}
	}
}

// cut drops all that is not on the medium.
func (d *cutDisk) cut() error {
	out, err := exec.Command("xfs_io", "-x", "-c", "shutdown", d.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("xfs_io: %w: %s", err, out)
	}
	return nil
}

// A real filesystem under the container loses its power at random moments.
func TestPowerCut(t *testing.T) {
	for _, mkfs := range [][]string{{"mkfs.ext4", "-q", "-F"}, {"mkfs.xfs", "-q", "-f"}} {
		t.Run(mkfs[0], func(t *testing.T) {
			d := newCutDisk(t, mkfs...)
			seed := storetest.Seed(t)
			rng := rand.New(rand.NewPCG(seed, 4))
			path := filepath.Join(d.dir, "c")
			if _, err := Create(path, testOwner, 40<<20, Options{}); err != nil {
				t.Fatal(err)
			}
			for round := range 50 {
				seed := seed + uint64(round)*1e6
				lines, longer := 1+rng.IntN(250), time.Duration(rng.IntN(3000))*time.Microsecond
				said, err := runAndStop(path, seed, lines, longer, d.cut)
				if err == nil {
					d.unmount()
					d.mount()
					err = afterwards(path, seed, said)
				}
				if err != nil {
					t.Fatal(fmt.Errorf("round %d: %w", round, err))
				}
			}
		})
	}
}
