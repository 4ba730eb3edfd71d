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

// nobody is the id of an ordinary user that every system has.
const nobody = 65534

// guest is a vault in the hands of somebody in a space.
type guest struct {
	*harness.Vault
	t     *testing.T
	space *harness.Space
}

// do runs a command line in the space, with the programs in PATH.
func (g guest) do(format string, args ...any) harness.Result {
	g.t.Helper()
	path := "PATH=" + filepath.Dir(harness.Binary(g.t, "stasis")) + ":" + os.Getenv("PATH")
	return harness.Run(g.t, g.space.Enter(harness.Command{Args: []string{"sh", "-c", fmt.Sprintf(format, args...)}, Env: append([]string{path}, g.Env...)}))
}

// ok is do that has to succeed; it gives what was printed.
func (g guest) ok(format string, args ...any) string {
	g.t.Helper()
	r := g.do(format, args...)
	if r.Code != 0 {
		g.t.Fatal(r)
	}
	return r.Stdout
}

// refused is do that has to fail with the code and a sentence that has the words.
func (g guest) refused(code int, words []string, format string, args ...any) {
	g.t.Helper()
	g.Refused(g.do(format, args...), code, words...)
}

// ended waits until no daemon serves the mountpoint.
func (g guest) ended() {
	g.t.Helper()
	harness.Eventually(g.t, 30*time.Second, "the end of the daemon", func() (bool, string) { return g.PID() == 0, "it runs" })
}

// firstSteps does what the README says first, at the vault's mountpoint, with the second
// place below a directory.
func (g guest) firstSteps(media string) {
	g.t.Helper()
	all := blocks(g.t, "Two commands")
	if len(all) != 2 {
		g.t.Fatalf("the section has %d blocks of commands, want one for the first vault and one for the second place", len(all))
	}
	if got := g.ok("stasis-mount %s", g.Point); !strings.Contains(got, " is ready. 1 copy, on this disk only.") {
		g.t.Errorf("the first mount says %s", got)
	}
	status := ""
	for _, command := range all[1] {
		command = strings.NewReplacer("bin/", "", "~/vault", g.Point, "/media/usb", media).Replace(command)
		// It is the only vault of its person, but not of this machine.
		status = g.ok("cd %s && %s", g.Point, command)
	}
	if !strings.Contains(status, "All is safe") || !strings.Contains(status, "usb") {
		g.t.Errorf("after the first steps the status says %s", status)
	}
	g.ok("echo content >%[1]s/file && stasis wait %[1]s/file && stasis why %[1]s/file", g.Point)
	if got := g.ok("getfattr --only-values -n user.stasis.copies %s/file", g.Point); got != "2" {
		g.t.Errorf("%q copies", got)
	}
}

// Whoever is not root mounts in a user namespace of their own, and gets there what they
// would get on any other filesystem.
func TestMountInUserNamespace(t *testing.T) {
	v := harness.NewVault(t)
	other := harness.Mkdir(t, v.Base, "other")
	g := guest{v, t, harness.NewUserSpace(t, "mount -t tmpfs tmpfs "+other)}
	g.firstSteps(harness.Mkdir(t, v.Base, "media"))
	sameForUser(t, g.space, v.Point, other, map[string]string{
		"character device": "EPERM", "block device": "EPERM", "fifo": "done", "socket": "done",
		"set trusted": "EPERM", "get trusted": "ENODATA", "remove trusted": "EPERM",
		"give to a stranger": "EINVAL", "give to a strange group": "EINVAL", "give to itself": "done",
		"set-user-id": "mode 104755",
	})
	g.ok("stasis check %[1]s --read && stasis umount %[1]s", v.Point)
	g.ended()
	// Device nodes and set-user-id bits count for nothing there, whatever is asked for.
	g.ok("stasis-mount -o dev,suid %[1]s && test $(cat %[1]s/file) = content && umount %[1]s", v.Point)
	g.ended()
}

