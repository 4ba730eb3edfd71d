package mount

import (
	"bytes"
	"context"
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

	"stasis/fs/acl"
	"stasis/store"
)

// Commands find the vault by its line in the mount table.
func TestMountTable(t *testing.T) {
	v := newVault(t, Options{NoExec: true, NoAtime: true, AllowOther: os.Geteuid() == 0})
	table, err := os.ReadFile("/proc/self/mountinfo")
	v.must(err)
	for line := range strings.Lines(string(table)) {
		if !strings.Contains(line, " "+v.mnt()+" ") {
			continue
		}
		for _, want := range []string{" - fuse.stasis " + v.dir + " ", "nosuid", "nodev", "noexec", "noatime", "default_permissions"} {
			if !strings.Contains(line, want) {
				t.Errorf("%q is not in %s", want, line)
			}
		}
		return
	}
	t.Error("the mount is not in the table")
}

// Where only root may enter, access(2) says what it does on any filesystem, whoever checks.
func TestAccessByRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, check := range []bool{false, true} {
		v := newVault(t, Options{Check: check})
		v.must(os.WriteFile(v.path("data"), []byte("x"), 0o444))
		v.must(os.WriteFile(v.path("program"), []byte("#!/bin/sh\n"), 0o711))
		v.must(os.Mkdir(v.path("shut"), 0))
		v.must(unix.Mkfifo(v.path("pipe"), 0o600))
		for _, c := range []struct {
			name string
			mode uint32
			want error
		}{
			{"data", unix.R_OK | unix.W_OK, nil},
			{"data", unix.X_OK, unix.EACCES},
			{"program", unix.R_OK | unix.W_OK | unix.X_OK, nil},
			{"shut", unix.R_OK | unix.W_OK | unix.X_OK, nil},
			{"pipe", unix.R_OK | unix.W_OK, nil},
			{"none", unix.F_OK, unix.ENOENT},
		} {
			if err := unix.Access(v.path(c.name), c.mode); err != c.want {
				t.Errorf("checked by the kernel %v: access to %s for %d: %v, want %v", check, c.name, c.mode, err, c.want)
			}
		}
		if err := exec.Command(v.path("data")).Run(); !errors.Is(err, unix.EACCES) {
			t.Errorf("checked by the kernel %v: a file without execute permission was run: %v", check, err)
		}
	}
}

// What was closed is there after a restart, byte for byte, and with its attributes.
func TestRemount(t *testing.T) {
	v := newVault(t, Options{})
	content := bytes.Repeat([]byte("what a program writes "), 100_000)
	old := time.Date(1969, 7, 20, 20, 17, 40, 123456789, time.UTC)
	v.must(os.Mkdir(v.path("d"), 0o2750))
	v.must(os.WriteFile(v.path("d", "f"), content, 0o640))
	v.must(os.Chtimes(v.path("d", "f"), old, old))
	v.must(os.Symlink("d/f", v.path("l")))
	v.must(os.Link(v.path("d", "f"), v.path("g")))
	v.must(unix.Mkfifo(v.path("p"), 0o600))
	for _, mode := range []Options{{}, {ReadOnly: true}} {
		v.stop()
		v.start(mode)
		got, err := os.ReadFile(v.path("l"))
		v.must(err)
		if !bytes.Equal(got, content) {
			t.Fatalf("%d bytes came back, other than the %d that were written", len(got), len(content))
		}
		var st unix.Stat_t
		v.must(unix.Stat(v.path("g"), &st))
		if st.Nlink != 2 || st.Mode&0o7777 != 0o640 || st.Mtim.Nano() != old.UnixNano() || st.Blocks == 0 {
			t.Errorf("attributes: %+v", st)
		}
		info, err := os.Lstat(v.path("p"))
		v.must(err)
		if info.Mode()&os.ModeNamedPipe == 0 {
			t.Errorf("the fifo is %v", info.Mode())
		}
	}
	wantErrno(t, "write to a read-only mount", os.WriteFile(v.path("x"), nil, 0o600), syscall.EROFS)
	wantErrno(t, "chmod on a read-only mount", os.Chmod(v.path("g"), 0o600), syscall.EROFS)
}

