package mount

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"stasis/fs"
	"stasis/fs/names"
)

const nanosPerSecond = 1_000_000_000

// stamp divides a time in nanoseconds since the epoch into what the wire has: seconds,
// which are negative before 1970 and travel in two's complement, and nanoseconds,
// which are not.
func stamp(ns int64) (seconds uint64, nanos uint32) {
	s, n := ns/nanosPerSecond, ns%nanosPerSecond
	if n < 0 {
		s, n = s-1, n+nanosPerSecond
	}
	return uint64(s), uint32(n)
}

// unstamp is the reverse of stamp. Times that an int64 of nanoseconds can't hold, before
// 1678 and after 2261, become the nearest that it can.
func unstamp(seconds uint64, nanos uint32) int64 {
	const most = (1<<63 - 1) / nanosPerSecond
	switch s := int64(seconds); {
	case s >= most:
		return most * nanosPerSecond
	case s <= -most:
		return -most * nanosPerSecond
	default:
		return s*nanosPerSecond + int64(nanos)
	}
}

func fillAttr(out *fuse.Attr, a fs.Attr) {
	*out = fuse.Attr{
		Ino: uint64(a.Ino), Size: uint64(a.Size), Blocks: uint64(a.Blocks), Mode: a.Mode, Nlink: a.Nlink,
		Owner: fuse.Owner{Uid: a.UID, Gid: a.GID}, Rdev: a.Rdev, Blksize: ioSize,
	}
	out.Atime, out.Atimensec = stamp(a.Atime)
	out.Mtime, out.Mtimensec = stamp(a.Mtime)
	out.Ctime, out.Ctimensec = stamp(a.Ctime)
}

// fillEntry is the answer that names an inode; its reference has been counted.
func fillEntry(out *fuse.EntryOut, a fs.Attr) {
	out.NodeId = uint64(a.Ino)
	out.Generation = 0 // numbers of inodes are never used again
	out.SetEntryTimeout(cacheFor)
	out.SetAttrTimeout(attrFor(a))
	fillAttr(&out.Attr, a)
}

func fillStatx(out *fuse.Statx, a fs.Attr) {
	*out = fuse.Statx{
		Mask: unix.STATX_BASIC_STATS | unix.STATX_BTIME, Blksize: ioSize, Nlink: a.Nlink, Uid: a.UID, Gid: a.GID,
		Mode: uint16(a.Mode), Ino: uint64(a.Ino), Size: uint64(a.Size), Blocks: uint64(a.Blocks),
		RdevMajor: unix.Major(uint64(a.Rdev)), RdevMinor: unix.Minor(uint64(a.Rdev)),
	}
	out.Atime.Sec, out.Atime.Nsec = stamp(a.Atime)
	out.Mtime.Sec, out.Mtime.Nsec = stamp(a.Mtime)
	out.Ctime.Sec, out.Ctime.Nsec = stamp(a.Ctime)
	out.Btime.Sec, out.Btime.Nsec = stamp(a.Btime)
}

// changeOf reads what a SETATTR asks for.
func changeOf(in *fuse.SetAttrIn) fs.Change {
	c := fs.Change{KillSUIDGID: in.Valid&fuse.FATTR_KILL_SUIDGID != 0}
	if mode, ok := in.GetMode(); ok {
		c.Mode = &mode
	}
	if uid, ok := in.GetUID(); ok {
		c.UID = &uid
	}
	if gid, ok := in.GetGID(); ok {
		c.GID = &gid
	}
	if size, ok := in.GetSize(); ok {
		// What does not fit is negative, which package fs refuses.
		size := int64(size)
		c.Size = &size
	}
	if in.Valid&fuse.FATTR_ATIME != 0 {
		c.Atime = timeOf(in.Valid&fuse.FATTR_ATIME_NOW != 0, in.Atime, in.Atimensec)
	}
	if in.Valid&fuse.FATTR_MTIME != 0 {
		c.Mtime = timeOf(in.Valid&fuse.FATTR_MTIME_NOW != 0, in.Mtime, in.Mtimensec)
	}
	if in.Valid&fuse.FATTR_CTIME != 0 {
		c.Ctime = timeOf(false, in.Ctime, in.Ctimensec)
	}
	return c
}

// asksNothing reports whether there is nothing to set, as where a chown(2) leaves both
// owners as they are: it clears set-user-id and set-group-id all the same.
func asksNothing(in *fuse.SetAttrIn) bool {
	return in.Valid&^(fuse.FATTR_FH|fuse.FATTR_LOCKOWNER) == 0
}

func timeOf(now bool, seconds uint64, nanos uint32) *int64 {
	t := unstamp(seconds, nanos)
	if now {
		t = names.Now()
	}
	return &t
}

// statfsOf gives sizes in whole blocks. What is free is rounded down, what there is up,
// so that nothing is promised that does not exist.
func statfsOf(s fs.Statfs) fuse.StatfsOut {
	free := uint64(max(0, s.Free)) / statfsBlock
	return fuse.StatfsOut{
		Bsize: statfsBlock, Frsize: statfsBlock, NameLen: names.MaxName,
		Blocks: (uint64(max(0, s.Total)) + statfsBlock - 1) / statfsBlock, Bfree: free, Bavail: free,
		Files: s.Files, Ffree: s.FreeFile,
	}
}
