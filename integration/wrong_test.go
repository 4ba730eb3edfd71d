package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// A mountpoint that can't be used is refused in a sentence that says what to do, and left
// as it is.
func TestWrongMountpoint(t *testing.T) {
	v := harness.NewVault(t)
	empty := v.Point
	v.Point = filepath.Join(v.Base, "nowhere")
	v.Refused(v.TryStart(), 1, v.Point, "no such directory", "mkdir")

	v.Point = harness.Write(t, "text", v.Base, "file")
	v.Refused(v.TryStart(), 1, v.Point, "not a directory")

	v.Point = harness.Mkdir(t, v.Base, "full")
	harness.Write(t, "mine\n", v.Point, "precious")
	v.Refused(v.TryStart(), 1, v.Point, "not empty", "precious", "empty directory")
	if got := harness.Read(t, v.Point, "precious"); got != "mine\n" {
		t.Errorf("what was in the directory reads %q", got)
	}
	v.Point = empty
	if _, err := os.Stat(v.State); err == nil {
		t.Error("a refused mount left a state directory")
	}

	v.Start()
	r := v.TryStart()
	v.Refused(r, 1, v.Point, "already mounted", fmt.Sprint(v.PID()))
	other := harness.NewVault(t)
	own := other.Point
	other.Point = v.Point
	other.Refused(other.TryStart(), 1, v.Point, "another vault", v.State)
	// Another vault's mount may lie in this one.
	other.Point = harness.Mkdir(t, v.Path("inside"))
	other.Start()
	v.Fails(1, []string{"in use", other.Point}, "umount", v.Point)
	other.Unmount()
	other.Point = own

	// The same vault at a second place.
	v.Point = harness.Mkdir(t, v.Base, "second")
	v.Refused(v.TryStart(), 1, "already mounted", empty)
	v.Point = empty
	v.Unmount()

	if os.Geteuid() == 0 {
		disk := harness.NewDisk(t, "tmpfs", 1<<20)
		v.Point = disk.Point
		v.Refused(v.TryStart(), 1, "something else", "tmpfs")
		v.Point = empty
	}
}

// What a mount is made of can't lie in the mount: it would wait for itself.
func TestNothingOfAVaultInsideItsMount(t *testing.T) {
	v := harness.NewVault(t)
	state := v.State
	v.State = v.Path("state")
	v.Refused(v.TryStart(), 1, "inside", v.Point)
	link := filepath.Join(v.Base, "link")
	if err := os.Symlink(v.Point, link); err != nil {
		t.Fatal(err)
	}
	v.State = filepath.Join(link, "state")
	v.Refused(v.TryStart(), 1, "inside", v.Point)
	v.State = state

	v.Settings("copies = 1\nbodies = %q\n", v.Path("bodies"))
	v.Refused(v.TryStart(), 1, "bodies", "inside", v.Point)
	v.Settings("%s", harness.DirectorySettings(1, v.Path("node")))
	v.Refused(v.TryStart(), 1, "inside", v.Point)
	if got := names(t, v.Point); len(got) != 0 {
		t.Errorf("something was made below the mountpoint: %v", got)
	}

	v.Settings("%s", harness.DirectorySettings(1, filepath.Join(v.Base, "a")))
	v.Start()
	for _, path := range []string{v.Path("node"), filepath.Join(link, "node"), v.Point} {
		v.Fails(1, []string{"inside", v.Point}, "node", "add", v.Point, "inner", "directory", path)
	}
	v.Fails(1, []string{"inside"}, "node", "add", v.Point, "inner", "container", v.Path("box"), "--capacity", "64MiB")
	v.Fails(1, []string{"inside"}, "backup", v.Point, v.Path("backup"))
	if got := names(t, v.Point); len(got) != 0 {
		t.Errorf("something was made in the vault: %v", got)
	}
	v.Unmount()
}

