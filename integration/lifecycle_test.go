package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// The first minute with stasis: one command makes a vault that works, and says what to do
// next.
func TestFirstRun(t *testing.T) {
	v := harness.NewVault(t)
	home := filepath.Join(v.Base, "home")
	r := harness.Run(t, harness.Command{Args: []string{harness.Binary(t, "stasis-mount"), v.Point}, Env: v.Env})
	if r.Code != 0 {
		t.Fatal(r)
	}
	want := fmt.Sprintf("%s is ready. 1 copy, on this disk only. Add a second place:\n  stasis node add %s usb directory /media/usb/stasis\n", v.Point, v.Point)
	if r.Stdout != want {
		t.Errorf("the first run says %q, want %q", r.Stdout, want)
	}
	// The state directory is named for the mountpoint, below the data home.
	states := names(t, filepath.Join(home, ".local/share/stasis"))
	if len(states) != 1 {
		t.Fatalf("state directories: %v", states)
	}
	v.State = filepath.Join(home, ".local/share/stasis", states[0])
	if info, err := os.Stat(filepath.Join(v.State, "key")); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the key: %v %v", info, err)
	}
	if info, err := os.Stat(filepath.Join(v.State, "control.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the control socket: %v %v", info, err)
	}
	harness.Write(t, "hello\n", v.Point, "hello")
	v.OK("wait", v.Path("hello"))
	if got := v.OK("status", v.Point); !strings.Contains(got, "All is safe: 1 file") {
		t.Errorf("the status says %s", got)
	}
	if kind, source := harness.MountedAs(v.Point); kind != "fuse.stasis" || source != v.State {
		t.Errorf("mounted as %s %s, want the type fuse.stasis and the state directory as source", kind, source)
	}
	// Where VAULT is left out it is the mount of the working directory.
	if r := v.StasisIn(harness.Command{Dir: v.Point}, "status"); r.Code != 0 || !strings.Contains(r.Stdout, v.Point) {
		t.Errorf("in the mount\n%v", r)
	}
	v.OK("umount", v.Point)
	v.AwaitEnd()
	// Not mounted, by its state directory and by its mountpoint.
	for _, name := range []string{v.State, v.Point} {
		if got := v.OK("status", name); !strings.Contains(got, "not mounted") || !strings.Contains(got, "1 file") {
			t.Errorf("the status of %s, which is not mounted, says %s", name, got)
		}
	}
	// The second run needs no more than the first.
	r = harness.Run(t, harness.Command{Args: []string{harness.Binary(t, "stasis-mount"), v.Point}, Env: v.Env})
	if r.Code != 0 || harness.Read(t, v.Point, "hello") != "hello\n" {
		t.Fatal(r)
	}
	v.Unmount()
}

// However a vault is unmounted, nothing is lost and the daemon ends.
func TestWaysToUnmount(t *testing.T) {
	v := harness.NewVault(t)
	ways := map[string]func(t *testing.T, v *harness.Vault){
		"stasis umount":        func(t *testing.T, v *harness.Vault) { v.OK("umount", v.Point) },
		"stasis umount --wait": func(t *testing.T, v *harness.Vault) { v.OK("umount", v.Point, "--wait") },
		"by state directory":   func(t *testing.T, v *harness.Vault) { v.OK("umount", v.State) },
		"umount":               func(t *testing.T, v *harness.Vault) { harness.Must(t, "umount", v.Point) },
		"umount -l":            func(t *testing.T, v *harness.Vault) { harness.Must(t, "umount", "-l", v.Point) },
		"fusermount3 -u":       func(t *testing.T, v *harness.Vault) { harness.Must(t, "fusermount3", "-u", v.Point) },
		"SIGTERM":              func(t *testing.T, v *harness.Vault) { signal(t, v, unix.SIGTERM) },
		"SIGINT":               func(t *testing.T, v *harness.Vault) { signal(t, v, unix.SIGINT) },
	}
	for name, end := range ways {
		t.Run(name, func(t *testing.T) {
			v := v.For(t)
			v.Start()
			harness.Write(t, name, v.Point, "file")
			end(t, v)
			v.AwaitEnd()
			v.Start()
			if got := harness.Read(t, v.Point, "file"); got != name {
				t.Errorf("after %s the file reads %q", name, got)
			}
			v.Unmount()
		})
	}
}

func signal(t *testing.T, v *harness.Vault, s syscall.Signal) {
	t.Helper()
	if err := unix.Kill(v.PID(), s); err != nil {
		t.Fatal(err)
	}
}