// asNobody makes a space with a /dev/fuse for everybody, a home for an ordinary user, and
// an empty /etc/fuse.conf and /etc/fstab that root may write to.
func asNobody(t *testing.T) (user, root guest, conf, fstab string) {
	t.Helper()
	harness.NeedRoot(t)
	v := harness.NewVault(t)
	dev := harness.Mkdir(t, v.Base, "dev")
	conf, fstab = filepath.Join(v.Base, "fuse.conf"), filepath.Join(v.Base, "fstab")
	harness.Write(t, "", conf)
	harness.Write(t, "", fstab)
	for _, path := range []string{v.Point, filepath.Join(v.Base, "home")} {
		if err := os.Chown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	space := harness.NewSpace(t, fmt.Sprintf(`
		mount -t tmpfs -o mode=755 tmpfs %[1]s
		mknod -m 666 %[1]s/fuse c 10 229
		mount --bind %[1]s/fuse /dev/fuse
		cp -a /etc %[1]s/etc # either file may not be there yet
		touch %[1]s/etc/fuse.conf %[1]s/etc/fstab
		mount --bind %[1]s/etc /etc
		mount --bind %[2]s /etc/fuse.conf
		mount --bind %[3]s /etc/fstab
		mount -t tmpfs tmpfs /usr/local/bin
		ln -s %[4]s/* /usr/local/bin`, dev, conf, fstab, filepath.Dir(harness.Binary(t, "stasis"))))
	return guest{v, t, space.As(nobody)}, guest{v, t, space}, conf, fstab
}

// An ordinary user mounts through fusermount3, and only what is theirs.
func TestMountAsOrdinaryUser(t *testing.T) {
	user, root, conf, _ := asNobody(t)
	v := user.Vault
	other := harness.Mkdir(t, v.Base, "other")
	if err := os.Chown(other, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	root.ok("mount -t tmpfs -o uid=%d tmpfs %s", nobody, other)

	// What can't be is said, with what to do, and leaves nothing behind.
	user.refused(1, []string{"user_allow_other", "/etc/fuse.conf", "--allow-other"}, "stasis-mount --allow-other %s", v.Point)
	user.refused(1, []string{"not yours", harness.Mkdir(t, v.Base, "roots")}, "stasis-mount %s/roots", v.Base)
	if left := names(t, filepath.Join(v.Base, "home")); len(left) > 0 {
		t.Errorf("mounts that were refused left %v", left)
	}
	if got := user.ok("stasis-mount %s", v.Point); !strings.Contains(got, " is ready. 1 copy, on this disk only.") {
		t.Errorf("the first mount says %s", got)
	}
	user.ok("echo content >%[1]s/file && stasis wait %[1]s/file", v.Point)
	if line := root.ok("grep ' %s fuse' /proc/self/mounts", v.Point); !strings.Contains(line, "rw,nosuid,nodev,") || !strings.Contains(line, ",default_permissions") {
		t.Errorf("mounted as %s", line)
	}
	sameForUser(t, user.space, v.Point, other, map[string]string{
		"character device": "EPERM", "block device": "EPERM", "fifo": "done", "socket": "done", "whiteout": "done",
		"set trusted": "EPERM", "get trusted": "ENODATA", "remove trusted": "EPERM", "set user": "done",
		"give to a stranger": "EPERM", "give to a strange group": "EPERM", "give to itself": "done",
		"set-user-id": "mode 104755", "set-user-id after a write": "mode 100755", "set-user-id after a truncate": "mode 100755",
		"write to what is not writable": "EACCES", "read the unreadable": "EACCES",
	})
	// Without allow_other it is nobody else's, root included.
	if r := root.do("ls %s", v.Point); r.Code == 0 {
		t.Errorf("root looks into a mount of another user\n%v", r)
	}
	root.ok("stasis status %s", v.Point)
	user.ok("fusermount3 -u %s", v.Point)
	user.ended()

	if got := user.ok("stasis-mount -o dev,suid %s", v.Point); !strings.Contains(got, "without dev and suid") {
		t.Errorf("options that count for nothing: %s", got)
	}
	user.ok("umount %s", v.Point)
	user.ended()
	harness.Write(t, "user_allow_other\n", conf)
	user.ok("stasis-mount --allow-other %s", v.Point)
	root.ok("cat %s/file", v.Point)

	// A process of another user holds it: the user hears that, root hears who.
	harness.Background(t, root.space.Enter(harness.Command{Args: []string{"sh", "-c", "cd " + v.Point + " && exec sleep 60"}}))
	harness.Eventually(t, 10*time.Second, "the holder being named", func() (bool, string) {
		r := root.do("stasis umount %s || stasis-mount --allow-other %[1]s", v.Point)
		return strings.Contains(r.Stderr, "sleep"), r.String()
	})
	user.refused(1, []string{"in use", "another user", "sudo stasis umount " + v.Point}, "stasis umount %s", v.Point)

	// What fusermount3 says reaches the person.
	harness.Write(t, "mount_max = 0\n", conf)
	user.refused(1, []string{"mount_max"}, "mkdir -p ~/second && stasis-mount ~/second")
}