// A listing has every entry once, "." and ".." included, however many there are, and
// also where each step of it takes entries away.
func TestListing(t *testing.T) {
	const entries = 3 * dirPage
	v := newVault(t, Options{})
	v.must(os.Mkdir(v.path("d"), 0o755))
	for i := range entries {
		v.must(os.WriteFile(v.path("d", fmt.Sprintf("%d-%s", i, strings.Repeat("x", i%200))), nil, 0o600))
	}
	for range 2 { // from the vault, then from what the kernel kept
		seen := listRaw(t, v.path("d"))
		if len(seen) != entries+2 || seen["."] != 1 || seen[".."] != 1 {
			t.Errorf("%d names, want %d", len(seen), entries+2)
		}
		for name, n := range seen {
			if n != 1 {
				t.Errorf("%s is listed %d times", name, n)
			}
		}
	}
	d, err := os.Open(v.path("d"))
	v.must(err)
	defer d.Close()
	removed := 0
	for {
		names, err := d.Readdirnames(100)
		if err != nil {
			break
		}
		for _, n := range names {
			v.must(os.Remove(v.path("d", n)))
			removed++
		}
	}
	if removed != entries {
		t.Errorf("%d entries were removed, want %d", removed, entries)
	}
	v.must(os.Remove(v.path("d")))
}

// listRaw counts the names that getdents(2) gives.
func listRaw(t *testing.T, dir string) map[string]int {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	seen := make(map[string]int)
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return seen
		}
		for p := buf[:n]; len(p) > 0; {
			size := int(p[16]) | int(p[17])<<8
			name, _, _ := bytes.Cut(p[19:size], []byte{0})
			seen[string(name)]++
			p = p[size:]
		}
	}
}

// That a name does not exist is kept by the kernel; making it must end that.
func TestAbsence(t *testing.T) {
	v := newVault(t, Options{})
	for _, make := range []func(string) error{
		func(p string) error { return os.WriteFile(p, nil, 0o600) },
		func(p string) error { return os.Mkdir(p, 0o700) },
		func(p string) error { return os.Symlink("x", p) },
	} {
		p := v.path("name")
		_, err := os.Lstat(p)
		wantErrno(t, "before", err, syscall.ENOENT)
		v.must(make(p))
		_, err = os.Lstat(p)
		v.must(err)
		v.must(os.Rename(p, p+"2"))
		_, err = os.Lstat(p)
		wantErrno(t, "after the rename", err, syscall.ENOENT)
		v.must(os.Remove(p + "2"))
	}
}

func TestErrnos(t *testing.T) {
	v := newVault(t, Options{})
	v.must(os.Mkdir(v.path("d"), 0o755))
	v.must(os.WriteFile(v.path("d", "f"), []byte("f"), 0o644))
	v.must(os.WriteFile(v.path("g"), []byte("g"), 0o644))
	long := strings.Repeat("n", 256)
	wantErrno(t, "rmdir of what is not empty", unix.Rmdir(v.path("d")), syscall.ENOTEMPTY)
	wantErrno(t, "rmdir of a file", unix.Rmdir(v.path("g")), syscall.ENOTDIR)
	wantErrno(t, "unlink of a directory", unix.Unlink(v.path("d")), syscall.EISDIR)
	wantErrno(t, "mkdir of what exists", unix.Mkdir(v.path("g"), 0o755), syscall.EEXIST)
	wantErrno(t, "a name too long", unix.Mkdir(v.path(long), 0o755), syscall.ENAMETOOLONG)
	wantErrno(t, "a file as a directory", unix.Mkdir(v.path("g", "x"), 0o755), syscall.ENOTDIR)
	wantErrno(t, "rename into itself", unix.Rename(v.path("d"), v.path("d", "x")), syscall.EINVAL)
	wantErrno(t, "link of a directory", unix.Link(v.path("d"), v.path("e")), syscall.EPERM)
	wantErrno(t, "rename onto a directory", unix.Rename(v.path("g"), v.path("d")), syscall.EISDIR)
	wantErrno(t, "rename that must not replace", rename2(v.path("g"), v.path("d", "f"), unix.RENAME_NOREPLACE), syscall.EEXIST)
	wantErrno(t, "rename that leaves a whiteout", rename2(v.path("g"), v.path("h"), unix.RENAME_WHITEOUT), syscall.EINVAL)
	v.must(rename2(v.path("g"), v.path("d", "f"), unix.RENAME_EXCHANGE))
	if got, err := os.ReadFile(v.path("g")); err != nil || string(got) != "f" {
		t.Errorf("after the exchange: %q, %v", got, err)
	}
	f, err := os.Open(v.path("g"))
	v.must(err)
	defer f.Close()
	wantErrno(t, "fallocate", unix.Fallocate(int(f.Fd()), 0, 0, 1), syscall.EBADF)
	w, err := os.OpenFile(v.path("g"), os.O_RDWR, 0)
	v.must(err)
	defer w.Close()
	wantErrno(t, "fallocate", unix.Fallocate(int(w.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096), syscall.EOPNOTSUPP)
	_, err = unix.IoctlGetInt(int(w.Fd()), unix.FS_IOC_GETFLAGS)
	if !errors.Is(err, syscall.ENOTTY) && !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("ioctl: %v", err)
	}
}

