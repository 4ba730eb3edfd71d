package directory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// The names below a root.
const (
	tempName   = "tmp"
	cratesName = "crates"
	indexName  = "index"
	// sealedSuffix marks the file of a sealed crate: the form is told by the name, so
	// that it is known where the index is lost.
	sealedSuffix = ".sealed"
)

// tree is the open directories of a root. Files are reached from them, not by
// path: what is renamed or mounted over the root can't lead a write astray.
type tree struct {
	path   string // of the root, for messages and for the look at the marker
	root   *os.File
	temp   *os.File
	crates *os.File
	whole  bool // a syncfs of this filesystem can be relied on
	probe  probe

	mu     sync.Mutex
	shards [shards]*os.File
}

// probe is asked before each step that changes what is on the disk; its error is
// then the step's. Only tests have one.
type probe func(step string) error

func (p probe) before(step string) error {
	if p == nil {
		return nil
	}
	return p(step)
}

func fileName(id store.CrateID, form store.Form) string {
	if form == store.Sealed {
		return id.String() + sealedSuffix
	}
	return id.String()
}

func shardOf(id store.CrateID) int { return int(id[len(id)-1]) }

func shardName(i int) string { return fmt.Sprintf("%02x", i) }

func openTree(path string) (*tree, error) {
	t := &tree{path: path}
	if err := t.load(); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *tree) load() (err error) {
	if t.root, err = os.Open(t.path); err != nil {
		return err
	}
	if t.temp, err = t.dir(t.root, tempName); err != nil {
		return err
	}
	if t.crates, err = t.dir(t.root, cratesName); err != nil {
		return err
	}
	t.whole = syncsWhole(t.root)
	return nil
}

