package integration

import (
	"math/rand/v2"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// The pools are small, so that operations meet each other's results.
var (
	modelNames = []rawText{"a", "b", "c", "d"}
	modelPaths = func() []rawText {
		all := slices.Clone(modelNames)
		for _, x := range modelNames {
			for _, y := range modelNames {
				// Two deep as often as one deep.
				all = append(all, x+"/"+y)
			}
			all = append(all, x, x, x, "a/b/"+x, "c/d/"+x)
		}
		long := rawText(strings.Repeat("n", 255))
		return append(all, "a/.", "a/..", "b/", "Ünï cödé\n", long, long+"n", ".")
	}()
	modelTargets = []rawText{"a", "b", "c", "a/b", "b/c", "c/d/a", "d/.", "\xff\xfe", rawText(strings.Repeat("t", 200)), rawText(strings.Repeat("u/", 2000))}
	// All together they fit into what ext4 has for the attributes of an inode.
	modelXattrs = slices.Concat(slices.Repeat([]rawText{"user.one"}, 6), slices.Repeat([]rawText{"user.two", "trusted.four"}, 2), []rawText{
		"user.three", "user.\xff\x01", "security.five", "user.", "trusted.", "security.", "nothing.six", "system.seven",
		rawText("user." + strings.Repeat("n", 250)), rawText("user." + strings.Repeat("n", 251)),
	})
	modelXattrSizes = []int64{0, 1, 50, 200, 200, 300, 300, 65537}
	modelModes      = []uint32{0o644, 0o600, 0o666, 0o755, 0o777, 0o700, 0o444, 0, 0o4755, 0o2755, 0o2777, 0o1777, 0o6711}
	modelIDs        = []int{0, modelUser, modelOther, modelGroup, -1}
	modelSizes      = []int64{0, 1, 10, 100, 4095, 4096, 4097, 5000, 12288, 65536, 131072, 300_000, 1 << 20, 1<<20 + 1}
	modelOffsets    = []int64{0, 0, 0, 1, 100, 4095, 4096, 4097, 8192, 20_000, 65536, 131071, 1<<20 - 1, 1 << 20, 1<<20 + 4096, 3 << 20}
	// Far beyond what is written. What changes a file beyond what any may be is EFBIG; but
	// FUSE has been told by then that set-user-id is to be cleared, and ext4 not.
	modelFar    = append(slices.Repeat(modelOffsets, 2), 1<<32+1, 1<<36)
	modelStamps = [][2]int64{{0, 0}, {1_000_000_000, 123_456_789}, {-1, 1}, {1_200_000_000, 999_999_999}, {2_000_000_001, 1}, {0, unix.UTIME_NOW}, {0, unix.UTIME_OMIT}, {0, 1_000_000_000}}
	modelOpens  = []int{
		unix.O_RDONLY, unix.O_RDWR, unix.O_RDWR | unix.O_CREAT, unix.O_RDWR | unix.O_CREAT, unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC,
		unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT, unix.O_RDWR | unix.O_APPEND,
		unix.O_RDWR | unix.O_TRUNC, unix.O_RDONLY | unix.O_DIRECTORY, unix.O_RDWR | unix.O_NOFOLLOW, unix.O_RDWR | unix.O_TMPFILE,
		unix.O_RDWR | unix.O_TMPFILE | unix.O_EXCL, unix.O_RDWR | unix.O_SYNC, unix.O_RDWR | unix.O_DSYNC | unix.O_CREAT,
		unix.O_RDWR | unix.O_DIRECT | unix.O_CREAT, unix.O_RDWR | unix.O_DIRECT, unix.O_RDONLY | unix.O_TRUNC,
	}
	// What a device node stands for: a whiteout, /dev/null, and what no driver serves.
	modelNodes = []struct {
		mode uint32
		rdev uint64
	}{
		{unix.S_IFCHR, 0}, {unix.S_IFCHR, unix.Mkdev(1, 3)}, {unix.S_IFCHR, unix.Mkdev(4095, 1<<20-1)}, {unix.S_IFBLK, unix.Mkdev(4095, 77)},
		{unix.S_IFREG, 0}, {0, 0}, {unix.S_IFIFO, 5}, {unix.S_IFSOCK, 0}, {unix.S_IFDIR, 0}, {unix.S_IFLNK, 0},
	}
	modelUmasks = []uint32{0o022, 0o022, 0, 0o027, 0o007, 0o707} // see makeMode
	modelLimits = []int64{-1, -1, -1, 96 << 10, 1 << 20}
	modelAllocs = []int{
		0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_UNSHARE_RANGE, 1 << 20,
	}
	// RENAME_WHITEOUT is for overlayfs, which wants more than FUSE has: a vault refuses it.
	modelRenames = []int{0, 0, 0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, unix.RENAME_EXCHANGE | unix.RENAME_NOREPLACE}
	// Two lengths of capabilities that the kernel takes, cap_net_raw both.
	modelCapabilities = []rawText{
		"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"\x00\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"\x07",
	}
)

const (
	// modelUser and modelOther are the users of the workers that are not root, and modelGroup
	// is a group that modelOther is in besides that of modelUser.
	modelUser  = 1000
	modelOther = 1001
	modelGroup = 1002
	// modelMaps is how many files a worker has mapped in what all share, and as many again in
	// what is its own.
	modelMaps = 2
	// modelWatch is of how many operations the times of one are watched.
	modelWatch = 12
)

// strangeNames are a few names of bytes that are no text, for a run.
func strangeNames(seed uint64) (all []rawText) {
	random := rand.New(rand.NewPCG(seed, 0))
	for len(all) < 4 {
		name := make([]byte, 1+random.IntN([]int{4, 254}[len(all)%2]))
		for i := range name {
			for name[i] == 0 || name[i] == '/' {
				name[i] = byte(random.Uint32())
			}
		}
		if s := string(name); s != "." && s != ".." {
			all = append(all, rawText(s), "a/"+rawText(s))
		}
	}
	return all
}

// weights say how often a kind is drawn.
var weights = map[string]int{
	"open": 12, "close": 8, "write": 8, "pwrite": 8, "read": 3, "pread": 4, "seek": 1, "ftruncate": 3, "fsync": 3, "fdatasync": 1,
	"preadv": 2, "pwritev": 3, "copyrange": 3, "fallocate": 6, "holes": 2, "sparse": 1,
	"fstat": 2, "fchmod": 1, "fchown": 1, "futimens": 1, "fsetxattr": 1, "dup": 1, "linkfile": 2, "linkproc": 2,
	"store": 3, "map": 4, "mapstore": 5, "mapread": 2, "unmap": 2,
	"flock": 3, "lock": 4, "lockofd": 4, "getlock": 2, "getofd": 2,
	"writefile": 8, "readfile": 6, "mkdir": 6, "rmdir": 3, "unlink": 4, "rename": 10, "link": 4, "symlink": 3, "readlink": 1, "mkfifo": 1,
	"mknod": 3, "bind": 2, "connect": 2, "umask": 1, "limit": 1,
	"chmod": 3, "chown": 3, "access": 2, "truncate": 4, "utimens": 3, "setxattr": 3, "setcap": 1, "getxattr": 2, "removexattr": 2, "listxattr": 1,
	"setacl": 5, "getacl": 2, "removeacl": 1, "readdir": 4, "stat": 4,
	"patch": 3,
}

// undivided are the kinds that a kill leaves done or not done, never in between.
var undivided = []string{"mkdir", "rmdir", "unlink", "rename", "rename", "link", "symlink", "chmod", "chown", "truncate", "utimens", "setxattr", "removexattr", "mknod", "patch", "patch", "patch", "stat"}

var allKinds = func() []string {
	all := []string{}
	for _, kinds := range []map[string]bool{kindsOf(pathOps), kindsOf(fileOps), kindsOf(mapOps)} {
		for kind := range kinds {
			for range weights[kind] {
				all = append(all, kind)
			}
		}
	}
	return sorted(all)
}()

// modelState is what is there to work with: an operation on what is not there says little.
type modelState struct {
	paths []rawText // that exist, and pool are those that may
	pool  []rawText
	base  int   // of the slots
	files []int // slots of open files
	taken []int // slots of open files and sockets
	maps  []int // slots of mappings
}

// drawOp draws one operation.
func drawOp(t *rapid.T, kinds []string, st *modelState) modelOp {
	op := modelOp{Kind: draw(t, "kind", kinds)}
	_, named := pathOps[op.Kind]
	_, mapped := mapOps[op.Kind]
	if mapped && len(st.maps) == 0 && len(st.files) > 0 {
		op.Kind, mapped = "map", false
	}
	if !named && len(st.files) == 0 && drawIndex(t, "open first", 4) > 0 {
		op.Kind, named, mapped = "open", true, false
	}
	if named || op.Kind == "linkfile" || op.Kind == "linkproc" {
		op.Path = st.path(t, "path", makes[op.Kind])
	}
	switch {
	case op.Kind == "open" || op.Kind == "bind":
		op.Slot = drawSlot(t, "slot", st.base, modelSlots, st.taken, false)
	case op.Kind == "close":
		op.Slot = drawSlot(t, "slot", st.base, modelSlots, st.taken, true)
	case !named && !mapped:
		op.Slot = drawSlot(t, "slot", st.base, modelSlots, st.files, true)
	}
	switch {
	case op.Kind == "dup":
		op.Slot2 = drawSlot(t, "slot2", st.base, modelSlots, st.taken, false)
	case op.Kind == "copyrange":
		op.Slot2 = drawSlot(t, "slot2", st.base, modelSlots, st.files, true)
	case mapped || op.Kind == "map":
		op.Slot2 = drawSlot(t, "mapping", st.base, modelMaps, st.maps, mapped)
	}
	drawDetails(t, &op, st)
	op.Watch = st.base == 0 && drawIndex(t, "watch", modelWatch) == modelWatch-1
	return op
}

// expect notes what an operation changes if it succeeds, before that is known.
func (st *modelState) expect(op modelOp) {
	switch op.Kind {
	case "open":
		st.files, st.taken = append(st.files, op.Slot), append(st.taken, op.Slot)
	case "bind":
		st.taken = append(st.taken, op.Slot)
	case "dup":
		st.files, st.taken = append(st.files, op.Slot2), append(st.taken, op.Slot2)
	case "close":
		is := func(slot int) bool { return slot == op.Slot }
		st.files, st.taken = slices.DeleteFunc(st.files, is), slices.DeleteFunc(st.taken, is)
	case "map":
		st.maps = append(st.maps, op.Slot2)
	case "unmap":
		st.maps = slices.DeleteFunc(st.maps, func(slot int) bool { return slot == op.Slot2 })
	}
}

// makes are the kinds that want a name that is free.
var makes = map[string]bool{
	"mkdir": true, "mknod": true, "mkfifo": true, "symlink": true, "bind": true, "linkfile": true, "linkproc": true,
}

// path draws a path: mostly one that exists, or where one is to be made, one in a
// directory that may exist.
func (st *modelState) path(t *rapid.T, label string, free bool) rawText {
	exists := drawIndex(t, label+" from", 8)
	if len(st.paths) == 0 || exists == 0 || free && exists < 6 {
		return draw(t, label, st.pool)
	}
	at := draw(t, label, st.paths)
	if exists == 1 || free && exists == 7 {
		at += "/" + draw(t, "name", modelNames)
	}
	return at
}

// drawSlot draws a slot: mostly one that is taken, or one that is not.
func drawSlot(t *rapid.T, label string, base, n int, taken []int, want bool) int {
	var fit []int
	for slot := base; slot < base+n; slot++ {
		if slices.Contains(taken, slot) == want || drawIndex(t, label+" anyhow", 64) == 63 {
			fit = append(fit, slot)
		}
	}
	if len(fit) == 0 {
		return base
	}
	return draw(t, label, fit)
}

func draw[V any](t *rapid.T, label string, of []V) V { return of[drawIndex(t, label, len(of))] }

// drawIndex draws a number below n, each as often as the others: of numbers rapid prefers the
// small ones by far, of bits neither.
func drawIndex(t *rapid.T, label string, n int) int { return evenly.Draw(t, label) * n >> evenBits }

const evenBits = 16

var evenly = rapid.Custom(func(t *rapid.T) (n int) {
	for range evenBits {
		n <<= 1
		if rapid.Bool().Draw(t, "bit") {
			n |= 1
		}
	}
	return n
})

// drawDetails draws the fields that a kind has use for.
func drawDetails(t *rapid.T, op *modelOp, st *modelState) {
	switch op.Kind {
	case "open":
		op.Flags, op.Mode = draw(t, "flags", modelOpens), draw(t, "mode", modelModes)
	case "mkdir", "mkfifo", "chmod", "fchmod":
		op.Mode = draw(t, "mode", modelModes)
	case "mknod":
		node := draw(t, "node", modelNodes)
		op.Mode, op.Rdev = node.mode|draw(t, "mode", modelModes), node.rdev
	case "umask":
		op.Mode = draw(t, "mask", modelUmasks)
	case "limit":
		op.Size = draw(t, "size", modelLimits)
	case "access":
		op.Mode = uint32(drawIndex(t, "mode", 8))
	case "chown", "fchown":
		op.UID, op.GID = draw(t, "uid", modelIDs), draw(t, "gid", modelIDs)
		if op.UID == -1 && op.GID == -1 {
			// FUSE is not told that it is a chown, and can't refuse it to others than the owner.
			op.GID = modelUser
		}
	case "link":
		op.To, op.Flags = st.path(t, "to", true), draw(t, "flags", []int{0, 0, unix.AT_SYMLINK_FOLLOW})
	case "rename":
		op.To, op.Flags = st.path(t, "to", drawIndex(t, "to what is free", 2) == 0), draw(t, "flags", modelRenames)
	case "symlink":
		op.To = draw(t, "target", modelTargets)
	case "utimens", "futimens":
		op.Atime, op.Mtime = draw(t, "atime", modelStamps), draw(t, "mtime", modelStamps)
	case "flock":
		op.Flags = draw(t, "how", []int{unix.LOCK_SH, unix.LOCK_EX, unix.LOCK_UN})
	case "lock", "lockofd", "getlock", "getofd":
		op.Flags = draw(t, "type", []int{unix.F_RDLCK, unix.F_WRLCK, unix.F_WRLCK, unix.F_UNLCK})
		op.Offset, op.Size = draw(t, "from", []int64{0, 0, 10, 100}), draw(t, "length", []int64{0, 1, 10, 95})
	case "map":
		op.Flags = draw(t, "kind of mapping", []int{unix.MAP_SHARED, unix.MAP_SHARED, unix.MAP_PRIVATE})
		op.Offset, op.Size = draw(t, "offset", modelOffsets), draw(t, "size", modelSizes[1:])
	case "seek":
		op.Offset = draw(t, "offset", append([]int64{-1}, modelOffsets...))
		op.Flags = draw(t, "whence", []int{unix.SEEK_SET, unix.SEEK_CUR, unix.SEEK_END})
	case "truncate", "ftruncate":
		op.Size = draw(t, "size", append([]int64{-1, 1 << 60, 1 << 62}, modelFar...))
	case "patch":
		op.Offset = draw(t, "offset", []int64{0, 4096, 65536, 1 << 20}) + draw(t, "in the unit", []int64{0, 7, 4000})
		op.Size, op.Seed = draw(t, "size", []int64{1, 96}), drawSeed(t)
	case "fallocate":
		op.Flags = draw(t, "mode", modelAllocs)
		op.Offset, op.Size = draw(t, "offset", append([]int64{-1}, modelOffsets...)), draw(t, "size", append([]int64{-1}, modelSizes...))
	case "copyrange":
		op.Offset, op.Offset2 = draw(t, "from", append([]int64{-1}, modelOffsets...)), draw(t, "to", append([]int64{-1}, modelOffsets...))
		op.Size = draw(t, "size", modelSizes)
	case "sparse":
		op.Offset, op.Offset2 = draw(t, "offset", []int64{0, wholeExtent}), draw(t, "last", []int64{0, 1 << 24, 1 << 34})
		op.Mode, op.Seed = draw(t, "mode", modelModes), drawSeed(t)
	case "preadv", "pwritev":
		op.Offset, op.Size, op.Seed = draw(t, "offset", append([]int64{-1}, modelOffsets...)), draw(t, "size", modelSizes), drawSeed(t)
		op.Flags = draw(t, "flags", []int{0, 0, unix.RWF_DSYNC, unix.RWF_SYNC, unix.RWF_APPEND})
	case "write", "pwrite", "read", "pread", "store", "mapstore", "writefile":
		op.Offset, op.Size, op.Seed = draw(t, "offset", modelFar), draw(t, "size", modelSizes), drawSeed(t)
		op.Mode, op.Flags = draw(t, "mode", modelModes), draw(t, "flags", []int{unix.O_TRUNC, unix.O_TRUNC, 0, unix.O_APPEND, unix.O_EXCL})
	default:
		drawAttribute(t, op)
	}
}

func drawSeed(t *rapid.T) uint64 { return 1 + uint64(drawIndex(t, "seed", 1000)) }

// drawAttribute draws what the operations on extended attributes are about.
func drawAttribute(t *rapid.T, op *modelOp) {
	op.Flags = draw(t, "flags", []int{0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE})
	switch op.Kind {
	case "setxattr", "fsetxattr", "getxattr", "removexattr":
		op.To, op.Size = draw(t, "attribute", modelXattrs), draw(t, "size", modelXattrSizes)
		op.Seed = uint64(op.Size)
	case "setcap":
		op.To, op.Value = "security.capability", draw(t, "capability", modelCapabilities)
	case "setacl", "getacl", "removeacl":
		op.To, op.Size = draw(t, "list", []rawText{accessACL, accessACL, defaultACL}), draw(t, "size", []int64{0, 28, 100})
		if op.Kind == "setacl" {
			op.Value = drawACL(t)
		}
	default:
		op.Flags = 0
	}
}
