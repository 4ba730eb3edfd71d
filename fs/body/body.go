package body

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"stasis/store"
)

const (
	liveSuffix   = ".live"
	syncedSuffix = ".synced"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

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
	// dense is up to where a whole body is known to have no holes, in bytes.
	dense int64
	// past is up to where room past the end of the data may have been made, in bytes.
	past int64

	open sync.Mutex // guards f and live, opened on first use
	f    *os.File
	live *os.File
}

// Create makes an empty body.
func (d *Dir) Create(whole bool) (b *Body, err error) {
	b = &Body{dir: d, whole: whole}
	if b.ID, b.f = d.openSpare(); b.f == nil {
		b.ID = store.NewCrateID()
		if b.f, err = openFile(d.Path(b.ID), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL); err != nil {
			return nil, err
		}
	}
	if !whole {
		if b.live, err = openFile(d.Path(b.ID)+liveSuffix, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL); err != nil {
			return nil, errors.Join(err, b.Release(), d.Remove(b.ID))
		}
	}
	return b, nil
}

// Blank makes an empty whole body ahead of use. Open must come before it is used.
func (d *Dir) Blank() (*Body, error) {
	b := &Body{dir: d, whole: true, ID: d.spare()}
	if !b.ID.IsZero() {
		return b, nil
	}
	b.ID = store.NewCrateID()
	f, err := openFile(d.Path(b.ID), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return nil, err
	}
	return b, f.Close()
}

// Open opens the data of a body, which every use does by itself: an error says that the
// file is not there, or can't be used.
func (b *Body) Open() error {
	_, err := b.file()
	return err
}

// openFile is os.OpenFile for regular files, without asking whether they can be polled,
// which costs five more system calls.
func openFile(path string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		default:
			return os.NewFile(uintptr(fd), path), nil
		}
	}
}

// Load opens a body that an earlier run made: with its live map, or after a power
// cut with its synced one, which becomes the live one.
func (d *Dir) Load(id store.CrateID, whole, afterCut bool) (*Body, error) {
	b := &Body{ID: id, dir: d, whole: whole, past: math.MaxInt64}
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
		f, err := openFile(b.dir.Path(b.ID), unix.O_RDWR)
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
		f, err := openFile(b.dir.Path(b.ID)+liveSuffix, unix.O_RDWR)
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

// Stamp notes with the file, where it survives a kill, that its content was that of an
// inode's last write at a time, in nanoseconds since the epoch.
func (b *Body) Stamp(ino uint64, at int64) error {
	f, err := b.file()
	if err != nil {
		return err
	}
	ts := []unix.Timespec{stampOf(ino), unix.NsecToTimespec(at)}
	if err := unix.UtimesNanoAt(int(f.Fd()), "", ts, unix.AT_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "set times", Path: b.Path(), Err: err}
	}
	return nil
}

// stampOf is the time of last access that tells a stamp: one that no file has by itself, and
// that a file used again does not have from its earlier life.
func stampOf(ino uint64) unix.Timespec {
	return unix.Timespec{Sec: 1, Nsec: int64(ino % 1e9)}
}

// Modified is when the data was last changed, in nanoseconds since the epoch: as Stamp has
// said for this inode, or the filesystem.
func (b *Body) Modified(ino uint64) (at int64, stamped bool, err error) {
	f, err := b.file()
	if err != nil {
		return 0, false, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, false, &os.PathError{Op: "stat", Path: b.Path(), Err: err}
	}
	return st.Mtim.Nano(), st.Atim == stampOf(ino), nil
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
		if off <= b.dense {
			b.dense = max(b.dense, off+int64(len(p)))
		}
		return nil
	}
	return b.hold(off, off+int64(len(p)))
}

// hold notes that a sparse body holds every unit of [off, end), whose data is in place.
func (b *Body) hold(off, end int64) error {
	from, to := off/Unit, (end+Unit-1)/Unit
	if b.whole || !b.held.set(from, to) {
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
	b.dense = min(b.dense, size)
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
