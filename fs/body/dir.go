package body

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// shards is how many directories bodies are spread over, so that programs that make
// files at once don't wait for one another at one directory.
const shards = 16

// Dir is the directory that bodies lie in.
type Dir struct {
	path   string
	f      *os.File
	shards [shards]*os.File

	// Acted, unless nil, is told of each thing that was done to a file: tests look at what a kill
	// leaves.
	Acted func()
	// SyncFile makes the data of a file durable, or what a directory has; tests have it fail.
	SyncFile func(fd int) error

	opened   atomic.Int64 // files of bodies
	mostOpen int64        // how many there may be

	mu     sync.Mutex
	spares []store.CrateID            // empty files, to be bodies again
	pins   map[store.CrateID]int      // how often each body is open to be read
	going  map[store.CrateID]struct{} // bodies whose files are being emptied
}

// OpenDir opens the directory of bodies, which must exist, and makes what is missing in
// it.
func OpenDir(path string) (*Dir, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, f: f, SyncFile: unix.Fdatasync, pins: make(map[store.CrateID]int), going: make(map[store.CrateID]struct{})}
	d.mostOpen, err = descriptors()
	if err == nil {
		err = d.openShards()
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Dir) openShards() (err error) {
	fresh := false
	for i := range d.shards {
		path := d.shardPath(i)
		switch err := os.Mkdir(path, 0o700); {
		case err == nil:
			fresh = true
		case !os.IsExist(err):
			return err
		}
		if d.shards[i], err = os.Open(path); err != nil {
			return err
		}
	}
	if fresh {
		return d.f.Sync()
	}
	return nil
}

// Close gives up the directory.
func (d *Dir) Close() error {
	errs := d.f.Close()
	for _, f := range d.shards {
		if f != nil {
			errs = errors.Join(errs, f.Close())
		}
	}
	return errs
}

// Root is the directory itself.
func (d *Dir) Root() string { return d.path }

func shardOf(id store.CrateID) int { return int(id[len(id)-1] % shards) }

func (d *Dir) shardPath(i int) string {
	return filepath.Join(d.path, strconv.FormatInt(int64(i), shards))
}

// Path is the file of a body.
func (d *Dir) Path(id store.CrateID) string {
	return filepath.Join(d.shardPath(shardOf(id)), id.String())
}

func (d *Dir) acted() {
	if d.Acted != nil {
		d.Acted()
	}
}

// SyncAll makes every body written so far durable, with its name: one syncfs for
// the whole filesystem, which is what makes thousands of small bodies cheap.
func (d *Dir) SyncAll() error { return unix.Syncfs(int(d.f.Fd())) }

// syncName makes the name of a body durable.
func (d *Dir) syncName(id store.CrateID) error {
	f := d.shards[shardOf(id)]
	if err := d.SyncFile(int(f.Fd())); err != nil {
		return &os.PathError{Op: "sync", Path: f.Name(), Err: err}
	}
	return nil
}

// Device tells the filesystem that bodies lie on, as st_dev does; 0 if that can't be told.
func (d *Dir) Device() uint64 {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.f.Fd()), &st); err != nil {
		return 0
	}
	return st.Dev
}

// Room is how many bytes bodies may still take on their filesystem.
func (d *Dir) Room() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.f.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: d.path, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Remove deletes a body and its maps. A body that is not there is fine.
func (d *Dir) Remove(id store.CrateID) error {
	defer d.acted()
	var errs error
	for _, suffix := range []string{"", liveSuffix, syncedSuffix} {
		if err := os.Remove(d.Path(id) + suffix); err != nil && !os.IsNotExist(err) {
			errs = errors.Join(errs, err)
		}
	}
	return errs
}

// maxSpares is how many empty files are kept for new bodies.
const maxSpares = 4096

// Recycle empties a body that nothing names any more and keeps its file, under another id, for a
// new one: that is cheaper than to remove it and make another, the more so as ext4 passes over
// inodes that were freed a moment ago one by one. An id names one body for ever; a file that
// somebody reads, by an id looked up before, is removed and not used again. The spares of a run
// that ended are empty files that nothing names.
func (d *Dir) Recycle(id store.CrateID) error {
	if !d.mayEmpty(id) {
		return d.Remove(id)
	}
	defer d.emptied(id)
	switch err := os.Truncate(d.Path(id), 0); {
	case os.IsNotExist(err):
		return d.Remove(id)
	case err != nil:
		return errors.Join(err, d.Remove(id))
	}
	d.acted()
	for _, suffix := range []string{liveSuffix, syncedSuffix} {
		if err := os.Remove(d.Path(id) + suffix); err != nil && !os.IsNotExist(err) {
			return errors.Join(err, d.Remove(id))
		}
	}
	d.acted()
	fresh := store.NewCrateID()
	fresh[len(fresh)-1] = fresh[len(fresh)-1]&^(shards-1) | id[len(id)-1]&(shards-1) // it stays in its directory
	if err := os.Rename(d.Path(id), d.Path(fresh)); err != nil {
		return errors.Join(err, d.Remove(id))
	}
	d.addSpare(fresh)
	d.acted()
	return nil
}

// mayEmpty reports whether the file of a body can be used again, and keeps it from being opened
// until emptied.
func (d *Dir) mayEmpty(id store.CrateID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.spares) >= maxSpares || d.pins[id] > 0 {
		return false
	}
	d.going[id] = struct{}{}
	return true
}

func (d *Dir) emptied(id store.CrateID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.going, id)
}

// wantSpares is how many empty files are made ahead of use.
const wantSpares = maxSpares

// Prepare makes up to n empty files ahead of use, so that programs that make many files
// at once need not wait for it.
func (d *Dir) Prepare(n int) error {
	d.mu.Lock()
	n = min(n, wantSpares-len(d.spares))
	d.mu.Unlock()
	for range n {
		id := store.NewCrateID()
		f, err := openFile(d.Path(id), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		d.addSpare(id)
	}
	return nil
}

func (d *Dir) addSpare(id store.CrateID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spares = append(d.spares, id)
}

// spare gives the id of a file that was recycled or made ahead, or of none.
func (d *Dir) spare() (id store.CrateID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.spares); n > 0 {
		id, d.spares = d.spares[n-1], d.spares[:n-1]
	}
	return id
}

// SetAside moves a body's data into the directory "aside" beside the bodies, for a
// person to look at, and gives its new path.
func (d *Dir) SetAside(id store.CrateID, name string) (string, error) {
	aside := filepath.Join(d.path, "aside")
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return "", err
	}
	to := filepath.Join(aside, name)
	if err := os.Rename(d.Path(id), to); err != nil {
		return "", err
	}
	return to, d.Remove(id)
}

// Unwritten reports whether nothing was ever written to a body, whatever its size is.
func (d *Dir) Unwritten(id store.CrateID) bool {
	f, err := openFile(d.Path(id), unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	return errors.Is(err, unix.ENXIO)
}

// List gives the ids of all bodies that lie there.
func (d *Dir) List() ([]store.CrateID, error) {
	var ids []store.CrateID
	for i := range d.shards {
		entries, err := os.ReadDir(d.shardPath(i))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if id, err := store.ParseCrateID(e.Name()); err == nil && shardOf(id) == i {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}