// A mount in use is not taken away, and whoever uses it is named.
func TestBusyMount(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	file, inner := v.Path("a file"), v.Path("inner")
	harness.Write(t, "content\n", file)
	harness.Mkdir(t, inner)
	self := fmt.Sprintf("(pid %d)", os.Getpid())
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := func(words ...string) {
		t.Helper()
		v.Fails(1, append(words, "in use"), "umount", v.Point)
		if got := harness.Read(t, file); got != "content\n" {
			t.Errorf("after an unmount that was refused the file reads %q", got)
		}
	}
	sleeper := exec.Command("sleep", "60")
	sleeper.Dir = v.Point
	must(sleeper.Start())
	t.Cleanup(func() { _ = sleeper.Process.Kill() }) // it may have ended
	f, err := os.Open(file)
	must(err)
	refused(fmt.Sprintf("sleep (pid %d) works in %s", sleeper.Process.Pid, v.Point), self+" has open "+file)
	must(sleeper.Process.Kill())
	_ = sleeper.Wait() // it was killed

	mapped, err := unix.Mmap(int(f.Fd()), 0, 8, unix.PROT_READ, unix.MAP_SHARED)
	must(errors.Join(err, f.Close()))
	words, release := []string{self + " has mapped " + file}, func() {}
	if os.Geteuid() == 0 { // only root mounts and makes devices
		harness.Must(t, "mount", "-t", "tmpfs", "tmpfs", inner)
		device := strings.TrimSpace(harness.Must(t, "losetup", "--find", "--show", file))
		words = append(words, "tmpfs is mounted at "+inner, device+" is made of "+file)
		release = func() {
			harness.Must(t, "losetup", "-d", device)
			harness.Must(t, "umount", inner)
		}
	}
	refused(words...)
	release()
	must(unix.Munmap(mapped))

	// From inside it, the shell itself is what has to go.
	script := harness.Binary(t, "stasis") + " umount " + v.Point + "; exit $?" // not by exec
	v.Refused(harness.Run(t, harness.Command{Args: []string{"sh", "-c", script}, Dir: v.Point, Env: v.Env}), 1, "sh (pid", "`cd` out of it")
	v.Unmount()
}

// A mountpoint that a killed daemon left is cleared at the next start, and no command
// hangs on it before.
func TestStaleMountpoint(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	harness.Write(t, "content\n", v.Point, "file")
	v.Kill()
	if !v.Mounted() {
		t.Fatal("the mount went with the daemon")
	}
	if _, err := os.Stat(v.Path("file")); err == nil {
		t.Fatal("a dead mount answers")
	}
	for _, args := range [][]string{{"status", v.Point}, {"list"}, {"check", v.Point}, {"wait", v.Path("file"), "--timeout", "1s"}, {"why", v.Path("file")}} {
		if r := v.Stasis(args...); r.Took > 5*time.Second {
			t.Errorf("hangs on a dead mount\n%v", r)
		}
	}
	if got := v.OK("status", v.Point); !strings.Contains(got, "ended") || !strings.Contains(got, "stasis-mount") {
		t.Errorf("the status of a vault whose daemon was killed says %s", got)
	}
	v.Start()
	if got := harness.Read(t, v.Point, "file"); got != "content\n" {
		t.Errorf("reads %q", got)
	}
	v.Kill()
	v.OK("umount", v.Point)
	if v.Mounted() {
		t.Error("`stasis umount` left the dead mount")
	}
	v.Start()
	v.OK("check", v.Point, "--read")
	v.Unmount()
}

// In the foreground the daemon stays, and goes when it is told to.
func TestForeground(t *testing.T) {
	v := harness.NewVault(t)
	cmd := exec.Command(harness.Binary(t, "stasis-mount"), "--foreground", "--state", v.State, v.Point)
	cmd.Env = append(os.Environ(), v.Env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 20*time.Second, "the mount", func() (bool, string) { return v.Mounted(), "nothing is mounted" })
	harness.Write(t, "content\n", v.Point, "file")
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	v.AwaitEnd()
}

// A vault that is mounted for reading only gives everything and takes nothing.
func TestReadOnly(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	harness.Write(t, "content\n", v.Point, "file")
	v.Wait(time.Minute)
	v.Unmount()
	v.Start("--read-only")
	if got := harness.Read(t, v.Point, "file"); got != "content\n" {
		t.Errorf("reads %q", got)
	}
	if err := os.WriteFile(v.Path("new"), nil, 0o644); err == nil {
		t.Error("a vault for reading only takes a new file")
	}
	if err := os.Remove(v.Path("file")); err == nil {
		t.Error("a vault for reading only lets a file be removed")
	}
	v.Fails(1, []string{"reading only"}, "policy", "set", v.Point, "--copies", "2")
	v.OK("check", v.Point, "--read")
	v.Unmount()
}

