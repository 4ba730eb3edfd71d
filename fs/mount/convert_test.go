package mount

import (
	"math"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"stasis/fs"
	"stasis/fs/names"
)

func TestStamp(t *testing.T) {
	for _, c := range []struct {
		ns      int64
		seconds int64
		nanos   uint32
	}{
		{0, 0, 0}, {1, 0, 1}, {-1, -1, 999_999_999}, {1_500_000_000, 1, 500_000_000},
		{-1_000_000_000, -1, 0}, {math.MinInt64, -9_223_372_037, 145_224_192}, {math.MaxInt64, 9_223_372_036, 854_775_807},
	} {
		if s, n := stamp(c.ns); int64(s) != c.seconds || n != c.nanos {
			t.Errorf("%d ns are %d s and %d ns, got %d and %d", c.ns, c.seconds, c.nanos, int64(s), n)
		}
	}
	// A time past what nanoseconds hold must not come back as one before 1970.
	if got := unstamp(1<<62, 0); got < 1<<62 {
		t.Errorf("a time far ahead became %d", got)
	}
	if got := unstamp(uint64(1<<63), 0); got > -1<<62 {
		t.Errorf("a time long ago became %d", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.Int64Range(-9_223_372_035_000_000_000, 9_223_372_035_999_999_999).Draw(t, "ns")
		s, n := stamp(ns)
		if n >= nanosPerSecond {
			t.Fatalf("%d nanoseconds", n)
		}
		if got := unstamp(s, n); got != ns {
			t.Fatalf("%d came back as %d", ns, got)
		}
	})
}

func TestChangeOf(t *testing.T) {
	in := &fuse.SetAttrIn{}
	in.Mode, in.Uid, in.Gid, in.Size, in.Atime, in.Mtime = 0o104755, 7, 8, 9, 10, 11
	if c := changeOf(in); c != (fs.Change{}) || !asksNothing(in) {
		t.Errorf("nothing was asked for, got %+v", c)
	}
	in.Valid = fuse.FATTR_MODE | fuse.FATTR_GID | fuse.FATTR_SIZE | fuse.FATTR_ATIME | fuse.FATTR_MTIME | fuse.FATTR_MTIME_NOW | fuse.FATTR_KILL_SUIDGID
	before := names.Now()
	c := changeOf(in)
	switch {
	case c.Mode == nil || *c.Mode != 0o4755:
		t.Error("mode")
	case c.UID != nil || c.GID == nil || *c.GID != 8:
		t.Error("owner")
	case c.Size == nil || *c.Size != 9:
		t.Error("size")
	case c.Atime == nil || *c.Atime != 10*nanosPerSecond:
		t.Error("time of access")
	case c.Mtime == nil || *c.Mtime < before:
		t.Error("time of change")
	case c.Ctime != nil || !c.KillSUIDGID:
		t.Error("the rest")
	}
	in.Size = math.MaxUint64
	if c := changeOf(in); *c.Size >= 0 {
		t.Errorf("a size of 2^64-1 became %d", *c.Size)
	}
}

func TestFill(t *testing.T) {
	a := fs.Attr{Inode: names.Inode{Ino: 42, Mode: unix.S_IFBLK | 0o640, UID: 1, GID: 2, Nlink: 3, Size: 4,
		Rdev: uint32(unix.Mkdev(8, 300)), Atime: -1, Mtime: 1, Ctime: 2, Btime: 3}, Blocks: 8}
	var e fuse.EntryOut
	fillEntry(&e, a)
	if e.NodeId != 42 || e.Ino != 42 || e.Mode != a.Mode || e.Uid != 1 || e.Gid != 2 || e.Nlink != 3 || e.Size != 4 || e.Blocks != 8 ||
		e.Rdev != a.Rdev || int64(e.Atime) != -1 || e.Atimensec != 999_999_999 || e.EntryTimeout() != cacheFor || e.AttrTimeout() != cacheFor {
		t.Errorf("entry: %+v", e)
	}
	var x fuse.Statx
	fillStatx(&x, a)
	if x.RdevMajor != 8 || x.RdevMinor != 300 || x.Btime.Nsec != 3 || x.Mask&unix.STATX_BTIME == 0 || uint32(x.Mode) != a.Mode {
		t.Errorf("statx: %+v", x)
	}
}

func TestStatfsOf(t *testing.T) {
	s := statfsOf(fs.Statfs{Total: 10*statfsBlock + 1, Free: 3*statfsBlock - 1, Files: 5, FreeFile: 6})
	if s.Blocks != 11 || s.Bfree != 2 || s.Bavail != 2 || s.Files != 5 || s.Ffree != 6 || s.Bsize != s.Frsize {
		t.Errorf("%+v", s)
	}
	if s := statfsOf(fs.Statfs{Total: -1, Free: -1}); s.Blocks != 0 || s.Bavail != 0 {
		t.Errorf("negative sizes: %+v", s)
	}
}

func TestMountOptions(t *testing.T) {
	for _, c := range []struct {
		o     Options
		flags uintptr
		words string
	}{
		{Options{}, unix.MS_NODEV | unix.MS_NOSUID, ""},
		{Options{Dev: true, Suid: true}, 0, "dev suid"},
		{Options{ReadOnly: true, NoExec: true, NoAtime: true}, unix.MS_NODEV | unix.MS_NOSUID | unix.MS_RDONLY | unix.MS_NOEXEC | unix.MS_NOATIME, "noexec noatime ro"},
	} {
		if got := mountFlags(c.o); got != c.flags|unix.MS_MGC_VAL {
			t.Errorf("%+v: flags %#x, want %#x", c.o, got, c.flags)
		}
		words := ""
		for _, w := range mountWords(c.o) {
			if words != "" {
				words += " "
			}
			words += w
		}
		if words != c.words {
			t.Errorf("%+v: %q, want %q", c.o, words, c.words)
		}
	}
}
