package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// fakeVariable makes a test process a filesystem of an ordinary user's, mounted at the path
// that it names, with a vault's type and the source that fakeSource names.
const (
	fakeVariable = "STASIS_TEST_FAKE"
	fakeSource   = "STASIS_TEST_FAKE_SOURCE"
)

// beFake mounts with fusermount3, as anybody may, and answers nothing: nobody is to ask.
func beFake(point string) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	cmd := exec.Command("fusermount3", "-o", "subtype=stasis,fsname="+os.Getenv(fakeSource), "--", point)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(fds[1]), "socket")}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	// The session's descriptor lies in the socket and goes with this process.
	for {
		time.Sleep(time.Hour)
	}
}

// A filesystem of an ordinary user's, made to look like the mount of root's vault, misleads
// nobody: neither whoever asks about it nor whoever asks about the vault.
func TestFakeMountMisleadsNobody(t *testing.T) {
	user, root, _, _ := asNobody(t)
	v := root.Vault
	state := filepath.Join(v.Base, "roots state")
	point := harness.Mkdir(t, v.Base, "roots vault")
	fake := harness.Mkdir(t, v.Base, "fake")
	if err := os.Chown(fake, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	root.ok("stasis-mount --state '%s' '%s' && echo content >'%[2]s/file' && stasis wait '%[2]s'", state, point)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(harness.Dir(t), "fake")
	harness.Must(t, "cp", self, program)
	harness.Background(t, user.space.Enter(harness.Command{Args: []string{program}, Env: []string{fakeVariable + "=" + fake, fakeSource + "=" + state}}))
	harness.Eventually(t, time.Minute, "a mount that looks like a vault's", func() (bool, string) {
		line := root.do("grep ' %s ' /proc/self/mountinfo", fake).Stdout
		return strings.Contains(line, " fuse.stasis ") && strings.Contains(line, "user_id=65534"), line
	})
	words := []string{"user 65534", "umount " + fake}
	for _, command := range []string{"status", "umount", "check", "find --state short", "wait", "why", "node list", "policy get", "pause"} {
		root.refused(1, words, "stasis %s %s", command, fake)
	}
	root.refused(1, words, "cd / && stasis wait %s/file", fake)
	// The vault itself is found where it is.
	for _, name := range []string{point, state} {
		if got := root.ok("stasis status '%s'", name); !strings.Contains(got, point+": All is safe") {
			t.Errorf("the status of %s says %s", name, got)
		}
	}
	if got := root.ok("stasis list"); strings.Contains(got, fake) || !strings.Contains(got, point) {
		t.Errorf("the list says %s", got)
	}
	root.refused(1, []string{"already mounted at " + point}, "mkdir -p '%s/second' && stasis-mount --state '%s' '%[1]s/second'", v.Base, state)
	root.refused(1, []string{"user 65534", "umount " + fake}, "stasis-mount --state '%s' '%s'", state, fake)
	// The user hears no more of root's vault by it.
	user.refused(1, nil, "stasis status %s", fake)
	if got := root.ok("cat '%s/file'", point); got != "content\n" {
		t.Errorf("the vault reads %q", got)
	}
	// With the vault not mounted, the other is still not it.
	root.ok("stasis umount '%s'", state)
	root.refused(1, words, "stasis status %s", fake)
	root.refused(1, words, "stasis umount %s", fake)
	if got := root.ok("stasis status '%s'", state); !strings.Contains(got, "not mounted") {
		t.Errorf("the status of the vault that is not mounted says %s", got)
	}
	root.ok("stasis-mount --state '%s' '%s' && test $(cat '%[2]s/file') = content && stasis umount '%[2]s'", state, point)
	root.ok("umount -l %s", fake)
}

// An ordinary user is not misled by another's, nor asks the daemon of another.
func TestFakeMountOfAUsersVault(t *testing.T) {
	user, root, conf, _ := asNobody(t)
	v := user.Vault
	harness.Write(t, "user_allow_other\n", conf)
	user.ok("stasis-mount --allow-other %[1]s && echo content >%[1]s/file && stasis wait %[1]s", v.Point)
	other := guest{v, t, root.space.As(stranger)}
	for _, command := range []string{"status", "umount", "why"} {
		other.refused(1, []string{"user 65534", "root"}, "stasis %s %s", command, v.Point)
	}
	root.ok("stasis status %s", v.Point)
	root.ok("stasis umount %s", v.Point)
	user.ended()
}

// What a killed daemon left at one place is not what the next serves at another.
func TestDeadMountBesideALiveOne(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	harness.Write(t, "content\n", v.Point, "file")
	v.Wait(time.Minute)
	v.Kill()
	dead := v.Point
	v.Point = harness.Mkdir(t, v.Base, "second")
	v.Start()
	v.Fails(1, []string{"does not serve", "stasis umount " + dead}, "status", dead)
	if got := v.OK("status", v.State); !strings.Contains(got, v.Point+": ") {
		t.Errorf("the status of the state directory says %s", got)
	}
	third := *v
	third.Point = harness.Mkdir(t, v.Base, "third")
	v.Refused(third.TryStart(), 1, "already mounted at "+v.Point)
	v.OK("umount", dead)
	if got := harness.Read(t, v.Point, "file"); got != "content\n" {
		t.Errorf("after the dead mount was taken away the live one reads %q", got)
	}
	if kind, _ := harness.MountedAs(dead); kind != "" {
		t.Errorf("the dead mount is still there: %s", kind)
	}
	v.Unmount()
}
