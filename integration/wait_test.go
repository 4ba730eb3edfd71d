package integration

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// twoNodes mounts a vault with directory nodes a and b and 2 copies.
func twoNodes(t *testing.T) *harness.Vault {
	t.Helper()
	v := harness.NewVault(t)
	v.Directories(2, filepath.Join(v.Base, "a"), filepath.Join(v.Base, "b"))
	v.Start()
	return v
}

// `wait` tells apart what has been reached, what takes longer, and what can't be.
func TestWaitOutcomes(t *testing.T) {
	v := twoNodes(t)
	harness.Write(t, "content\n", harness.Mkdir(t, v.Path("dir of files")), "file")
	v.OK("wait", v.Path("dir of files", "file"))
	if got := v.Copies("dir of files", "file"); got != 2 {
		t.Errorf("after wait there are %d copies", got)
	}
	v.OK("wait", v.Point, v.Path("dir of files"))
	v.OK("wait", v.Path("dir of files", "file"), "--copies", "1")
	r := v.Fails(4, []string{"can't be reached"}, "wait", v.Path("dir of files", "file"), "--copies", "3")
	if r.Took > 5*time.Second {
		t.Errorf("what can't be reached should be said at once\n%v", r)
	}
	v.Fails(1, []string{"no such"}, "wait", v.Path("nothing"))
	v.Fails(2, []string{"--copies"}, "wait", v.Point, "--copies", "0")
	v.Fails(2, nil, "wait")
	outside := harness.Write(t, "", v.Base, "outside")
	v.Fails(1, []string{"outside"}, "wait", outside)

	// With a node away its copy can't be had as things are, and that too is said at once.
	b := filepath.Join(v.Base, "b")
	if err := os.Rename(b, b+".away"); err != nil {
		t.Fatal(err)
	}
	eventuallyNode(t, v, "b", "missing")
	late := harness.Write(t, "late\n", v.Point, "late")
	v.Fails(4, []string{"missing"}, "wait", late, "--timeout", "20s")
	v.OK("wait", late, "--copies", "1")

	// umount --wait says what is still short, and leaves the mount at the timeout.
	r = v.Fails(3, nil, "umount", v.Point, "--wait=1s")
	if !v.Mounted() {
		t.Errorf("unmounted with copies to send\n%v", r)
	}
	if err := os.Rename(b+".away", b); err != nil {
		t.Fatal(err)
	}
	v.OK("umount", v.Point, "--wait=30s")
	v.AwaitEnd()
	v.Start()
	if got := v.Copies("late"); got != 2 {
		t.Errorf("`umount --wait` came back with %d copies", got)
	}
	v.Unmount()
}

