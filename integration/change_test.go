package integration

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"stasis/integration/harness"
)

// used is what a file or tree takes on its disk, in bytes.
func used(t *testing.T, path string) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// sourceAt gives n bytes of what harness.Source(number) has from at on.
func sourceAt(t *testing.T, number uint64, at int64, n int) []byte {
	t.Helper()
	r, b := harness.Source(number), make([]byte, n)
	if _, err := io.CopyN(io.Discard, r, at); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// A small change to a large file costs every node little, not the file once more.
func TestSmallChangeOfALargeFile(t *testing.T) {
	const most = 3 << 20
	v := harness.NewVault(t)
	v.Settings("copies = 3\n")
	v.Start()
	paths := map[string]string{"a": filepath.Join(v.Base, "a"), "b": filepath.Join(v.Base, "b"), "c": filepath.Join(v.Base, "c")}
	v.OK("node", "add", v.Point, "a", "directory", paths["a"])
	v.OK("node", "add", v.Point, "b", "directory", paths["b"])
	v.OK("node", "add", v.Point, "c", "container", paths["c"], "--capacity", "4GiB")
	size, number := int64(harness.Count(64<<20, 1<<30)), harness.Seed(t)
	if err := harness.WriteFile(v.Path("large"), number, size, true); err != nil {
		t.Fatal(err)
	}
	v.Wait(5 * time.Minute)
	if got := v.Copies("large"); got != 3 {
		t.Fatalf("%d copies", got)
	}
	before := map[string]int64{}
	for name, path := range paths {
		before[name] = used(t, path)
		if before[name] < size {
			t.Errorf("node %s takes %d bytes for a file of %d", name, before[name], size)
		}
	}
	at := size/2 + 12345
	change := harness.Bytes(number+1, 4096)
	was := sourceAt(t, number, at-1, len(change)+2) // with the neighbours
	f, err := os.OpenFile(v.Path("large"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(change, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	v.Wait(5 * time.Minute)
	if got := v.Copies("large"); got != 3 {
		t.Fatalf("%d copies after the change", got)
	}
	for name, path := range paths {
		grown := used(t, path) - before[name]
		t.Logf("node %s grew by %d bytes", name, grown)
		if grown >= most {
			t.Errorf("node %s grew by %d bytes for a change of 4096, want less than %d", name, grown, most)
		}
	}
	changed := func() {
		t.Helper()
		got := make([]byte, len(change)+2)
		want := append(append(append([]byte{}, was[0]), change...), was[len(was)-1])
		r, err := os.Open(v.Path("large"))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.ReadAt(got, at-1); err != nil || string(got) != string(want) {
			t.Fatalf("the change reads back otherwise (%v)", err)
		}
	}
	changed()
	v.Unmount()
	if err := os.RemoveAll(filepath.Join(v.State, "bodies")); err != nil {
		t.Fatal(err)
	}
	v.Start()
	changed()
	v.OK("check", v.Point, "--read")

	// With the change undone the file is what it was.
	if f, err = os.OpenFile(v.Path("large"), os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(change); i += 1024 { // in pieces, over the edges of blocks
		if _, err := f.WriteAt(was[1+i:1+i+1024], at+int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	harness.HasContent(t, v.Path("large"), number, size)
	v.Wait(5 * time.Minute)
	harness.HasContent(t, v.Path("large"), number, size)
	v.Unmount()
}
