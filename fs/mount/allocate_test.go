package mount

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What fallocate(2) says and does is what it says and does on ext4: the wanted column was
// seen there.
func TestFallocateAsOnExt4(t *testing.T) {
	v := newVault(t, Options{})
	f, err := os.Create(v.path("f"))
	v.must(err)
	defer f.Close()
	_, err = f.Write(bytes.Repeat([]byte{'x'}, 20000))
	v.must(err)
	v.must(f.Sync())
	var st unix.Stat_t
	v.must(unix.Fstat(int(f.Fd()), &st))
	for _, c := range []struct {
		name         string
		mode         uint32
		off, n       int64
		want         syscall.Errno
		size, blocks int64
	}{
		{"make room inside", 0, 0, 8192, 0, 20000, 40},
		{"extend", 0, 20000, 8192, 0, 28192, 56},
		{"keep the size inside", unix.FALLOC_FL_KEEP_SIZE, 0, 100, 0, 28192, 56},
		{"keep the size", unix.FALLOC_FL_KEEP_SIZE, 40000, 8192, 0, 28192, 80},
		{"punch", unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, 4096, 4096, 0, 28192, 72},
		{"punch past the end", unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, 100000, 4096, 0, 28192, 72},
		{"zero", unix.FALLOC_FL_ZERO_RANGE, 8192, 100, 0, 28192, 72},
		{"zero past the end", unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE, 200000, 4096, 0, 28192, 96},
		{"zero and extend", unix.FALLOC_FL_ZERO_RANGE, 50000, 4096, 0, 54096, 112},
		{"punch and extend", unix.FALLOC_FL_PUNCH_HOLE, 0, 1, syscall.EOPNOTSUPP, 54096, 112},
		{"collapse", unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096, syscall.EOPNOTSUPP, 54096, 112},
		{"insert", unix.FALLOC_FL_INSERT_RANGE, 0, 4096, syscall.EOPNOTSUPP, 54096, 112},
		{"unshare", unix.FALLOC_FL_UNSHARE_RANGE, 0, 4096, syscall.EOPNOTSUPP, 54096, 112},
		{"anything", 1 << 12, 0, 4096, syscall.EOPNOTSUPP, 54096, 112},
		{"before the beginning", 0, -1, 5, syscall.EINVAL, 54096, 112},
		{"nothing", 0, 0, 0, syscall.EINVAL, 54096, 112},
		{"too far", 0, 1 << 62, 1<<62 + 1, syscall.EFBIG, 54096, 112},
		{"farther than a file gets", unix.FALLOC_FL_KEEP_SIZE, 1 << 50, 4096, syscall.EFBIG, 54096, 112},
	} {
		time.Sleep(5 * time.Millisecond) // for a later time
		err := unix.Fallocate(int(f.Fd()), c.mode, c.off, c.n)
		if c.want != 0 {
			wantErrno(t, c.name, err, c.want)
		} else if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		was := st
		v.must(unix.Fstat(int(f.Fd()), &st))
		if st.Size != c.size || st.Blocks != c.blocks {
			t.Errorf("%s: %d bytes in %d blocks, want %d in %d", c.name, st.Size, st.Blocks, c.size, c.blocks)
		}
		if changed := st.Mtim != was.Mtim && st.Ctim != was.Ctim; changed != (c.want == 0) {
			t.Errorf("%s: times changed: %v", c.name, changed)
		}
	}
	want := make([]byte, 54096)
	for i := range want[:20000] {
		if i < 4096 || i >= 8192+100 {
			want[i] = 'x'
		}
	}
	if got, err := os.ReadFile(v.path("f")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d (%v)", len(got), len(want), err)
	}
	r, err := os.Open(v.path("f"))
	v.must(err)
	defer r.Close()
	wantErrno(t, "open for reading", unix.Fallocate(int(r.Fd()), 0, 0, 1), syscall.EBADF)
	d, err := os.Open(v.mnt())
	v.must(err)
	defer d.Close()
	wantErrno(t, "a directory", unix.Fallocate(int(d.Fd()), 0, 0, 1), syscall.EBADF)
	wantErrno(t, "more than there is", unix.Fallocate(int(f.Fd()), 0, 0, 1<<43), syscall.ENOSPC)
}

// Who is not root takes set-user-id of what is given holes, also where the file is another's, and
// anybody takes its capabilities.
func TestFallocateTakesPrivileges(t *testing.T) {
	needOtherUsers(t)
	v := newVault(t, Options{AllowOther: true, Suid: true})
	v.must(os.Chmod(filepath.Dir(v.dir), 0o755)) // that the other user gets here at all
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	punch := func(path string, user uint32) {
		t.Helper()
		cmd := exec.Command("fallocate", "--punch-hole", "--length", "4", path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for user, want := range map[uint32]uint32{0: 0o6777, 65534: 0o777} {
		path := v.path(fmt.Sprintf("suid-%d", user))
		v.must(os.WriteFile(path, []byte("program"), 0o600))
		v.must(unix.Chmod(path, 0o6777))
		punch(path, user)
		var st unix.Stat_t
		v.must(unix.Stat(path, &st))
		if st.Mode&0o7777 != want {
			t.Errorf("user %d: mode %o, want %o", user, st.Mode&0o7777, want)
		}
		path = v.path(fmt.Sprintf("capable-%d", user))
		v.must(os.WriteFile(path, []byte("program"), 0o600))
		v.must(unix.Chmod(path, 0o777))
		v.must(unix.Setxattr(path, "security.capability", capability, 0))
		punch(path, user)
		_, err := unix.Getxattr(path, "security.capability", nil)
		wantErrno(t, fmt.Sprintf("user %d: capability", user), err, syscall.ENODATA)
	}
}

// The room that a file was given is no part of it once it is settled, and stat(2) says so soon.
func TestRoomIsSeenToGo(t *testing.T) {
	v := newVault(t, Options{})
	f, err := os.Create(v.path("f"))
	v.must(err)
	v.must(unix.Fallocate(int(f.Fd()), 0, 0, 16<<20))
	_, err = f.WriteAt([]byte("data"), 9<<20)
	v.must(err)
	var st unix.Stat_t
	v.must(unix.Fstat(int(f.Fd()), &st))
	if st.Blocks < 16<<20/512 {
		t.Errorf("%d blocks of room", st.Blocks)
	}
	v.must(f.Close())
	v.settle(v.path("f"))
	for until := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		v.must(unix.Stat(v.path("f"), &st))
		if st.Blocks == 1<<20/512 && st.Size == 16<<20 {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%d blocks", st.Blocks)
		}
	}
}