// What is open for writing is committed by a wait and waited for as it is then; the
// writer goes on.
func TestWaitCommitsOpenFiles(t *testing.T) {
	v := twoNodes(t)
	f, err := os.Create(v.Path("open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.WriteString(f, "first\n"); err != nil {
		t.Fatal(err)
	}
	if got := v.Xattr("state", "open"); got != "open" {
		t.Errorf("a file that is being written is %q, want open", got)
	}
	if got := v.OK("find", v.Point, "--state", "open"); got != v.Path("open")+"\n" {
		t.Errorf("find --state open says %q", got)
	}
	v.Wait(time.Minute, "open")
	if got := v.Copies("open"); got != 2 {
		t.Errorf("an open file waited for has %d copies", got)
	}
	if _, err := io.WriteString(f, "second\n"); err != nil {
		t.Fatal(err)
	}
	// What was waited for is safe though the writer never closes.
	v.Kill()
	v.Start()
	if got := harness.Read(t, v.Path("open")); !strings.HasPrefix(got, "first\n") {
		t.Errorf("after a kill the file reads %q", got)
	}
	v.Wait(time.Minute)
	v.OK("check", v.Point, "--read")
	v.Unmount()
}

// What a file says of itself in extended attributes is answered and not listed: programs
// that copy attributes must not carry it along.
func TestAttributes(t *testing.T) {
	v := twoNodes(t)
	harness.Write(t, "content\n", v.Point, "file")
	harness.Write(t, "", v.Point, "empty")
	if err := os.Symlink("file", v.Path("link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(v.Path("file"), "user.mine", []byte("kept"), 0); err != nil {
		t.Fatal(err)
	}
	v.Wait(time.Minute)
	for name, want := range map[string]string{"copies": "2", "wanted": "2", "nodes": "a,b", "state": "durable"} {
		if got := v.Xattr(name, "file"); got != want {
			t.Errorf("user.stasis.%s is %q, want %q", name, got, want)
		}
	}
	if copies, state := v.Xattr("copies", "empty"), v.Xattr("state", "empty"); copies != "2" || state != "durable" {
		t.Errorf("an empty file has %q copies and is %q; it has what it wants", copies, state)
	}
	if got := v.Xattr("wanted", ""); got != "2" {
		t.Errorf("the root wants %q copies", got)
	}
	for _, name := range []string{"copies", "state", "nodes"} {
		if got := v.Xattr(name, ""); got != "" {
			t.Errorf("a directory answers user.stasis.%s with %q", name, got)
		}
	}
	buf := make([]byte, 4096)
	n, err := unix.Listxattr(v.Path("file"), buf)
	if err != nil || string(buf[:n]) != "user.mine\x00" {
		t.Errorf("the attributes listed are %q (%v), want user.mine alone", buf[:n], err)
	}
	if err := unix.Setxattr(v.Path("file"), "user.stasis.copies", []byte("9"), 0); err == nil {
		t.Error("user.stasis.copies can be set")
	}
	if err := unix.Removexattr(v.Path("file"), "user.stasis.copies"); err == nil {
		t.Error("user.stasis.copies can be removed")
	}
	to := harness.Mkdir(t, v.Base, "copies of it")
	harness.Must(t, "rsync", "-aX", v.Path("file"), to+"/rsynced")
	harness.Must(t, "cp", "-a", v.Path("file"), to+"/copied")
	for _, name := range []string{"rsynced", "copied"} {
		if n, err := unix.Listxattr(filepath.Join(to, name), buf); err != nil || strings.Contains(string(buf[:n]), "stasis") || !strings.Contains(string(buf[:n]), "user.mine") {
			t.Errorf("%s carried %q (%v)", name, buf[:n], err)
		}
	}
	v.Unmount()
}

// `why` and `find` say where a file is and what it lacks.
func TestWhyAndFind(t *testing.T) {
	v := twoNodes(t)
	harness.Write(t, "content\n", v.Point, "safe")
	v.Wait(time.Minute)
	text := v.OK("why", v.Path("safe"))
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], ".") || !strings.Contains(lines[0], "2") ||
		!strings.Contains(lines[1], "a") || !strings.Contains(lines[1], "verified") || !strings.Contains(lines[2], "b") {
		t.Errorf("`why` says\n%s", text)
	}
	if got := v.OK("why", v.Point); !strings.Contains(got, "2 copies") {
		t.Errorf("`why` of a directory says %s", got)
	}
	v.OK("policy", "set", v.Point, "--copies", "3")
	names := []string{"one", "t w o", "three\nlines"}
	harness.Mkdir(t, v.Path("sub"))
	for _, n := range names {
		harness.Write(t, n, v.Point, "sub", n)
	}
	v.Fails(4, nil, "wait", v.Point)
	var want strings.Builder
	for _, n := range names {
		fmt.Fprintf(&want, "%s\x00", v.Path("sub", n))
	}
	harness.Eventually(t, 20*time.Second, "all of them being short", func() (bool, string) {
		got := v.OK("find", v.Path("sub"), "--state", "short", "-0")
		return len(got) == want.Len() && sameLines(got, want.String()), fmt.Sprintf("%q", got)
	})
	if got := v.OK("find", v.Path("sub"), "--state", "open,unplaced"); got != "" {
		t.Errorf("find of what is not there says %q", got)
	}
	if s := v.Status(); s.Short.Files != 4 || s.Short.Reason == "" || s.State != "degraded" {
		t.Errorf("the status says %+v", s)
	}
	v.Fails(2, []string{"shrt"}, "find", v.Point, "--state", "shrt")
	v.Fails(2, []string{"--state"}, "find", v.Point)
	v.Fails(1, []string{"no such"}, "why", v.Path("nothing"))
	v.Unmount()
}

