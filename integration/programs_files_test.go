package integration

import (
	"archive/zip"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"stasis/integration/harness"
)

// Holes stay holes: cp keeps them, makes them, and finds them in what comes from the
// nodes.
func TestSparseCopies(t *testing.T) {
	v := twoNodes(t)
	const size = 24 << 20
	content := harness.Bytes(harness.Seed(t), 100_000)
	at := []int64{0, 10<<20 + 4096, 17<<20 + 17, size - 100_000}
	path := v.Path("holes")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range at {
		if _, err := f.WriteAt(content, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	in(t, v.Point, "sh", "-c", `cp --sparse=always holes always && cp holes auto && cp --sparse=never holes never && cp --sparse=always never again`)
	same := func() {
		t.Helper()
		for _, name := range []string{"always", "auto", "never", "again"} {
			in(t, v.Point, "cmp", "holes", name)
			var st syscall.Stat_t
			if err := syscall.Stat(v.Path(name), &st); err != nil {
				t.Fatal(err)
			}
			// Each piece touches a block at either end that it does not fill.
			if held := st.Blocks * 512; name != "never" && held > int64(len(at))*(100_000+2<<20) || name == "never" && held < size {
				t.Errorf("%s takes %d bytes", name, held)
			}
		}
		out := filepath.Join(harness.Dir(t), "out")
		in(t, v.Point, "cp", "--sparse=auto", "holes", out)
		in(t, v.Point, "cmp", "holes", out)
	}
	same()
	onlyNodes(t, v)
	same()
	checked(t, v)
}

// unzip unpacks a tree, and find takes it away again, while it is listed.
func TestUnzipAndFind(t *testing.T) {
	v := twoNodes(t)
	source := filepath.Join(goRoot(t), "src", "encoding")
	archive := zipped(t, source)
	in(t, v.Point, "unzip", "-q", archive, "-d", "unpacked")
	harness.SameTrees(t, source, v.Path("unpacked"))
	in(t, v.Point, "unzip", "-q", "-o", archive, "-d", "unpacked") // over what is there
	harness.SameTrees(t, source, v.Path("unpacked"))
	in(t, v.Point, "cp", "-a", "unpacked", "twin")
	onlyNodes(t, v)
	harness.SameTrees(t, source, v.Path("twin"))
	in(t, v.Point, "find", "unpacked", "-name", "*.go", "-delete")
	if left := in(t, v.Point, "find", "unpacked", "-name", "*.go"); left != "" {
		t.Errorf("find left\n%s", left)
	}
	in(t, v.Point, "find", "unpacked", "-delete")
	if got := names(t, v.Point); strings.Join(got, " ") != "twin" {
		t.Errorf("there are %q", got)
	}
	harness.SameTrees(t, source, v.Path("twin"))
	checked(t, v)
}

// zipped is a tree in an archive, on the disk outside.
func zipped(t *testing.T, tree string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	if err := errors.Join(w.AddFS(os.DirFS(tree)), w.Close()); err != nil {
		t.Fatal(err)
	}
	return harness.Write(t, b.String(), harness.Dir(t), "tree.zip")
}
