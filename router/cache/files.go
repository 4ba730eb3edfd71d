package cache

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// version is what the file of that name says.
const (
	version     = "stasis cache 1\n"
	versionFile = "version"
)

func folder(c store.CrateID) string {
	s := c.String()
	return s[len(s)-2:]
}

func name(k Key) string { return fmt.Sprintf("%s.%08x", k.Crate, k.Block) }

// parse is the opposite of name.
func parse(s string) (k Key, ok bool) {
	crate, number, cut := strings.Cut(s, ".")
	if !cut {
		return k, false
	}
	id, err := store.ParseCrateID(crate)
	if err != nil {
		return k, false
	}
	n, err := strconv.ParseInt(number, 16, 64)
	k = Key{id, n}
	return k, err == nil && n >= 0 && name(k) == s
}

// prepare makes the directory, and empties it if it is of another version.
func prepare(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(dir, versionFile)
	b, err := os.ReadFile(path)
	if err == nil && string(b) == version {
		return nil
	}
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for i := range 256 {
		if err := os.RemoveAll(filepath.Join(dir, fmt.Sprintf("%02x", i))); err != nil {
			return err
		}
	}
	return os.WriteFile(path, []byte(version), 0o600)
}

// write makes the file of a block. One that is cut short by a crash is seen by its length
// or its checksum.
func write(path string, data []byte) error {
	err := os.WriteFile(path, data, 0o600)
	if os.IsNotExist(err) {
		if err = os.Mkdir(filepath.Dir(path), 0o700); err == nil || os.IsExist(err) {
			err = os.WriteFile(path, data, 0o600)
		}
	}
	return err
}

// find takes the files from before into the books, the last used in front.
func (c *Cache) find() {
	var all []kept
	for i := range 256 {
		dir := filepath.Join(c.o.Dir, fmt.Sprintf("%02x", i))
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // most likely it is not there
		}
		for _, e := range entries {
			if c.ctx.Err() != nil {
				return
			}
			if b, ok := found(e); ok && len(all) < MaxFiles && folder(b.key.Crate) == filepath.Base(dir) {
				all = append(all, b)
				continue
			}
			_ = os.RemoveAll(filepath.Join(dir, e.Name())) // not ours, or too many
		}
	}
	slices.SortFunc(all, func(a, b kept) int { return b.used.Compare(a.used) })
	for _, b := range all {
		c.add(b.key, b.size, b.used, false)
	}
}

func found(e os.DirEntry) (b kept, ok bool) {
	k, ok := parse(e.Name())
	if !ok || !e.Type().IsRegular() {
		return b, false
	}
	st, err := e.Info()
	if err != nil || st.Size() < 1 || st.Size() > store.BlockSize {
		return b, false
	}
	return kept{k, onDisk(st.Size()), earlier(st.ModTime(), time.Now())}, true
}

// earlier is the first of two times: a file from the future would never go.
func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// available is what an unprivileged user may still write at dir, in bytes.
func available(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
