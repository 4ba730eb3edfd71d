package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stasis/integration/harness"
)

// shown gives the options with which something is mounted in a space.
func (g guest) shown(point string) string {
	g.t.Helper()
	for line := range strings.Lines(g.ok("cat /proc/self/mounts")) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == strings.ReplaceAll(point, " ", `\040`) {
			return "," + f[3] + ","
		}
	}
	return ""
}

// A line of /etc/fstab is all that mount(8) needs, at boot or from a person, and what it
// says wrong is said in words.
func TestFstab(t *testing.T) {
	_, root, _, fstab := asNobody(t)
	v := root.Vault
	second := harness.Mkdir(t, v.Base, "second vault")
	harness.Write(t, fmt.Sprintf(`%[1]s/state %[2]s fuse.stasis-mount defaults,nofail,allow_other,_netdev,x-systemd.automount 0 0
%[1]s/a\040state %[3]s fuse.stasis-mount noauto,noatime,noexec,nodev,nosuid 0 0
%[1]s/wrong %[1]s/home fuse.stasis-mount noauto,frobnicate 0 0
`, v.Base, v.Point, strings.ReplaceAll(second, " ", `\040`)), fstab)

	// As the README says, with places of the test's.
	for _, commands := range blocks(t, "Everyday tasks") {
		if !strings.Contains(strings.Join(commands, "\n"), "/etc/fstab") {
			continue
		}
		for _, command := range commands {
			root.ok("%s", strings.ReplaceAll(command, "/srv/", v.Base+"/srv/"))
		}
	}
	root.ok("umount %s/srv/vault", v.Base)

	// At boot it is mount -a, which leaves what is mounted alone.
	root.ok("mount -a && mount -a && umount %s/srv/vault", v.Base)
	if got := root.shown(v.Point); !strings.Contains(got, ",rw,") || !strings.Contains(got, ",allow_other,") || strings.Contains(got, ",nodev,") {
		t.Errorf("mounted with %s", got)
	}
	root.ok("echo content >%s/file", v.Point)
	root.refused(1, []string{"already mounted", "stasis status " + v.Point}, "mount %s", v.Point)
	root.ok("umount %s", v.Point)
	// At once again: the daemon before is still closing.
	root.ok("mount %[1]s && test $(cat %[1]s/file) = content && stasis umount %[1]s", v.Point)

	root.ok("mount '%[1]s' && test -e '%[2]s/a state/vault.toml'", second, v.Base)
	for _, option := range []string{"rw", "noatime", "noexec", "nodev", "nosuid"} {
		if got := root.shown(second); !strings.Contains(got, ","+option+",") {
			t.Errorf("mounted with %s, want %s", got, option)
		}
	}
	root.refused(2, []string{"keeps its options", "unmount"}, "mount -o remount,ro '%s'", second)
	root.ok("umount '%s'", second)
	root.refused(2, []string{"frobnicate", "allow_other"}, "mount %s/home", v.Base)

	// Without fstab, and with what one would guess.
	state := filepath.Join(v.Base, "state")
	root.ok("mount -t fuse.stasis-mount %[1]s %[2]s -o ro && ! touch %[2]s/new", state, v.Point)
	root.refused(2, []string{"keeps its options"}, "mount -t fuse.stasis -o remount,rw %s %s", state, v.Point)
	root.ok("umount %s", v.Point)
	root.refused(2, []string{"fuse.stasis-mount"}, "mount -t fuse.stasis %s %s", state, v.Point)
	root.refused(1, []string{"mkdir -p " + v.Base + "/none"}, "mount -t fuse.stasis-mount %s %s/none", state, v.Base)
	root.refused(2, []string{"drop_privileges", "setuid=USER"}, "mount -t fuse.stasis-mount %s %s -o drop_privileges", state, v.Point)
	// mount(8) has mounted before, and what is left is said too.
	root.refused(1, []string{"has ended", "umount " + v.Point}, "mount -t fuse.stasis-mount %s %s", state, v.Point)
	root.ok("umount %s", v.Point)
}

// A line of /etc/fstab lets a user mount, with `user`, or mounts for a user, with setuid=.
func TestFstabForUsers(t *testing.T) {
	user, root, _, fstab := asNobody(t)
	v := user.Vault
	state := filepath.Join(v.Base, "home/state")
	write := func(options string) {
		harness.Write(t, fmt.Sprintf("%s %s fuse.stasis-mount noauto,%s 0 0\n", state, v.Point, options), fstab)
	}
	write("user")
	user.ok("mount %[1]s && echo content >%[1]s/file && umount %[1]s", v.Point)
	user.ended()
	write("setuid=nobody")
	if got := root.ok("mount %s", v.Point); !strings.Contains(got, "is ready") {
		t.Errorf("mounted by root for a user: %s", got)
	}
	user.ok("test $(cat %[1]s/file) = content && stasis umount %[1]s", v.Point)
	user.ended()
	if info, err := os.Stat(state); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the state directory: %v %v", info, err)
	}
}