func rename2(from, to string, flags uint) error {
	return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
}

func TestXattrs(t *testing.T) {
	v := newVault(t, Options{})
	p := v.path("f")
	v.must(os.WriteFile(p, nil, 0o644))
	v.must(unix.Setxattr(p, "user.a", []byte("one"), unix.XATTR_CREATE))
	wantErrno(t, "create again", unix.Setxattr(p, "user.a", []byte("two"), unix.XATTR_CREATE), syscall.EEXIST)
	wantErrno(t, "replace what is not there", unix.Setxattr(p, "user.b", nil, unix.XATTR_REPLACE), syscall.ENODATA)
	v.must(unix.Setxattr(p, "user.empty", nil, 0))
	buf := make([]byte, 100)
	if n, err := unix.Getxattr(p, "user.a", nil); err != nil || n != 3 {
		t.Errorf("size: %d, %v", n, err)
	}
	if n, err := unix.Getxattr(p, "user.a", buf); err != nil || string(buf[:n]) != "one" {
		t.Errorf("value: %q, %v", buf[:max(0, n)], err)
	}
	_, err := unix.Getxattr(p, "user.a", buf[:2])
	wantErrno(t, "a buffer too small", err, syscall.ERANGE)
	if n, err := unix.Getxattr(p, "user.empty", buf); err != nil || n != 0 {
		t.Errorf("an empty value: %d, %v", n, err)
	}
	_, err = unix.Getxattr(p, acl.Access, buf)
	wantErrno(t, "an access control list that is not set", err, syscall.ENODATA)
	// The vault's own are answered and not listed, so that copies don't carry them.
	if n, err := unix.Getxattr(p, "user.stasis.wanted", buf); err != nil || string(buf[:n]) != "1" {
		t.Errorf("wanted copies: %q, %v", buf[:max(0, n)], err)
	}
	wantErrno(t, "set what the vault says", unix.Setxattr(p, "user.stasis.copies", []byte("9"), 0), syscall.EPERM)
	n, err := unix.Listxattr(p, buf)
	v.must(err)
	if got := string(buf[:n]); got != "user.a\x00user.empty\x00" {
		t.Errorf("list: %q", got)
	}
	v.must(unix.Removexattr(p, "user.a"))
	_, err = unix.Getxattr(p, "user.a", buf)
	wantErrno(t, "what was removed", err, syscall.ENODATA)
}

