package integration

import (
	"strings"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// The pools are small, so that operations meet each other's results.
var (
	modelPaths = func() []string {
		names := []string{"a", "b", "c", "d"}
		all := append([]string{}, names...)
		for _, x := range names {
			for _, y := range names {
				// Two deep as often as one deep.
				all = append(all, x+"/"+y)
			}
			all = append(all, x, x, x, "a/b/"+x, "c/d/"+x)
		}
		return append(all, "a/.", "b/", "Ünï cödé\n", strings.Repeat("n", 255), strings.Repeat("n", 256), ".")
	}()
	modelTargets = []string{"a", "b", "c", "a/b", "b/c", "c/d/a", "d/.", strings.Repeat("t", 200), strings.Repeat("u/", 2000)}
	modelXattrs  = []string{"user.one", "user.two", "user.three", "trusted.four", "user.", "nothing.five"}
	modelModes   = []uint32{0o644, 0o600, 0o666, 0o755, 0o777, 0o700, 0o444, 0, 0o4755, 0o2755, 0o2777, 0o1777, 0o6711}
	modelIDs     = []int{0, modelUser, 1001, -1}
	modelSizes   = []int64{0, 1, 10, 100, 4095, 4096, 4097, 5000, 12288, 65536, 131072, 300_000, 1 << 20, 1<<20 + 1}
	modelOffsets = []int64{0, 0, 0, 1, 100, 4095, 4096, 4097, 8192, 20_000, 65536, 131071, 1<<20 - 1, 1 << 20, 1<<20 + 4096, 3 << 20}
	modelStamps  = [][2]int64{{0, 0}, {1_000_000_000, 123_456_789}, {-1, 1}, {1_200_000_000, 999_999_999}, {0, unix.UTIME_NOW}, {0, unix.UTIME_OMIT}}
	modelAllocs  = []int{
		0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_UNSHARE_RANGE, 1 << 20,
	}
	modelOpens = []int{
		unix.O_RDONLY, unix.O_RDWR, unix.O_RDWR | unix.O_CREAT, unix.O_RDWR | unix.O_CREAT, unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC,
		unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT, unix.O_RDWR | unix.O_APPEND,
		unix.O_RDWR | unix.O_TRUNC, unix.O_RDONLY | unix.O_DIRECTORY, unix.O_RDWR | unix.O_NOFOLLOW, unix.O_RDWR | unix.O_TMPFILE, unix.O_RDWR | unix.O_SYNC,
	}
)

// modelUser is the user of the worker that is not root.
const modelUser = 1000

// weights say how often a kind is drawn.
var weights = map[string]int{
	"open": 12, "close": 8, "write": 8, "pwrite": 8, "read": 3, "pread": 4, "seek": 1, "ftruncate": 3, "fallocate": 5, "fsync": 3, "fdatasync": 1,
	"fstat": 2, "fchmod": 1, "fchown": 1, "dup": 1, "linkfile": 1, "store": 3,
	"writefile": 8, "readfile": 6, "mkdir": 6, "rmdir": 3, "unlink": 4, "rename": 10, "link": 4, "symlink": 3, "readlink": 1, "mkfifo": 1,
	"chmod": 3, "chown": 2, "truncate": 4, "utimens": 3, "setxattr": 3, "getxattr": 2, "removexattr": 2, "listxattr": 1, "readdir": 4, "stat": 4,
	"patch": 3,
}

// undivided are the kinds that a kill leaves done or not done, never in between.
var undivided = []string{"mkdir", "rmdir", "unlink", "rename", "rename", "link", "symlink", "chmod", "chown", "truncate", "utimens", "setxattr", "removexattr", "patch", "patch", "patch", "stat"}

var allKinds = func() []string {
	all := []string{}
	for _, kinds := range []map[string]bool{kindsOf(pathOps), kindsOf(fileOps)} {
		for kind := range kinds {
			for range weights[kind] {
				all = append(all, kind)
			}
		}
	}
	return sorted(all)
}()

// drawOp draws one operation, whose files are in the slots from base on.
func drawOp(t *rapid.T, kinds []string, base int) modelOp {
	pick := func(label string, of []string) string { return rapid.SampledFrom(of).Draw(t, label) }
	op := modelOp{Kind: pick("kind", kinds)}
	_, named := pathOps[op.Kind]
	if named || op.Kind == "linkfile" {
		op.Path = pick("path", modelPaths)
	}
	if !named || op.Kind == "open" {
		op.Slot = base + rapid.IntRange(0, modelSlots-1).Draw(t, "slot")
	}
	switch op.Kind {
	case "dup":
		op.Slot2 = base + rapid.IntRange(0, modelSlots-1).Draw(t, "slot2")
	case "open":
		op.Flags = rapid.SampledFrom(modelOpens).Draw(t, "flags")
		op.Mode = rapid.SampledFrom(modelModes).Draw(t, "mode")
	case "mkdir", "mkfifo", "chmod", "fchmod":
		op.Mode = rapid.SampledFrom(modelModes).Draw(t, "mode")
	case "chown", "fchown":
		op.UID = rapid.SampledFrom(modelIDs).Draw(t, "uid")
		op.GID = rapid.SampledFrom(modelIDs).Draw(t, "gid")
		if op.UID == -1 && op.GID == -1 {
			// FUSE is not told that it is a chown, and can't refuse it to others than the owner.
			op.GID = modelUser
		}
	case "link":
		op.To = pick("to", modelPaths)
		op.Flags = rapid.SampledFrom([]int{0, 0, unix.AT_SYMLINK_FOLLOW}).Draw(t, "flags")
	case "rename":
		op.To = pick("to", modelPaths)
		op.Flags = rapid.SampledFrom([]int{0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}).Draw(t, "flags")
	case "symlink":
		op.To = pick("target", modelTargets)
	case "utimens":
		op.Atime = rapid.SampledFrom(modelStamps).Draw(t, "atime")
		op.Mtime = rapid.SampledFrom(modelStamps).Draw(t, "mtime")
	case "setxattr", "getxattr", "removexattr":
		op.To = pick("attribute", modelXattrs)
		op.Size = rapid.SampledFrom([]int64{0, 1, 50, 200}).Draw(t, "size")
		op.Flags = rapid.SampledFrom([]int{0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE}).Draw(t, "flags")
		op.Seed = uint64(op.Size)
	case "seek":
		op.Offset = rapid.SampledFrom(append([]int64{-1}, modelOffsets...)).Draw(t, "offset")
		op.Flags = rapid.SampledFrom([]int{unix.SEEK_SET, unix.SEEK_CUR, unix.SEEK_END}).Draw(t, "whence")
	case "truncate", "ftruncate":
		op.Size = rapid.SampledFrom(append([]int64{-1, 1 << 62}, modelOffsets...)).Draw(t, "size")
	case "fallocate":
		op.Flags = rapid.SampledFrom(modelAllocs).Draw(t, "flags")
		op.Offset = rapid.SampledFrom(append([]int64{-1, 1 << 62}, modelOffsets...)).Draw(t, "offset")
		op.Size = rapid.SampledFrom(append([]int64{-1}, modelSizes...)).Draw(t, "size")
	case "patch":
		op.Offset = rapid.SampledFrom([]int64{0, 4096, 65536, 1 << 20}).Draw(t, "offset") + rapid.SampledFrom([]int64{0, 7, 4000}).Draw(t, "in the unit")
		op.Size = rapid.SampledFrom([]int64{1, 96}).Draw(t, "size")
		op.Seed = rapid.Uint64Range(1, 1000).Draw(t, "seed")
	case "write", "pwrite", "read", "pread", "store", "writefile":
		op.Offset = rapid.SampledFrom(modelOffsets).Draw(t, "offset")
		op.Size = rapid.SampledFrom(modelSizes).Draw(t, "size")
		op.Seed = rapid.Uint64Range(1, 1000).Draw(t, "seed")
		op.Mode = rapid.SampledFrom(modelModes).Draw(t, "mode")
		op.Flags = rapid.SampledFrom([]int{unix.O_TRUNC, unix.O_TRUNC, 0, unix.O_APPEND, unix.O_EXCL}).Draw(t, "flags")
	}
	return op
}
