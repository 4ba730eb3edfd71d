package integration

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// contentMark stands before the digest of a regular file's content.
const contentMark = " content "

// snapshot describes a whole tree: a line of every path, and which paths are one inode.
func (s *side) snapshot() (map[string]string, error) {
	all := map[string]string{}
	first := map[uint64]string{}
	err := s.walk(".", all, first)
	return all, err
}

// sameBirth tests that an inode seen before was born when it was.
func (s *side) sameBirth(path string) error {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME|unix.STATX_INO, &st); err != nil {
		return fmt.Errorf("statx %s: %w", path, err)
	}
	if was, seen := s.births[st.Ino]; seen && was != st.Btime {
		return fmt.Errorf("%q, the inode %d, was born at %d.%09d and now at %d.%09d", path, st.Ino, was.Sec, was.Nsec, st.Btime.Sec, st.Btime.Nsec)
	}
	s.births[st.Ino] = st.Btime
	return nil
}

func (s *side) walk(rel string, all map[string]string, first map[uint64]string) error {
	path := filepath.Join(s.root, rel)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	one, known := first[st.Ino]
	if !known {
		one = rel
		first[st.Ino] = rel
	}
	line := attributes(&st) + " same as " + one
	attrs, err := xattrs(path)
	if err != nil {
		return fmt.Errorf("extended attributes of %s: %w", path, err)
	}
	line += " attributes " + attrs
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		content, err := digest(path, st.Size)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		line += contentMark + content
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		line += " leads to " + target
	}
	all[rel] = line
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := s.walk(filepath.Join(rel, e.Name()), all, first); err != nil {
			return err
		}
	}
	return nil
}

// digest describes the content of a regular file.
func digest(path string, size int64) (string, error) {
	if size <= wholeSize {
		content, err := os.ReadFile(path)
		return fmt.Sprintf("%d %x", len(content), sha256.Sum256(content)), err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return sparseDigest(fd, size)
}

// sameTrees says where two sides differ, or nothing. births: the numbers of inodes of the
// side that is compared are never used again.
func sameTrees(want, got *side, births bool) string {
	a, err := want.snapshot()
	if err != nil {
		return "the model's side: " + err.Error()
	}
	b, err := got.snapshot()
	if err != nil {
		return "read back: " + err.Error()
	}
	for _, rel := range slices.Sorted(maps.Keys(a)) {
		if a[rel] != b[rel] {
			said := fmt.Sprintf("%q\nwant %s\n got %s", rel, a[rel], b[rel])
			if strings.Contains(a[rel], contentMark) && strings.Contains(b[rel], contentMark) {
				said += firstDifference(want, got, rel)
			}
			return said
		}
	}
	if births {
		for rel := range b {
			if err := got.sameBirth(filepath.Join(got.root, rel)); err != nil {
				return err.Error()
			}
		}
	}
	for _, rel := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[rel]; !ok {
			return fmt.Sprintf("%q\nwant nothing\n got %s", rel, b[rel])
		}
	}
	return ""
}

func firstDifference(want, got *side, rel string) string {
	var st unix.Stat_t
	if unix.Lstat(filepath.Join(want.root, rel), &st) != nil || st.Size > wholeSize {
		return ""
	}
	a, errA := os.ReadFile(filepath.Join(want.root, rel))
	b, errB := os.ReadFile(filepath.Join(got.root, rel))
	if errA != nil || errB != nil {
		return ""
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("\nthe first byte that differs is at %d: want %#x, got %#x", i, a[i], b[i])
		}
	}
	return ""
}

// errnoOf takes the wrapping off, so that two errors compare.
func errnoOf(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

// writing gives the inodes that are open for writing.
func (s *side) writing() (all []uint64) {
	add := func(fd int) {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			all = append(all, st.Ino)
		}
	}
	for _, fd := range s.files {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY {
			add(fd)
		}
	}
	for _, m := range s.maps {
		if !m.private {
			add(m.path)
		}
	}
	return all
}

// settle has the model agree with the mount about the time of the last write of inodes that
// were being written at a kill. If an attribute was changed within a few milliseconds before
// that write, a vault can't tell afterwards which came first, and keeps a time that was set.
func settle(want, got *side, unsure []uint64) error {
	return filepath.WalkDir(want.root, func(path string, _ fs.DirEntry, err error) error {
		var a, b unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &a)
		}
		if err != nil || a.Mode&unix.S_IFMT != unix.S_IFREG || !slices.Contains(unsure, a.Ino) {
			return err
		}
		if unix.Lstat(got.root+path[len(want.root):], &b) != nil || a.Mtim.Sec < longAgo || b.Mtim.Sec >= longAgo {
			return nil // what differs is found later
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{a.Atim, b.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	})
}
