package integration

import (
	"crypto/sha256"
	"errors"
	"fmt"
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
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		line += fmt.Sprintf("%s%d %x", contentMark, len(content), sha256.Sum256(content))
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

// sameTrees says where two sides differ, or nothing.
func sameTrees(want, got *side) string {
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
			said := fmt.Sprintf("%s\nwant %s\n got %s", rel, a[rel], b[rel])
			if strings.Contains(a[rel], contentMark) && strings.Contains(b[rel], contentMark) {
				said += firstDifference(want, got, rel)
			}
			return said
		}
	}
	for _, rel := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[rel]; !ok {
			return fmt.Sprintf("%s\nwant nothing\n got %s", rel, b[rel])
		}
	}
	return ""
}

func firstDifference(want, got *side, rel string) string {
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