// dir opens a directory, and makes it durably where somebody removed it.
func (t *tree) dir(parent *os.File, name string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	d, err := openAt(parent, name, flags, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	err = retry(func() error { return unix.Mkdirat(int(parent.Fd()), name, 0o700) })
	if err != nil && err != unix.EEXIST {
		return nil, &os.PathError{Op: "mkdir", Path: filepath.Join(parent.Name(), name), Err: err}
	}
	if err := syncDir(parent); err != nil {
		return nil, err
	}
	return openAt(parent, name, flags, 0)
}

func openAt(d *os.File, name string, flags int, mode uint32) (*os.File, error) {
	path := filepath.Join(d.Name(), name)
	fd := -1
	err := retry(func() (err error) {
		fd, err = unix.Openat(int(d.Fd()), name, flags|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// shard gives the directory of a crate's file, and makes it where there is none.
func (t *tree) shard(id store.CrateID) (*os.File, error) { return t.shardBy(id, t.dir) }

// shardThere gives the directory of a crate's file, to look into it. fs.ErrNotExist if there
// is none: who only reads makes none.
func (t *tree) shardThere(id store.CrateID) (*os.File, error) {
	return t.shardBy(id, func(parent *os.File, name string) (*os.File, error) {
		return openAt(parent, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	})
}

func (t *tree) shardBy(id store.CrateID, open func(parent *os.File, name string) (*os.File, error)) (*os.File, error) {
	i := shardOf(id)
	t.mu.Lock()
	d := t.shards[i]
	t.mu.Unlock()
	if d != nil {
		return d, nil
	}
	// Opened without the lock: on a share it may hang, and others should not.
	d, err := open(t.crates, shardName(i))
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if have := t.shards[i]; have != nil {
		return have, d.Close()
	}
	t.shards[i] = d
	return d, nil
}

// create makes the file in tmp/ in which a crate arrives. One that is there
// already is what an abandoned attempt has left: its caller has the crate's lock.
func (t *tree) create(id store.CrateID) (*os.File, error) {
	if err := t.probe.before("create"); err != nil {
		return nil, err
	}
	return openAt(t.temp, id.String(), unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC, 0o600)
}

// drop removes a file from tmp/.
func (t *tree) drop(id store.CrateID) error {
	if err := t.probe.before("drop"); err != nil {
		return err
	}
	return removeAt(t.temp, id.String())
}

// land renames a crate's file into its place. It isn't durable yet.
func (t *tree) land(id store.CrateID, form store.Form) error {
	d, err := t.shard(id)
	if err != nil {
		return err
	}
	if err := t.probe.before("rename"); err != nil {
		return err
	}
	return renameAt(t.temp, id.String(), d, fileName(id, form))
}

func renameAt(from *os.File, name string, to *os.File, as string) error {
	err := retry(func() error { return unix.Renameat(int(from.Fd()), name, int(to.Fd()), as) })
	if err != nil {
		return &os.LinkError{Op: "rename", Old: filepath.Join(from.Name(), name), New: filepath.Join(to.Name(), as), Err: err}
	}
	return nil
}

// open opens a crate's file for reading.
func (t *tree) open(id store.CrateID, form store.Form) (*os.File, error) {
	d, err := t.shardThere(id)
	if err != nil {
		return nil, err
	}
	return openAt(d, fileName(id, form), unix.O_RDONLY|unix.O_NOFOLLOW, 0)
}

// remove unlinks a crate's file; that it isn't there is no error. It isn't durable
// yet.
func (t *tree) remove(id store.CrateID, form store.Form) error {
	d, err := t.shard(id)
	if err != nil {
		return err
	}
	if err := t.probe.before("unlink"); err != nil {
		return err
	}
	return removeAt(d, fileName(id, form))
}

func removeAt(d *os.File, name string) error {
	err := retry(func() error { return unix.Unlinkat(int(d.Fd()), name, 0) })
	if err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "unlink", Path: filepath.Join(d.Name(), name), Err: err}
	}
	return nil
}

// size tells a crate's file's size; ok is false if there is no such file.
func (t *tree) size(id store.CrateID, form store.Form) (size int64, ok bool, err error) {
	d, err := t.shardThere(id)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	var st unix.Stat_t
	name := fileName(id, form)
	err = retry(func() error { return unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err == unix.ENOENT {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, &os.PathError{Op: "stat", Path: filepath.Join(d.Name(), name), Err: err}
	}
	return st.Size, st.Mode&unix.S_IFMT == unix.S_IFREG, nil
}

// syncNames makes what was renamed or removed among these crates durable. watch,
// unless nil, was opened before any of it, for a syncfs that sees every error since.
func (t *tree) syncNames(ids []store.CrateID, watch *os.File) error {
	var seen [shards]bool
	var dirs []*os.File
	for _, id := range ids {
		if i := shardOf(id); !seen[i] {
			seen[i] = true
			d, err := t.shard(id)
			if err != nil {
				return err
			}
			dirs = append(dirs, d)
		}
	}
	if len(dirs) == 0 {
		return nil
	}
	if err := t.probe.before("sync directories"); err != nil {
		return err
	}
	if watch != nil && len(dirs) >= wholeSyncFrom && dirtyBytes() <= maxForeignDirty {
		return syncWhole(watch)
	}
	return together(len(dirs), syncers, func(i int) error { return syncDir(dirs[i]) })
}

// syncFiles makes the bytes of files durable.
func (t *tree) syncFiles(files []*os.File, watch *os.File) error {
	if len(files) == 0 {
		return nil
	}
	if err := t.probe.before("sync files"); err != nil {
		return err
	}
	if watch != nil && len(files) >= wholeSyncFrom && dirtyBytes() <= maxForeignDirty {
		return syncWhole(watch)
	}
	if len(files) > 1 {
		for _, f := range files {
			startWriting(f)
		}
	}
	return together(len(files), syncers, func(i int) error { return syncFile(files[i]) })
}

// watch opens what a syncfs needs: a file opened before the writes it is to answer
// for. nil where syncfs can't be relied on.
func (t *tree) watch() (*os.File, error) {
	if !t.whole {
		return nil, nil
	}
	return openAt(t.root, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// avail is what a user may still write, in bytes: nothing where there are no inodes left for it.
func (t *tree) avail() (int64, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(int(t.root.Fd()), &st) }); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: t.path, Err: err}
	}
	if st.Files > 0 && st.Ffree < InodeFloor {
		return 0, nil
	}
	return int64(min(st.Bavail, 1<<62/uint64(st.Bsize))) * st.Bsize, nil
}

// close gives the directories up. They were only read and synced: closing them has
// nothing to say.
func (t *tree) close() {
	for _, d := range append(t.shards[:], t.root, t.temp, t.crates) {
		if d != nil {
			_ = d.Close()
		}
	}
}