// A slip in vault.toml is shown where it is, with what was probably meant, and the vault
// does not start on a guess.
func TestWrongSettings(t *testing.T) {
	v := harness.NewVault(t)
	node := fmt.Sprintf("[[node]]\nname = \"a\"\nkind = \"directory\"\npath = %q\n", filepath.Join(v.Base, "a"))
	for name, c := range map[string]struct {
		text  string
		words []string
	}{
		"key":            {"copys = 2\n" + node, []string{"vault.toml:1", "copys", `did you mean "copies"?`}},
		"node's key":     {node + "capacty = \"1GiB\"\n", []string{"vault.toml:5", "capacty", `"capacity"`}},
		"kind":           {strings.Replace(node, `"directory"`, `"directry"`, 1), []string{"vault.toml:3", `"directory"`}},
		"number":         {"copies = \"two\"\n" + node, []string{"vault.toml:1", "copies", "number"}},
		"zero":           {"# none\ncopies = 0\n" + node, []string{"vault.toml:2", "copies"}},
		"size":           {node + "capacity = \"many\"\n", []string{"vault.toml:5", "capacity"}},
		"least":          {"least = 2\n" + node, []string{"vault.toml:1", "least", "copies"}},
		"syntax":         {"copies = = 2\n" + node, []string{"vault.toml:1"}},
		"quotes":         {"bodies = bodies\n" + node, []string{"vault.toml:1"}},
		"two names":      {node + node, []string{"vault.toml:5", `"a"`}},
		"no path":        {"[[node]]\nname = \"a\"\nkind = \"directory\"\n", []string{"vault.toml:1", "path"}},
		"no capacity":    {strings.Replace(node, `"directory"`, `"container"`, 1), []string{"vault.toml:1", "capacity"}},
		"single bracket": {strings.Replace(node, "[[node]]", "[node]", 1), []string{"vault.toml:1", "[[node]]"}},
		"binary":         {"copies = 1 # \xff\n", []string{"vault.toml", "UTF-8"}},
	} {
		t.Run(name, func(t *testing.T) {
			v := v.For(t)
			v.Settings("%s", c.text)
			v.Refused(v.TryStart(), 1, c.words...)
			if got := harness.Read(t, v.State, "vault.toml"); got != c.text {
				t.Errorf("the file was changed to %q", got)
			}
		})
	}
	v.Settings("%s", node)
	v.Start()
	v.Unmount()
}

// Slips on the command line are the person's, with exit code 2 and the way out.
func TestWrongCommandLine(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	for _, c := range []struct {
		words []string
		args  []string
	}{
		{[]string{"statsu", "status"}, []string{"statsu"}},
		{[]string{"--jsn"}, []string{"status", "--jsn"}},
		{[]string{"too many"}, []string{"status", v.Point, v.Point}},
		{[]string{"too few"}, []string{"why"}},
		{[]string{"add"}, []string{"node", "ad", v.Point}},
		{nil, []string{"node"}},
		{[]string{"usb"}, []string{"node", "add", v.Point, "usb", "usbstick", "/media/usb"}},
		{[]string{"capacity"}, []string{"node", "add", v.Point, "box", "container", filepath.Join(v.Base, "box")}},
		{[]string{"capacity"}, []string{"node", "add", v.Point, "ram", "memory"}},
		{[]string{"many"}, []string{"node", "add", v.Point, "b", "directory", filepath.Join(v.Base, "b"), "--capacity", "many"}},
		{[]string{"a b"}, []string{"node", "add", v.Point, "a b", "directory", filepath.Join(v.Base, "b")}},
		{[]string{"too little"}, []string{"node", "add", v.Point, "b", "directory", filepath.Join(v.Base, "b"), "--capacity", "1KiB"}},
		{[]string{"bsh"}, []string{"completion", "bsh"}},
		{[]string{"timeout"}, []string{"wait", v.Point, "--timeout", "soon"}},
	} {
		v.Fails(2, c.words, c.args...)
	}
	for _, c := range []struct {
		words []string
		args  []string
	}{
		{[]string{"nothing", "stasis list"}, []string{"status", filepath.Join(v.Base, "nothing")}},
		{[]string{"name", "disk"}, []string{"node", "add", v.Point, "disk", "directory", filepath.Join(v.Base, "b")}},
		{[]string{"parent"}, []string{"node", "add", v.Point, "b", "directory", filepath.Join(v.Base, "no", "parent")}},
	} {
		v.Fails(1, c.words, c.args...)
	}
	full := harness.Mkdir(t, v.Base, "full")
	harness.Write(t, "mine\n", full, "precious")
	v.Fails(1, []string{full}, "node", "add", v.Point, "b", "directory", full)
	v.Fails(1, []string{"precious"}, "node", "add", v.Point, "b", "container", filepath.Join(full, "precious"), "--capacity", "64MiB")
	if got := harness.Read(t, full, "precious"); got != "mine\n" || len(names(t, full)) != 1 {
		t.Errorf("a place with other content was touched: %q, %v", got, names(t, full))
	}
	if got := len(v.Status().Nodes); got != 1 {
		t.Errorf("%d nodes after refused additions", got)
	}
	v.Unmount()
	v.Fails(1, []string{"not mounted"}, "wait", v.State)
	v.Fails(1, []string{v.Base}, "umount", v.Base)

	mount := func(code int, words []string, args ...string) {
		t.Helper()
		v.Refused(harness.Run(t, harness.Command{Args: append([]string{harness.Binary(t, "stasis-mount")}, args...), Env: v.Env}), code, words...)
	}
	mount(2, []string{"MOUNTPOINT"})
	mount(2, []string{"--frobnicate"}, "--frobnicate", v.Point)
	mount(2, []string{"allow_root"}, v.Point, "-o", "allow_root")
	mount(2, []string{"loud"}, "--log-level", "loud", v.Point)
	home := harness.Command{Args: []string{harness.Binary(t, "stasis-mount"), v.Point}, Env: append(v.Env, "HOME=")}
	v.Refused(harness.Run(t, home), 1, "--state")
	notState := harness.Mkdir(t, v.Base, "photos")
	harness.Write(t, "mine\n", notState, "photo")
	v.State = notState
	v.Refused(v.TryStart(), 1, notState, "other content")
}