// The permission bits that the kernel shows follow an access control list at once, and the
// list follows them, whether or not the kernel checks permissions.
func TestACLs(t *testing.T) {
	for name, check := range map[string]bool{"for root": false, "checked": true} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, Options{Check: check})
			dir := v.path("d")
			v.must(os.Mkdir(dir, 0o755))
			l := acl.List{{Tag: acl.UserObj, Perm: 7}, {Tag: acl.User, Perm: 6, ID: 1000}, {Tag: acl.GroupObj, Perm: 5}, {Tag: acl.Mask, Perm: 7}, {Tag: acl.Other, Perm: 0}}
			v.must(unix.Setxattr(dir, acl.Default, l.Value(), 0))
			p := filepath.Join(dir, "f")
			v.must(os.WriteFile(p, []byte("x"), 0o666))
			mode := func() os.FileMode {
				t.Helper()
				st, err := os.Stat(p)
				v.must(err)
				return st.Mode()
			}
			access := func() acl.List {
				t.Helper()
				buf := make([]byte, 100)
				n, err := unix.Getxattr(p, acl.Access, buf)
				if err != nil {
					return nil
				}
				l, err := acl.Parse(buf[:n])
				v.must(err)
				return l
			}
			if mode() != 0o660 || access().Mode(0) != 0o660 {
				t.Errorf("it has mode %o and %v", mode(), access())
			}
			v.must(os.Chmod(p, 0o640))
			if mode() != 0o640 || access().Mode(0) != 0o640 {
				t.Errorf("after chmod it has mode %o and %v", mode(), access())
			}
			v.must(unix.Setxattr(p, acl.Access, l.Value(), 0))
			if mode() != 0o770 {
				t.Errorf("with a list it has mode %o", mode())
			}
			v.must(unix.Removexattr(p, acl.Access))
			if mode() != 0o770 || access() != nil {
				t.Errorf("without it has mode %o and %v", mode(), access())
			}
			wantErrno(t, "what is no list", unix.Setxattr(p, acl.Access, []byte("nonsense"), 0), syscall.EOPNOTSUPP)
			wantErrno(t, "a default list of a file", unix.Setxattr(p, acl.Default, l.Value(), 0), syscall.EACCES)
		})
	}
}

// needOtherUsers skips a test where files can't be given to other users: for who is not
// root, or root in a user namespace only.
func needOtherUsers(t *testing.T) {
	f := filepath.Join(t.TempDir(), "f")
	if err := errors.Join(os.WriteFile(f, nil, 0o600), os.Chown(f, 65534, 100)); err != nil {
		t.Skip("there are no other users here: ", err)
	}
}

// The kernel leaves it to the filesystem to take set-user-id away (KILLPRIV_V2).
func TestSetUserID(t *testing.T) {
	needOtherUsers(t)
	v := newVault(t, Options{AllowOther: true, Suid: true})
	v.must(os.Chmod(filepath.Dir(v.dir), 0o755)) // that the other user gets here at all
	p := v.path("f")
	mode := func() uint32 {
		var st unix.Stat_t
		v.must(unix.Stat(p, &st))
		return st.Mode & 0o7777
	}
	reset := func() {
		v.must(os.WriteFile(p, []byte("content"), 0o600))
		v.must(unix.Chmod(p, 0o6777))
		if mode() != 0o6777 {
			t.Fatalf("mode %o after chmod", mode())
		}
	}
	for what, script := range map[string]string{
		"a write": "printf x >> f", "a truncating open": ": > f", "a truncation": "truncate -s 3 f", "a write in place": "printf x | dd of=f conv=notrunc status=none",
	} {
		reset()
		if out, err := v.asNobody(script).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", what, err, out)
		}
		if mode() != 0o777 {
			t.Errorf("after %s by another user the mode is %o", what, mode())
		}
	}
	reset()
	v.must(os.Chown(p, 1, 1))
	if mode() != 0o777 {
		t.Errorf("after chown the mode is %o", mode())
	}
	reset()
	f, err := os.OpenFile(p, os.O_WRONLY, 0)
	v.must(err)
	_, err = f.WriteString("by root")
	v.must(errors.Join(err, f.Close()))
	if mode() != 0o6777 {
		t.Errorf("after a write by root the mode is %o", mode())
	}
}

// The owner is who makes it; the group is the directory's if that says so.
// asNobody is a script run in the mount by another user. It goes there itself: a child that
// is to begin there holds up this process, which serves the mount, until it is answered.
func (v *vault) asNobody(script string) *exec.Cmd {
	cmd := exec.Command("sh", "-c", `cd "$0" || exit; `+script, v.mnt())
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}

func TestOwners(t *testing.T) {
	needOtherUsers(t)
	v := newVault(t, Options{AllowOther: true})
	v.must(os.Chmod(filepath.Dir(v.dir), 0o755))
	v.must(os.Mkdir(v.path("d"), 0o755))
	v.must(os.Chown(v.path("d"), 65534, 100))
	v.must(unix.Chmod(v.path("d"), 0o2775))
	cmd := v.asNobody("umask 027; mkdir d/e && : > d/f && ln -s x d/l && mkfifo d/p; : > g")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "ermission denied") {
		t.Errorf("the root, which is root's: %v, %s", err, out)
	}
	for name, want := range map[string]uint32{"e": 0o2750, "f": 0o640, "l": 0o777, "p": 0o640} {
		var st unix.Stat_t
		v.must(unix.Lstat(v.path("d", name), &st))
		if st.Uid != 65534 || st.Gid != 100 || st.Mode&0o7777 != want {
			t.Errorf("%s: %d:%d %o, want 65534:100 %o", name, st.Uid, st.Gid, st.Mode&0o7777, want)
		}
	}
}