func sameLines(a, b string) bool {
	seen := map[string]int{}
	for _, l := range strings.Split(a, "\x00") {
		seen[l]++
	}
	for _, l := range strings.Split(b, "\x00") {
		seen[l]--
	}
	for _, n := range seen {
		if n != 0 {
			return false
		}
	}
	return true
}

// A directory's policy holds for what is in it, now and later; the root's is in
// vault.toml.
func TestPolicy(t *testing.T) {
	v := twoNodes(t)
	harness.Mkdir(t, v.Path("scratch", "deep"))
	harness.Write(t, "content\n", v.Point, "scratch", "deep", "file")
	harness.Write(t, "content\n", v.Point, "file")
	v.OK("policy", "set", v.Path("scratch"), "--copies", "1")
	for path, want := range map[string]string{"scratch/deep/file": "1", "scratch/deep": "1", "scratch": "1", "file": "2", "": "2"} {
		if got := v.Xattr("wanted", path); got != want {
			t.Errorf("%q wants %q copies, not %s", path, got, want)
		}
	}
	if got := v.OK("policy", "get", v.Path("scratch", "deep")); !strings.Contains(got, "1") || !strings.Contains(got, "scratch") {
		t.Errorf("policy get says %q, want the number and where it comes from", got)
	}
	if got := v.OK("policy", "get", v.Point); !strings.Contains(got, "2") || !strings.Contains(got, "vault.toml") {
		t.Errorf("policy get says %q, want the number and where it comes from", got)
	}
	harness.Write(t, "later\n", v.Point, "scratch", "later")
	if err := os.Rename(v.Path("scratch", "later"), v.Path("moved")); err != nil {
		t.Fatal(err)
	}
	v.Wait(time.Minute)
	eventuallyCopies(t, v, 2, "file")
	// Copies that are wanted from now on are made unasked, and can be waited for at once.
	v.OK("policy", "set", v.Path("scratch"), "--copies", "2")
	eventuallyCopies(t, v, 2, "scratch/deep/file")
	v.OK("policy", "set", v.Path("scratch"), "--copies", "1")
	harness.Write(t, "one copy\n", v.Point, "scratch", "one")
	v.Wait(time.Minute)
	v.OK("policy", "set", v.Path("scratch"), "--copies", "2")
	v.Wait(time.Minute)
	if got := v.Copies("scratch", "one"); got != 2 {
		t.Errorf("a wait right after the policy was raised ended with %d copies", got)
	}

	v.Fails(1, []string{"least"}, "policy", "set", v.Path("scratch"), "--least", "3")
	v.Fails(2, nil, "policy", "set", v.Path("scratch"), "--copies", "0")
	v.Fails(2, nil, "policy", "set", v.Path("scratch"))
	v.Fails(2, nil, "policy", "set", v.Path("scratch"), "--copies", "many")
	v.Fails(1, []string{"no such"}, "policy", "set", v.Path("nothing"), "--copies", "1")
	v.OK("policy", "set", v.Point, "--copies", "1")
	if got := harness.Read(t, v.State, "vault.toml"); !strings.Contains(got, "copies = 1") {
		t.Errorf("vault.toml after policy set:\n%s", got)
	}
	v.Unmount()
	v.Start()
	if got := v.Xattr("wanted", "scratch/deep/file") + v.Xattr("wanted", "file"); got != "21" {
		t.Errorf("after a remount scratch/deep/file and file want %s", got)
	}
	v.Unmount()
}
