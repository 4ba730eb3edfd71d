package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stasis/integration/harness"
)

func eventuallyNode(t *testing.T, v *harness.Vault, name, state string) {
	t.Helper()
	harness.Eventually(t, returnLimit, fmt.Sprintf("node %s being %s", name, state), func() (bool, string) {
		got := v.Status().Node(t, name)
		return got.State == state, got.State + " " + got.LastError
	})
}

func eventuallyCopies(t *testing.T, v *harness.Vault, copies int, name string) {
	t.Helper()
	harness.Eventually(t, returnLimit, fmt.Sprintf("%d copies of %s", copies, name), func() (bool, string) {
		return v.Xattr("copies", name) == fmt.Sprint(copies), v.Xattr("copies", name) + " " + v.Xattr("state", name) + " " + v.Xattr("nodes", name)
	})
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// A disk that is not mounted leaves an empty directory. Nothing may be written there,
// and nothing that it held may be taken for deleted; mounted again it catches up.
func TestUnmountedDiskIsMissing(t *testing.T) {
	for _, below := range []string{".", "stasis"} {
		t.Run("node at "+below, func(t *testing.T) {
			disk := harness.NewDisk(t, "xfs", 512<<20)
			v := harness.NewVault(t)
			v.Settings("copies = 2\n")
			v.Start()
			v.OK("node", "add", v.Point, "disk", "directory", filepath.Join(v.Base, "disk"))
			v.OK("node", "add", v.Point, "usb", "directory", filepath.Join(disk.Point, below))
			harness.Write(t, "both\n", v.Point, "both")
			harness.Write(t, "to be removed\n", v.Point, "gone")
			v.Wait(time.Minute)
			v.Unmount()

			disk.Unmount()
			v.Start()
			if got := v.Status().Node(t, "usb"); got.State != "missing" || got.Crates == 0 {
				t.Errorf("the node on the unmounted disk: %+v, want missing, with the crates it has", got)
			}
			late := harness.Write(t, "while it was away\n", v.Point, "late")
			if err := os.Remove(v.Path("gone")); err != nil {
				t.Fatal(err)
			}
			if r := v.Stasis("wait", late, "--timeout", "3s"); r.Code != 3 && r.Code != 4 {
				t.Errorf("a wait for a missing node\n%v", r)
			}
			if got := v.Xattr("state", "late"); got != "pending" {
				t.Errorf("a file written now is %q, want pending", got)
			}
			if text := v.OK("why", late); !strings.Contains(text, "usb") || !strings.Contains(text, "missing") {
				t.Errorf("`why` says %s, want that usb is missing", text)
			}
			if got := harness.Read(t, v.Path("both")); got != "both\n" {
				t.Errorf("reads %q", got)
			}
			v.OK("check", v.Point, "--read")
			if got := names(t, disk.Point); len(got) != 0 {
				t.Fatalf("written to the empty mountpoint: %v", got)
			}

			disk.Mount()
			eventuallyNode(t, v, "usb", "online")
			v.Wait(returnLimit)
			eventuallyCopies(t, v, 2, "late")
			eventuallyCopies(t, v, 2, "both")
			v.OK("check", v.Point, "--read")

			// Pulled out while the vault is mounted, then put back.
			disk.Cut()
			disk.Yank()
			eventuallyNode(t, v, "usb", "missing")
			harness.Write(t, "later\n", v.Point, "later")
			if got := names(t, disk.Point); len(got) != 0 {
				t.Fatalf("written to the empty mountpoint: %v", got)
			}
			disk.Mount()
			eventuallyNode(t, v, "usb", "online")
			eventuallyCopies(t, v, 2, "later")
			v.OK("check", v.Point, "--read")
			v.Unmount()
		})
	}
}

// A copy counts where it is a copy: one store twice is refused however it is named,
// another vault's is refused, and two nodes on one disk are said to be so.
func TestPlacesThatAreNoSecondPlace(t *testing.T) {
	v, other := harness.NewVault(t), harness.NewVault(t)
	v.Settings("copies = 1\n")
	v.Start()
	other.Start()
	harness.Write(t, "ours\n", v.Point, "ours")
	harness.Write(t, "theirs\n", other.Point, "theirs")
	store := filepath.Join(v.Base, "store")
	first := v.Stasis("node", "add", v.Point, "first", "directory", store)
	if first.Code != 0 {
		t.Fatal(first)
	}
	other.OK("node", "add", other.Point, "theirs", "directory", filepath.Join(other.Base, "store"))
	v.Wait(time.Minute)

	copied := filepath.Join(v.Base, "copied")
	harness.Must(t, "cp", "-a", store, copied)
	link := filepath.Join(v.Base, "link")
	if err := os.Symlink(store, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{store, store + "/", store + "/.", link, copied} {
		v.Fails(1, []string{"second"}, "node", "add", v.Point, "second", "directory", path)
	}
	if os.Geteuid() == 0 {
		bound := harness.Mkdir(t, v.Base, "bound")
		harness.Must(t, "mount", "--bind", store, bound)
		v.Fails(1, []string{"second"}, "node", "add", v.Point, "second", "directory", bound)
		harness.Must(t, "umount", bound)
	}
	v.Fails(1, []string{"inner"}, "node", "add", v.Point, "inner", "directory", filepath.Join(store, "inner"))
	v.Fails(1, []string{"another vault"}, "node", "add", v.Point, "second", "directory", filepath.Join(other.Base, "store"))
	v.Fails(1, []string{"first"}, "node", "add", v.Point, "first", "directory", filepath.Join(v.Base, "elsewhere"))
	if _, err := os.Lstat(filepath.Join(v.Base, "elsewhere")); err == nil {
		t.Error("a refused node left its directory")
	}

	r := v.Stasis("node", "add", v.Point, "beside", "directory", filepath.Join(v.Base, "beside"))
	if r.Code != 0 {
		t.Fatal(r)
	}
	if said := r.Stdout + r.Stderr; !strings.Contains(said, "same disk") && !strings.Contains(said, "same device") && !strings.Contains(said, "one disk") {
		t.Errorf("two nodes on one disk are not warned of\n%v", r)
	}
	if got := v.Status().Node(t, "beside").Warning; got == "" {
		t.Error("the status does not warn of two nodes on one disk")
	}
	if got := len(v.Status().Nodes); got != 2 {
		t.Errorf("%d nodes, want first and beside", got)
	}
	v.OK("check", v.Point, "--read")
	other.OK("check", other.Point, "--read")
	v.Unmount()
	other.Unmount()
}

// A node goes only when nothing is lost with it, and says beforehand what it means.
func TestNodeRemove(t *testing.T) {
	v := harness.NewVault(t)
	v.Settings("copies = 2\n")
	v.Start()
	for _, name := range []string{"a", "b"} {
		v.OK("node", "add", v.Point, name, "directory", filepath.Join(v.Base, name))
	}
	harness.Write(t, "two copies\n", v.Point, "two")
	v.Wait(time.Minute)

	if r := v.Stasis("node", "remove", v.Point, "b", "--dry-run"); !strings.Contains(r.Stdout+r.Stderr, "1 file") {
		t.Errorf("a dry run should count the file that falls below its copies\n%v", r)
	}
	v.Fails(1, []string{"1 file", "--force"}, "node", "remove", v.Point, "b")
	v.Fails(1, []string{"nobody"}, "node", "remove", v.Point, "nobody")
	v.OK("node", "remove", v.Point, "b", "--force")
	if got := v.Xattr("nodes", "two"); got != "a" {
		t.Errorf("after b was removed the nodes are %q", got)
	}
	eventuallyCopies(t, v, 1, "two")
	if text := harness.Read(t, v.State, "vault.toml"); strings.Contains(text, `"b"`) {
		t.Errorf("vault.toml still has the node:\n%s", text)
	}
	if len(names(t, filepath.Join(v.Base, "b"))) == 0 {
		t.Error("the crates of a removed node should stay on it")
	}
	v.Fails(1, []string{"only copy"}, "node", "remove", v.Point, "a", "--force")

	// A node that comes back is known, and what it still has counts.
	r := v.Stasis("node", "add", v.Point, "b", "directory", filepath.Join(v.Base, "b"))
	if r.Code != 0 {
		t.Fatal(r)
	}
	eventuallyCopies(t, v, 2, "two")
	// Now a third makes one of them superfluous.
	v.OK("node", "add", v.Point, "c", "container", filepath.Join(v.Base, "c"), "--capacity", "64MiB")
	v.OK("policy", "set", v.Point, "--copies", "3")
	eventuallyCopies(t, v, 3, "two")
	v.OK("policy", "set", v.Point, "--copies", "2")
	v.OK("node", "remove", v.Point, "a")
	if got := v.Copies("two"); got < 2 {
		t.Errorf("%d copies after a node that was not needed was removed", got)
	}
	if got := harness.Read(t, v.Path("two")); got != "two copies\n" {
		t.Errorf("reads %q", got)
	}
	v.OK("check", v.Point, "--read")
	v.Unmount()
	v.Start()
	if got := harness.Read(t, v.Path("two")); got != "two copies\n" {
		t.Errorf("reads %q after a remount", got)
	}
	v.Unmount()
}

// Memory is fast and never counts: with nothing else a file has no place at all.
func TestMemoryNeverCounts(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	v.OK("node", "add", v.Point, "ram", "memory", "--capacity", "64MiB")
	v.OK("policy", "set", v.Point, "--copies", "2")
	harness.Write(t, "content\n", v.Point, "file")
	if r := v.Stasis("wait", v.Path("file")); r.Code != 4 {
		t.Errorf("two copies with one durable node can't be reached\n%v", r)
	}
	eventuallyCopies(t, v, 1, "file")
	if state := v.Xattr("state", "file"); state != "short" {
		t.Errorf("state %q, want short", state)
	}
	if n := v.Status().Node(t, "ram"); n.Durable {
		t.Errorf("a memory node is durable: %+v", n)
	}
	v.OK("wait", v.Path("file"), "--copies", "1")
	v.Unmount()
	v.Start()
	if got := harness.Read(t, v.Path("file")); got != "content\n" {
		t.Errorf("reads %q", got)
	}
	v.OK("check", v.Point, "--read")
	v.Unmount()
}