func TestBirthTime(t *testing.T) {
	v := newVault(t, Options{})
	before := time.Now().Add(-time.Second)
	v.must(os.WriteFile(v.path("f"), []byte("x"), 0o644))
	v.must(os.Chtimes(v.path("f"), time.Unix(1, 0), time.Unix(2, 0)))
	var x unix.Statx_t
	v.must(unix.Statx(unix.AT_FDCWD, v.path("f"), 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x))
	born := time.Unix(x.Btime.Sec, int64(x.Btime.Nsec))
	if x.Mask&unix.STATX_BTIME == 0 || born.Before(before) || born.After(time.Now()) {
		t.Errorf("born %v (mask %#x)", born, x.Mask)
	}
	if x.Atime.Sec != 1 || x.Mtime.Sec != 2 {
		t.Errorf("times set: %+v", x)
	}
}

func TestStatfs(t *testing.T) {
	v := newVault(t, Options{})
	var s unix.Statfs_t
	v.must(unix.Statfs(v.mnt(), &s))
	if s.Blocks == 0 || s.Bavail == 0 || s.Bavail > s.Blocks || s.Files == 0 || s.Ffree == 0 || s.Namelen != 255 {
		t.Errorf("%+v", s)
	}
}

// A mount in use stays; without users it goes, and Done says so.
func TestUnmountBusy(t *testing.T) {
	v := newVault(t, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	f, err := os.Create(v.path("f"))
	v.must(err)
	if err := v.server.Unmount(ctx); !errors.Is(err, store.Conflict) {
		t.Errorf("unmount of a mount in use: %v", err)
	}
	_, err = f.WriteString("still there")
	v.must(errors.Join(err, f.Close()))
	v.must(v.server.Unmount(ctx))
	select {
	case <-v.server.Done():
	default:
		t.Error("it is unmounted and not done")
	}
	v.must(v.server.Unmount(ctx)) // once more is no error
}

// Whoever unmounts, the session ends, and what was open is released.
func TestUnmountBySomebodyElse(t *testing.T) {
	v := newVault(t, Options{})
	f, err := os.Create(v.path("f"))
	v.must(err)
	_, err = f.WriteString("x")
	v.must(err)
	if os.Geteuid() == 0 {
		v.must(unix.Unmount(v.mnt(), unix.MNT_DETACH))
	} else if out, err := exec.Command("fusermount3", "-u", "-z", v.mnt()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	v.must(f.Close())
	select {
	case <-v.server.Done():
	case <-time.After(limit):
		t.Fatal("the session did not end")
	}
	if n := len(v.server.raw.open.open); n != 0 {
		t.Errorf("%d handles are left", n)
	}
	v.stop()
	v.start(Options{})
	if got, err := os.ReadFile(v.path("f")); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

// A connection that was aborted leaves no dead mount behind, and what was written before
// is kept.
func TestAbort(t *testing.T) {
	v := newVault(t, Options{})
	f, err := os.Create(v.path("f"))
	v.must(err)
	_, err = f.WriteString("before the abort")
	v.must(err)
	if err := abort(t, v.server.dev); err != nil {
		t.Skip("connections can't be aborted here: ", err, f.Close())
	}
	select {
	case <-v.server.Done():
	case <-time.After(limit):
		t.Fatal("the session did not end")
	}
	if err := f.Close(); err == nil {
		t.Error("close after the abort said that all is well")
	}
	if now, err := device(v.mnt()); err != nil || now == v.server.dev {
		t.Errorf("the dead mount is still there (%v)", err)
	}
	v.stop()
	v.start(Options{})
	if got, err := os.ReadFile(v.path("f")); err != nil || string(got) != "before the abort" {
		t.Errorf("%q, %v", got, err)
	}
}
