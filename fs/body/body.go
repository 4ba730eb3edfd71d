// Package body keeps bodies: local files with the current content of inodes.
//
// Words. A body is whole when it holds everything its inode has, 1:1 from offset
// 0. A sparse body holds the units (4 KiB) that were changed, at their own
// offsets, over a settled content that lies elsewhere; its map says which.
//
// Invariants:
//
//   - What Write returned for survives a kill of the daemon: the data and the live
//     map lie in the page cache of files by then.
//   - What Sync returned for survives a power cut: the data first, then the synced map
//     beside it, replaced as a whole. A unit is in the synced map only when its data
//     was synced before.
//   - After a power cut the synced map counts and after a kill the live one; which of
//     the two it was the caller knows.
//
// On disk: a body lies in the directory that is named by the last hexadecimal digit of its
// id. NAME is the data; NAME.live is the map as of the last write and NAME.synced
// as of the last Sync, one bit a unit with the first unit in the lowest bit of the
// first byte, the synced map followed by a CRC-32C of its bytes, little-endian.
package body

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"stasis/store"
)

const (
	liveSuffix   = ".live"
	syncedSuffix = ".synced"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// shards is how many directories bodies are spread over, so that programs that make
// files at once don't wait for one another at one directory.
const shards = 16

// Dir is the directory that bodies lie in.
type Dir struct {
	path   string
	f      *os.File
	shards [shards]*os.File

	mu     sync.Mutex
	spares []store.CrateID // empty files, to be bodies again
}

// OpenDir opens the directory of bodies, which must exist, and makes what is missing in
// it.
func OpenDir(path string) (*Dir, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, f: f}
	if err := d.openShards(); err != nil {
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

// SyncAll makes every body written so far durable, with its name: one syncfs for
// the whole filesystem, which is what makes thousands of small bodies cheap.
func (d *Dir) SyncAll() error { return unix.Syncfs(int(d.f.Fd())) }

// syncName makes the name of a body durable.
func (d *Dir) syncName(id store.CrateID) error { return d.shards[shardOf(id)].Sync() }

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

// Recycle empties a body that nothing names any more and keeps its file for a new one:
// that is cheaper than to remove it and make another, the more so as ext4 passes over
// inodes that were freed a moment ago one by one. The spares of a run that ended are
// empty files that nothing names.
func (d *Dir) Recycle(id store.CrateID) error {
	d.mu.Lock()
	full := len(d.spares) >= maxSpares
	d.mu.Unlock()
	if full {
		return d.Remove(id)
	}
	switch err := os.Truncate(d.Path(id), 0); {
	case os.IsNotExist(err):
		return d.Remove(id)
	case err != nil:
		return errors.Join(err, d.Remove(id))
	}
	for _, suffix := range []string{liveSuffix, syncedSuffix} {
		if err := os.Remove(d.Path(id) + suffix); err != nil && !os.IsNotExist(err) {
			return errors.Join(err, d.Remove(id))
		}
	}
	d.mu.Lock()
	d.spares = append(d.spares, id)
	d.mu.Unlock()
	return nil
}

// wantSpares is how many empty files are made ahead of use.
const wantSpares = 1024

// Prepare makes up to n empty files ahead of use, so that programs that make many files
// at once need not wait for it.
func (d *Dir) Prepare(n int) error {
	d.mu.Lock()
	n = min(n, wantSpares-len(d.spares))
	d.mu.Unlock()
	for range n {
		id := store.NewCrateID()
		f, err := os.OpenFile(d.Path(id), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		d.mu.Lock()
		d.spares = append(d.spares, id)
		d.mu.Unlock()
	}
	return nil
}

// spare opens a file that was recycled, if there is one.
func (d *Dir) spare() (id store.CrateID, f *os.File) {
	d.mu.Lock()
	if n := len(d.spares); n > 0 {
		id, d.spares = d.spares[n-1], d.spares[:n-1]
	}
	d.mu.Unlock()
	if id.IsZero() {
		return id, nil
	}
	f, err := os.OpenFile(d.Path(id), os.O_RDWR, 0)
	if err != nil {
		return id, nil // somebody took it away: a new file does as well
	}
	return id, f
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

// Body is one open body. Reads may run beside each other; the caller keeps
// everything else apart from everything.
type Body struct {
	ID    store.CrateID
	dir   *Dir
	whole bool
	held  Map
	// synced is the map as it lies in the .synced file; nil: not known, write it.
	syncedMap []byte
	named     bool // the name was synced

	open sync.Mutex // guards f and live, opened on first use
	f    *os.File
	live *os.File
}

// Create makes an empty body.
func (d *Dir) Create(whole bool) (b *Body, err error) {
	b = &Body{dir: d, whole: whole}
	if b.ID, b.f = d.spare(); b.f == nil {
		b.ID = store.NewCrateID()
		if b.f, err = os.OpenFile(d.Path(b.ID), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return nil, err
		}
	}
	if !whole {
		if b.live, err = os.OpenFile(d.Path(b.ID)+liveSuffix, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return nil, errors.Join(err, b.Release(), d.Remove(b.ID))
		}
	}
	return b, nil
}

// Load opens a body that an earlier run made: with its live map, or after a power
// cut with its synced one, which becomes the live one.
func (d *Dir) Load(id store.CrateID, whole, afterCut bool) (*Body, error) {
	b := &Body{ID: id, dir: d, whole: whole}
	if _, err := b.file(); err != nil {
		return nil, err
	}
	if whole {
		return b, nil
	}
	if !afterCut {
		raw, err := os.ReadFile(d.Path(id) + liveSuffix)
		if err != nil {
			return nil, errors.Join(err, b.Release())
		}
		b.held = mapOf(raw)
		return b, nil
	}
	raw, err := readSynced(d.Path(id) + syncedSuffix)
	if err != nil {
		return nil, errors.Join(err, b.Release())
	}
	b.held = mapOf(raw)
	if err := os.WriteFile(d.Path(id)+liveSuffix, raw, 0o600); err != nil {
		return nil, errors.Join(err, b.Release())
	}
	return b, nil
}

func readSynced(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	n := len(raw) - 4
	if n < 0 || crc32.Checksum(raw[:n], castagnoli) != binary.LittleEndian.Uint32(raw[n:]) {
		return nil, &store.Error{Kind: store.Corrupt, Op: "read the map of a body", Subject: path}
	}
	return raw[:n], nil
}

// file opens the data on first use.
func (b *Body) file() (*os.File, error) {
	b.open.Lock()
	defer b.open.Unlock()
	if b.f == nil {
		f, err := os.OpenFile(b.dir.Path(b.ID), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		b.f = f
	}
	return b.f, nil
}

func (b *Body) liveFile() (*os.File, error) {
	b.open.Lock()
	defer b.open.Unlock()
	if b.live == nil {
		f, err := os.OpenFile(b.dir.Path(b.ID)+liveSuffix, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		b.live = f
	}
	return b.live, nil
}

// Release closes the files; the next use opens them again.
func (b *Body) Release() error {
	b.open.Lock()
	defer b.open.Unlock()
	var errs error
	for _, f := range []**os.File{&b.f, &b.live} {
		if *f != nil {
			errs = errors.Join(errs, (*f).Close())
			*f = nil
		}
	}
	return errs
}

// Whole reports whether the body holds everything.
func (b *Body) Whole() bool { return b.whole }

// MakeWhole says that the body holds everything from now on: what it has not
// written is a hole.
func (b *Body) MakeWhole() { b.whole = true }

// Path is the file of the data.
func (b *Body) Path() string { return b.dir.Path(b.ID) }

// Size is the length of the data in bytes, which is that of the inode.
func (b *Body) Size() (int64, error) {
	f, err := b.file()
	if err != nil {
		return 0, err
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Modified is when the data was last changed, in nanoseconds since the epoch.
func (b *Body) Modified() (int64, error) {
	f, err := b.file()
	if err != nil {
		return 0, err
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.ModTime().UnixNano(), nil
}

// Blocks is how much of the data lies on the disk, in units of 512 bytes.
func (b *Body) Blocks() (int64, error) {
	f, err := b.file()
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: b.Path(), Err: err}
	}
	return st.Blocks, nil
}

// Held gives the length of the run of bytes from off, up to end, that lies wholly
// in the body, or wholly not.
func (b *Body) Held(off, end int64) (n int64, held bool) {
	if b.whole {
		return end - off, true
	}
	u := off / Unit
	units, held := b.held.Run(u, (end+Unit-1)/Unit)
	return min((u+units)*Unit, end) - off, held
}

// ReadAt fills p from the body; past the end of the data it gives zeros.
func (b *Body) ReadAt(p []byte, off int64) error {
	f, err := b.file()
	if err != nil {
		return err
	}
	for len(p) > 0 {
		n, err := unix.Pread(int(f.Fd()), p, off)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return &os.PathError{Op: "read", Path: b.Path(), Err: err}
		case n == 0:
			clear(p)
			return nil
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// Write puts p at off. A unit that a sparse body did not hold and of which p is only
// a part reads as zeros beside it: the caller writes what belongs there first. When
// it returns, a kill of the daemon loses nothing.
func (b *Body) Write(p []byte, off int64) error {
	f, err := b.file()
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(p, off); err != nil {
		return err
	}
	if b.whole {
		return nil
	}
	from, to := off/Unit, (off+int64(len(p))+Unit-1)/Unit
	if !b.held.set(from, to) {
		return nil
	}
	live, err := b.liveFile()
	if err != nil {
		return err
	}
	first, last := from/8, (to+7)/8
	_, err = live.WriteAt(b.held.slice(first, last), first)
	return err
}

// Truncate sets the length of the data.
func (b *Body) Truncate(size int64) error {
	f, err := b.file()
	if err != nil {
		return err
	}
	if b.whole {
		return f.Truncate(size)
	}
	// A map without its data shows zeros where there was content, data without its
	// map shows the old content: so the map goes first, and what it gives up lies past
	// the new end.
	b.held.cut((size + Unit - 1) / Unit)
	live, err := b.liveFile()
	if err != nil {
		return err
	}
	if _, err := live.WriteAt(b.held.bytes(), 0); err != nil {
		return err
	}
	return f.Truncate(size)
}

// Sync makes the body as it is durable, its name included: data, then map.
func (b *Body) Sync() error {
	f, err := b.file()
	if err != nil {
		return err
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return &os.PathError{Op: "sync", Path: b.Path(), Err: err}
	}
	if err := b.syncMap(); err != nil {
		return err
	}
	if b.named {
		return nil
	}
	if err := b.dir.syncName(b.ID); err != nil {
		return err
	}
	b.named = true
	return nil
}

// SyncData makes the data and the name durable. It may run beside writes, of which it
// then covers some; MarkSynced must follow when there were none.
func (b *Body) SyncData() error {
	f, err := b.file()
	if err != nil {
		return err
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return &os.PathError{Op: "sync", Path: b.Path(), Err: err}
	}
	return b.dir.syncName(b.ID)
}

// MarkSynced records that the data and the name were made durable by SyncData or by
// Dir.SyncAll, and writes the map.
func (b *Body) MarkSynced() error {
	b.named = true
	if err := b.syncMap(); err != nil {
		return err
	}
	if b.named {
		return nil
	}
	b.named = true
	return b.dir.syncName(b.ID)
}

// syncMap replaces the synced map; the data is durable by now.
func (b *Body) syncMap() error {
	if b.whole {
		return nil
	}
	raw := b.held.bytes()
	if b.syncedMap != nil && string(b.syncedMap) == string(raw) {
		return nil
	}
	path := b.dir.Path(b.ID) + syncedSuffix
	if err := replaceFile(path, binary.LittleEndian.AppendUint32(raw[:len(raw):len(raw)], crc32.Checksum(raw, castagnoli))); err != nil {
		return err
	}
	b.syncedMap, b.named = raw, false
	return nil
}

// replaceFile writes a file so that its old or its new content is there, whatever
// happens; the name is durable after the next sync of the directory.
func replaceFile(path string, p []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(p); err == nil {
		err = unix.Fdatasync(int(f.Fd()))
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}

// Data gives the ranges of a body, rounded out to whole blocks and cut at size,
// that may hold anything but zeros: those of the map, or for a whole body those that
// the filesystem says are no holes.
func (b *Body) Data(size int64) ([]Span, error) {
	if !b.whole {
		return b.dirty(size), nil
	}
	var spans []Span
	for at := int64(0); at < size; {
		from, to, err := b.NextData(at)
		if err != nil {
			return nil, err
		}
		spans = addBlocks(spans, from, to, size)
		at = to
	}
	return spans, nil
}

// NextData gives the first run of bytes from off on, [from, to), that the filesystem
// does not hold for a hole; both lie past every file if there is none.
func (b *Body) NextData(off int64) (from, to int64, err error) {
	f, err := b.file()
	if err != nil {
		return 0, 0, err
	}
	from, err = unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch err {
	case nil:
	case unix.ENXIO:
		return math.MaxInt64, math.MaxInt64, nil
	case unix.EINVAL, unix.EOPNOTSUPP:
		return off, math.MaxInt64, nil // a filesystem that knows no holes
	default:
		return 0, 0, &os.PathError{Op: "seek data", Path: b.Path(), Err: err}
	}
	if to, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
		return 0, 0, &os.PathError{Op: "seek hole", Path: b.Path(), Err: err}
	}
	return from, to, nil
}

// Span is a run of bytes of a body.
type Span struct{ Offset, Length int64 }

func (b *Body) dirty(size int64) []Span {
	var spans []Span
	units := (size + Unit - 1) / Unit
	for u := int64(0); u < units; {
		n, held := b.held.Run(u, units)
		if held {
			spans = addBlocks(spans, u*Unit, (u+n)*Unit, size)
		}
		u += n
	}
	return spans
}

// addBlocks adds [from, to), rounded out to blocks and cut at size, to spans that
// lie before it.
func addBlocks(spans []Span, from, to, size int64) []Span {
	from = from / store.BlockSize * store.BlockSize
	if to = min(to, size); to < size {
		to = min((to+store.BlockSize-1)/store.BlockSize*store.BlockSize, size)
	}
	if to <= from {
		return spans
	}
	if n := len(spans); n > 0 && spans[n-1].Offset+spans[n-1].Length >= from {
		spans[n-1].Length = max(spans[n-1].Length, to-spans[n-1].Offset)
		return spans
	}
	return append(spans, Span{from, to - from})
}
