package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Dir makes a directory for a test that goes away with it, and with everything that
// is mounted in it.
func Dir(t testing.TB) string {
	t.Helper()
	if runDir == "" {
		t.Fatal("this package needs a TestMain that calls harness.Main")
	}
	name := strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())
	dir, err := os.MkdirTemp(runDir, name+"-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, m := range mountsBelow(dir) {
			t.Errorf("the test left a mount at %s", m)
			_ = unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
		if len(mountsBelow(dir)) > 0 || os.Getenv("STASIS_KEEP") != "" && t.Failed() {
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("clear up: %v", err)
		}
	})
	return dir
}

// Mkdir makes a directory below another.
func Mkdir(t testing.TB, elements ...string) string {
	t.Helper()
	dir := filepath.Join(elements...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
