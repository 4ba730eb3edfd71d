package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stasis/integration/harness"
)

const (
	// readLimit is how long one operation may take with most nodes away.
	readLimit = 5 * time.Second
	// returnLimit is how long a node that is back may stay unnoticed.
	returnLimit = 30 * time.Second
)

// goSource is a tree of real files: part of the Go library, or all of it.
func goSource(t *testing.T, part string) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(strings.TrimSpace(string(root)), "src")
	if harness.Soak() {
		return src
	}
	return filepath.Join(src, part)
}

func rsync(t *testing.T, from, to string) {
	t.Helper()
	r := harness.Run(t, harness.Command{Args: []string{"rsync", "-a", from + "/", to + "/"}, Limit: 30 * time.Minute})
	if r.Code != 0 {
		t.Fatal(r)
	}
}

// threeNodes are places of all durable kinds on two filesystems, no two on one disk.
type threeNodes struct {
	names []string
	paths []string
}

func newThreeNodes(t *testing.T, v *harness.Vault, disk, third *harness.Disk) threeNodes {
	t.Helper()
	n := threeNodes{
		names: []string{"near", "far", "box"},
		paths: []string{filepath.Join(v.Base, "near"), filepath.Join(disk.Point, "far"), filepath.Join(third.Point, "box")},
	}
	v.Settings("copies = 3\n")
	v.Start()
	v.OK("node", "add", v.Point, "near", "directory", n.paths[0])
	v.OK("node", "add", v.Point, "far", "directory", n.paths[1])
	v.OK("node", "add", v.Point, "box", "container", n.paths[2], "--capacity", "3GiB")
	return n
}

func (n threeNodes) away(t *testing.T, i int) {
	t.Helper()
	if err := os.Rename(n.paths[i], n.paths[i]+".away"); err != nil {
		t.Fatal(err)
	}
}

func (n threeNodes) back(t *testing.T, i int) {
	t.Helper()
	if _, err := os.Lstat(n.paths[i]); err == nil {
		t.Fatalf("something was made at %s while the node was away", n.paths[i])
	}
	if err := os.Rename(n.paths[i]+".away", n.paths[i]); err != nil {
		t.Fatal(err)
	}
}

// Three copies mean that any two of the places may be lost, the bodies and the cache
// with them, and that every byte is still there, in time. Places that come back catch up
// by themselves.
func TestAnyOneOfThreeNodesServesEverything(t *testing.T) {
	disk, third := harness.NewDisk(t, "xfs", 6<<30), harness.NewDisk(t, "ext4", 6<<30)
	v := harness.NewVault(t)
	nodes := newThreeNodes(t, v, disk, third)
	source := harness.Dir(t)
	rsync(t, goSource(t, "encoding"), source)
	big := int64(harness.Count(48<<20, 1<<30))
	if err := harness.WriteFile(filepath.Join(source, "big"), harness.Seed(t), big, false); err != nil {
		t.Fatal(err)
	}
	rsync(t, source, v.Point)
	start := time.Now()
	v.Wait(20 * time.Minute)
	t.Logf("waited %s for 3 copies", time.Since(start).Round(time.Millisecond))
	everyFileHas(t, v, 3)

	v.Unmount()
	for a := range 3 {
		for b := a + 1; b < 3; b++ {
			t.Run(nodes.names[a]+" and "+nodes.names[b]+" away", func(t *testing.T) {
				withTwoAway(t, v.For(t), nodes, a, b, source)
			})
		}
	}
	v.Start()
	if out := v.OK("check", v.Point, "--read"); !strings.Contains(out, "Nothing is lost") {
		t.Errorf("check --read says %s", out)
	}
	harness.SameTrees(t, source, v.Point)
}

func everyFileHas(t *testing.T, v *harness.Vault, copies int) {
	t.Helper()
	err := filepath.Walk(v.Point, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(v.Point, path)
		if got, want := v.Xattr("copies", rel), fmt.Sprint(copies); got != want {
			t.Errorf("%s says it has %q copies, want %s", rel, got, want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func withTwoAway(t *testing.T, v *harness.Vault, nodes threeNodes, a, b int, source string) {
	for _, dir := range []string{"bodies", "cache"} {
		if err := os.RemoveAll(filepath.Join(v.State, dir)); err != nil {
			t.Fatal(err)
		}
	}
	nodes.away(t, a)
	nodes.away(t, b)
	v.Start()
	c := harness.SameTrees(t, source, v.Point)
	t.Logf("%d files, the slowest operation took %s at %s", c.Files, c.Slowest.Round(time.Millisecond), c.SlowestAt)
	if c.Slowest > readLimit {
		t.Errorf("%s took %s, want at most %s", c.SlowestAt, c.Slowest, readLimit)
	}
	text := v.OK("status", v.Point)
	s := v.Status()
	for i, name := range nodes.names {
		want := "online"
		if i == a || i == b {
			want = "missing"
			if !strings.Contains(strings.SplitN(text, "\n", 2)[0], name) {
				t.Errorf("the sentence of the status does not name %s:\n%s", name, text)
			}
		}
		if got := s.Node(t, name).State; got != want {
			t.Errorf("node %s is %s, want %s", name, got, want)
		}
	}
	if r := v.Stasis("status", v.Point, "--exit-code"); r.Code != 3 {
		t.Errorf("with nodes away `status --exit-code` should be 3\n%v", r)
	}
	late := fmt.Sprintf("late-%d-%d", a, b)
	harness.Write(t, "written while two nodes were away\n", v.Point, late)
	if state := v.Xattr("state", late); state != "open" && state != "pending" {
		t.Errorf("a file written now is %q, want pending", state)
	}
	if r := v.Stasis("wait", v.Path(late), "--timeout", "2s"); r.Code != 3 && r.Code != 4 {
		t.Errorf("a wait for copies on nodes that are away should end with 3 or 4\n%v", r)
	}
	nodes.back(t, a)
	nodes.back(t, b)
	v.Wait(returnLimit, late)
	if got := v.Copies(late); got != 3 {
		t.Errorf("the late file has %d copies after the nodes came back", got)
	}
	v.OK("check", v.Point, "--read")
	if err := os.Remove(v.Path(late)); err != nil {
		t.Fatal(err)
	}
	v.Unmount()
}