// mount(8) and fstab call stasis-mount by their own conventions.
func TestMountCommand(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	v.Unmount()
	v.Start("-o", "ro,noatime,nosuid,nodev,x-gvfs-hide,_netdev")
	line := ""
	for _, l := range strings.Split(harness.Read(t, "/proc/self/mounts"), "\n") {
		if strings.Contains(l, " "+v.Point+" ") {
			line = l
		}
	}
	for _, option := range []string{"ro", "noatime", "nosuid", "nodev"} {
		if f := strings.Fields(line); len(f) < 4 || !strings.Contains(","+f[3]+",", ","+option+",") {
			t.Errorf("mounted as %q, want %s", line, option)
		}
	}
	v.Unmount()
	r := v.TryStart("-o", "rw,frobnicate=3")
	v.Refused(r, 2, "frobnicate")
}

// Every vault of a user is listed, mounted or not.
func TestList(t *testing.T) {
	v := harness.NewVault(t)
	if got := v.OK("list"); strings.Contains(got, v.Point) {
		t.Errorf("no vault yet: %s", got)
	}
	v.Start()
	var listed struct {
		Schema int
		Vaults []struct {
			State      string `json:"state_directory"`
			Mountpoint string
			Mounted    bool
		}
	}
	v.JSON(&listed, "list", "--json")
	found := false
	for _, l := range listed.Vaults {
		found = found || l.State == v.State && l.Mountpoint == v.Point && l.Mounted
	}
	if listed.Schema != 1 || !found {
		t.Errorf("the list lacks the vault: %+v", listed)
	}
	if got := v.OK("list"); !strings.Contains(got, v.Point) {
		t.Errorf("the list lacks the vault: %s", got)
	}
	v.Unmount()
}

// The figures scripts read are there under the names they were promised.
func TestStatusJSON(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	var raw map[string]any
	if err := json.Unmarshal([]byte(v.OK("status", v.Point, "--json")), &raw); err != nil {
		t.Fatal(err)
	}
	has := func(where string, m any, keys ...string) map[string]any {
		object, _ := m.(map[string]any)
		for _, k := range keys {
			if _, ok := object[k]; !ok {
				t.Errorf("%s lacks %q: %v", where, k, m)
			}
		}
		return object
	}
	has("status", raw, "schema", "state", "files", "bytes", "pending", "short", "unplaced", "nodes")
	has("pending", raw["pending"], "crates", "bytes", "oldest_seconds")
	has("short", raw["short"], "files", "reason")
	has("unplaced", raw["unplaced"], "files", "bytes")
	nodes, _ := raw["nodes"].([]any)
	if len(nodes) != 1 {
		t.Fatalf("nodes: %v", nodes)
	}
	has("node", nodes[0], "name", "id", "kind", "state", "durable", "crates", "bytes", "free", "reserved", "pending_crates", "pending_bytes", "last_error")
	var list struct {
		Schema int
		Nodes  []harness.Node
	}
	v.JSON(&list, "node", "list", v.Point, "--json")
	if list.Schema != 1 || len(list.Nodes) != 1 || list.Nodes[0].Name != "disk" {
		t.Errorf("node list --json: %+v", list)
	}
	if got := v.OK("node", "list", v.Point); !strings.Contains(got, "disk") {
		t.Errorf("node list says %s", got)
	}
	v.Unmount()
}

// vault.toml is read again on SIGHUP; what can't be understood changes nothing.
func TestReload(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	file := filepath.Join(v.State, "vault.toml")
	text := harness.Read(t, file)
	second := filepath.Join(v.Base, "second")
	harness.Write(t, strings.Replace(text, "copies = 1", "copies = 2", 1), file)
	signal(t, v, unix.SIGHUP)
	wanted := func(want string) {
		t.Helper()
		harness.Eventually(t, 10*time.Second, want+" copies being wanted", func() (bool, string) { return v.Xattr("wanted", "") == want, v.Xattr("wanted", "") })
	}
	wanted("2")
	harness.Write(t, "copies = 3\ncopys = 2\n", file)
	signal(t, v, unix.SIGHUP)
	harness.Eventually(t, 10*time.Second, "the log naming the line of vault.toml that is wrong", func() (bool, string) {
		return strings.Contains(v.Log(), "vault.toml:2"), v.Log()
	})
	wanted("2")
	harness.Write(t, strings.Replace(text, "copies = 1", "copies = 2 # kept", 1), file)
	signal(t, v, unix.SIGHUP)
	v.OK("node", "add", v.Point, "second", "directory", second, "--zone", "home", "--capacity", "1GiB")
	after := harness.Read(t, file)
	if !strings.Contains(after, "# kept") || !strings.Contains(after, second) || !strings.Contains(after, "home") {
		t.Errorf("an edit by command lost something:\n%s", after)
	}
	harness.Write(t, "content\n", v.Point, "file")
	eventuallyCopies(t, v, 2, "file")
	v.Unmount()
}
