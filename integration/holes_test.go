package integration

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// Programs that make room and holes get in a vault what they get elsewhere, in a new file and
// in one that lies on the nodes, and the holes stay holes when it does.
func TestProgramsThatMakeHoles(t *testing.T) {
	v := twoNodes(t)
	elsewhere := t.TempDir()
	content := harness.Bytes(harness.Seed(t), 12<<20)
	clear(content[2<<20 : 6<<20])
	for _, dir := range []string{v.Point, elsewhere} {
		harness.Write(t, string(content), dir, "a")
		harness.Write(t, string(content), dir, "new")
	}
	v.Wait(time.Minute)
	for _, args := range [][]string{
		{"fallocate", "--dig-holes", "a"},
		{"fallocate", "--punch-hole", "--offset", "7MiB", "--length", "2500000", "a"},
		{"fallocate", "--zero-range", "--offset", "5000", "--length", "100000", "new"},
		{"fallocate", "--zero-range", "--keep-size", "--offset", "11MiB", "--length", "3MiB", "new"},
		{"fallocate", "--punch-hole", "--offset", "6MiB", "--length", "1GiB", "new"},
		{"fallocate", "--posix", "--length", "20MiB", "new"},
		{"cp", "--sparse=always", "a", "sparse"},
		{"cp", "--sparse=auto", "new", "copied"},
		{"fallocate", "--length", "3MiB", "fresh"},
	} {
		in(t, v.Point, args...)
		in(t, elsewhere, args...)
	}
	names := []string{"a", "new", "sparse", "copied", "fresh"}
	same := func() {
		t.Helper()
		for _, name := range names {
			harness.Must(t, "cmp", v.Path(name), filepath.Join(elsewhere, name))
		}
	}
	same()
	v.Kill()
	v.Start()
	same()
	v.Wait(time.Minute)
	v.Unmount()
	if err := os.RemoveAll(filepath.Join(v.State, "bodies")); err != nil {
		t.Fatal(err)
	}
	v.Start()
	same()
	// In whole blocks of 1 MiB: of a 0, 1, 6 and 9 to 11; of new 0 to 5, where zeros were written.
	for name, most := range map[string]int64{"a": 6, "sparse": 6, "new": 6, "copied": 6, "fresh": 0} {
		var st unix.Stat_t
		if err := unix.Stat(v.Path(name), &st); err != nil || st.Blocks*512 > most<<20 {
			t.Errorf("%s takes %d bytes, %v", name, st.Blocks*512, err)
		}
	}
	v.OK("check", v.Point, "--read")
	v.Unmount()
}
