package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

// A comparison that overlooks a difference would make every test above it worthless.
func TestCompareTreesFindsEveryDifference(t *testing.T) {
	when := time.Unix(1_700_000_000, 0)
	fill := func() string {
		dir := Dir(t)
		Mkdir(t, dir, "d")
		for _, name := range []string{"d/a", "d/b"} {
			Write(t, strings.Repeat("x", 3<<20), dir, name)
			if err := os.Chtimes(filepath.Join(dir, name), when, when); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("a", filepath.Join(dir, "d/link")); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	want := fill()
	if c := SameTrees(t, want, fill()); c.Files != 2 {
		t.Fatalf("%d files compared, want 2", c.Files)
	}
	for name, change := range map[string]func(dir string) error{
		"content": func(dir string) error {
			f, err := os.OpenFile(filepath.Join(dir, "d/a"), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte("y"), 2<<20); err != nil {
				return err
			}
			return os.Chtimes(f.Name(), when, when)
		},
		"missing": func(dir string) error { return os.Remove(filepath.Join(dir, "d/b")) },
		"more":    func(dir string) error { return os.WriteFile(filepath.Join(dir, "more"), nil, 0o644) },
		"mode":    func(dir string) error { return os.Chmod(filepath.Join(dir, "d/b"), 0o600) },
		"time":    func(dir string) error { return os.Chtimes(filepath.Join(dir, "d/b"), when, when.Add(1)) },
		"link": func(dir string) error {
			if err := os.Remove(filepath.Join(dir, "d/link")); err != nil {
				return err
			}
			return os.Symlink("b", filepath.Join(dir, "d/link"))
		},
	} {
		got := fill()
		if err := change(got); err != nil {
			t.Fatal(err)
		}
		if c, err := CompareTrees(want, got); err != nil || len(c.Differences) != 1 {
			t.Errorf("%s: %v, %d differences, want 1", name, err, len(c.Differences))
		}
	}
}

// A disk comes back with what was on it, and a cut takes what was not synced.
func TestDisk(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		d := NewDisk(t, kind, 320<<20)
		if err := WriteFile(filepath.Join(d.Point, "synced"), 1, 1<<20, true); err != nil {
			t.Fatal(err)
		}
		d.Unmount()
		if _, err := os.Stat(filepath.Join(d.Point, "synced")); err == nil {
			t.Fatal("still mounted")
		}
		d.Mount()
		if err := WriteFile(filepath.Join(d.Point, "not synced"), 1, 1<<20, false); err != nil {
			t.Fatal(err)
		}
		d.Cut()
		d.Unmount()
		d.Mount()
		HasContent(t, filepath.Join(d.Point, "synced"), 1, 1<<20)
		// And with the mount held elsewhere, where nobody sees it.
		letGo := elsewhere(t)
		d.Cut()
		d.Unmount()
		d.Mount()
		HasContent(t, filepath.Join(d.Point, "synced"), 1, 1<<20)
		letGo()
		if info, err := os.Stat(filepath.Join(d.Point, "not synced")); err == nil && info.Size() > 0 {
			t.Errorf("%s: the cut took nothing", kind)
		}
	}
	if free := NewDisk(t, "tmpfs", 16<<20).Free(); free < 12<<20 || free > 16<<20 {
		t.Errorf("a tmpfs of 16 MiB has %d bytes free", free)
	}
}

// elsewhere starts a process with a mount namespace of its own, a copy of this one.
func elsewhere(t *testing.T) (end func()) {
	t.Helper()
	cmd := exec.Command("unshare", "-m", "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}
	t.Cleanup(end)
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	Eventually(t, 10*time.Second, "a mount namespace", func() (bool, string) {
		other, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid))
		return err == nil && other != own, other
	})
	return end
}