// The state directory belongs to one daemon at a time.
func TestStateInUse(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	pid := fmt.Sprint(v.PID())
	point := v.Point
	v.Point = harness.Mkdir(t, v.Base, "second")
	v.Refused(v.TryStart(), 1, "already mounted", point)
	v.Point = point
	// Its mount hidden in another namespace, so that only the lock tells.
	if os.Geteuid() == 0 {
		r := harness.Run(t, harness.Command{Env: v.Env, Args: []string{"unshare", "-m", "sh", "-c",
			fmt.Sprintf("umount -l %s && %s --state %s %s", v.Point, harness.Binary(t, "stasis-mount"), v.State, v.Point)}})
		v.Refused(r, 1, "in use", pid)
	}
	backup := harness.Mkdir(t, v.Base, "backup")
	v.OK("backup", v.Point, backup)
	v.Fails(1, []string{"in use", pid}, "restore", v.State, backup)
	harness.Write(t, "still there\n", v.Point, "file")
	v.Unmount()
}

// A copy of a state directory must not use the nodes beside the original: each would
// throw away what the other wrote. A person decides which one goes on.
func TestCopiedStateDirectory(t *testing.T) {
	v := harness.NewVault(t)
	v.Directories(1, filepath.Join(v.Base, "a"))
	v.Start()
	harness.Write(t, "one\n", v.Point, "one")
	v.Wait(time.Minute)
	v.Unmount()
	twin := harness.NewVault(t)
	harness.Must(t, "cp", "-a", v.State, twin.State)

	v.Start()
	harness.Write(t, "two\n", v.Point, "two")
	v.Wait(time.Minute)
	// Beside the running original, and after it.
	r := twin.TryStart()
	twin.Refused(r, 1, `"a"`)
	if twin.Mounted() {
		t.Fatal("the copy is mounted beside the original")
	}
	v.Unmount()
	twin.Refused(twin.TryStart(), 1, `"a"`, "--take-over")
	v.Start()
	for name, want := range map[string]string{"one": "one\n", "two": "two\n"} {
		if got := harness.Read(t, v.Point, name); got != want {
			t.Errorf("%s reads %q", name, got)
		}
	}
	v.OK("check", v.Point, "--read")
	v.Unmount()

	// The person decides for the copy: from then on the original is the one refused.
	twin.Start("--take-over")
	if got := harness.Read(t, twin.Point, "one"); got != "one\n" {
		t.Errorf("reads %q", got)
	}
	harness.Write(t, "three\n", twin.Point, "three")
	twin.Wait(time.Minute)
	twin.OK("check", twin.Point)
	twin.Unmount()
	v.Refused(v.TryStart(), 1, `"a"`, "--take-over")
	twin.Start()
	if got := harness.Read(t, twin.Point, "three"); got != "three\n" {
		t.Errorf("reads %q", got)
	}
	twin.Unmount()
}

// A full state disk makes writes fail, cleanly; what is there can be read, and room makes
// it all work again.
func TestFullStateDisk(t *testing.T) {
	disk := harness.NewDisk(t, "ext4", 160<<20)
	v := harness.NewVaultAt(t, filepath.Join(disk.Point, "state"))
	outside := harness.Dir(t)
	v.Directories(1, filepath.Join(outside, "a"))
	v.Start()
	harness.Write(t, "before\n", v.Point, "before")
	v.Wait(time.Minute)
	filler := filepath.Join(disk.Point, "filler")
	fill(t, filler)
	failed := 0
	for i := range 200 {
		err := os.WriteFile(v.Path(fmt.Sprintf("file-%d", i)), harness.Bytes(uint64(i), 64<<10), 0o644)
		if err == nil {
			continue
		}
		if failed++; !isFull(err) {
			t.Fatalf("write %d on a full disk: %v, want ENOSPC", i, err)
		}
	}
	if failed == 0 {
		t.Error("12 MiB went to a full disk without an error")
	}
	if got := harness.Read(t, v.Path("before")); got != "before\n" {
		t.Errorf("reads %q", got)
	}
	if r := v.Stasis("status", v.Point); r.Code != 0 {
		t.Errorf("the status on a full disk\n%v", r)
	}
	// What was deleted makes no harm, and needs no room that is not there.
	if err := os.Remove(v.Path("before")); err != nil && !isFull(err) {
		t.Errorf("remove on a full disk: %v", err)
	}
	v.Unmount()
	if r := v.TryStart(); r.Code != 0 {
		v.Refused(r, 1, "space")
	} else {
		v.Unmount()
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	v.Start()
	harness.Write(t, "after\n", v.Point, "after")
	v.Wait(time.Minute)
	v.OK("check", v.Point, "--read")
	v.Unmount()
}

func isFull(err error) bool {
	return strings.Contains(err.Error(), unix.ENOSPC.Error())
}

// fill writes a file until its disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if err := f.Sync(); err != nil && !isFull(err) {
		t.Fatal(err)
	}
}
