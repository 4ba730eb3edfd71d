package body

import (
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
	// holed: some of what is held may be a hole.
	holed bool
	// mapSynced: the .synced file has the map as it is. unsaved: the .live file may lack some
	// of it.
	mapSynced, unsaved bool
	named              bool // the name was synced
	// dense is up to where a whole body is known to have no holes, in bytes.
	dense int64
	// roomy: there may be room that nothing was written to.
	roomy bool
	// past is up to where room past the end of the data may have been made, in bytes.
	past int64

	open sync.Mutex // guards f and live, opened on first use
	f    *os.File
	live *os.File
}

// Create makes an empty body.
func (d *Dir) Create(whole bool) (b *Body, err error) {
	b = &Body{dir: d, whole: whole, ID: d.spare()}
	if !b.ID.IsZero() {
		if b.f, err = d.open(d.Path(b.ID), unix.O_RDWR); errors.Is(err, unix.ENFILE) {
			d.addSpare(b.ID)
			return nil, err
		}
	}
	if b.f == nil { // there was no spare, or somebody took it away
		b.ID = store.NewCrateID()
		b.f, err = d.open(d.Path(b.ID), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
	}
	if err == nil && !whole {
		b.live, err = d.open(d.Path(b.ID)+liveSuffix, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
	}
	if err != nil {
		return nil, errors.Join(err, b.Release(), d.Remove(b.ID))
	}
	d.acted()
	return b, nil
}

// Blank makes an empty whole body ahead of use. Stamp comes first when it is used: an error
// says that the file is not there, or can't be.
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

// openFile is os.OpenFile for regular files, without asking whether they can be polled,
// which costs five more system calls. Reading does not set the time of access, which is
// Stamp's, unless the files are somebody else's.
func openFile(path string, flags int) (*os.File, error) {
	flags |= unix.O_CLOEXEC | unix.O_NOATIME
	for {
		fd, err := unix.Open(path, flags, 0o600)
		switch {
		case err == unix.EINTR:
		case err == unix.EPERM && flags&unix.O_NOATIME != 0:
			flags &^= unix.O_NOATIME
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
	b := &Body{ID: id, dir: d, whole: whole, holed: true, roomy: true, past: math.MaxInt64}
	if _, err := b.file(); err != nil {
		return nil, err
	}
	if whole {
		return b, nil
	}
	var err error
	if !afterCut {
		b.held, err = readLive(d.Path(id) + liveSuffix)
	} else if b.held, err = readSynced(d.Path(id) + syncedSuffix); err == nil {
		if b.live, err = openFile(d.Path(id)+liveSuffix, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC); err == nil {
			err = b.saveMap(b.held.patches(0, maxUnits))
		}
	}
	if err != nil {
		return nil, errors.Join(err, b.Release())
	}
	return b, nil
}

// file opens the data on first use.
func (b *Body) file() (*os.File, error) {
	b.open.Lock()
	defer b.open.Unlock()
	if b.f == nil {
		f, err := b.dir.open(b.dir.Path(b.ID), unix.O_RDWR)
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
		f, err := b.dir.open(b.dir.Path(b.ID)+liveSuffix, unix.O_RDWR)
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
			errs = errors.Join(errs, b.dir.close(*f))
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
	st, err := b.stat()
	return st.Size, err
}

// Roomy reports whether there may be room in the file that nothing was written to.
func (b *Body) Roomy() bool { return b.roomy }

// Stamp notes with the file, where it survives a kill, that its content is that of an
// inode's last write at a time, in nanoseconds since the epoch; 0 if the time that the
// inode has is to count, until there is a write.
func (b *Body) Stamp(ino uint64, at int64) error {
	f, err := b.file()
	if err != nil {
		return err
	}
	stamp, mtime := stampOf(ino), unix.NsecToTimespec(at)
	if at == 0 {
		mtime = stamp // a time of its own: filesystems don't keep every one that an inode may have
	}
	return b.setTimes(f, stamp, mtime)
}

// stampOf is the time of last access that tells a stamp: one that no file has by itself, and
// that a file used again does not have from its earlier life.
func stampOf(ino uint64) unix.Timespec {
	return unix.Timespec{Sec: 1, Nsec: int64(ino % 1e9)}
}

// Modified is when the data was last changed, in nanoseconds since the epoch: as Stamp has
// said for this inode (0 as there), or the filesystem.
func (b *Body) Modified(ino uint64) (at int64, stamped bool, err error) {
	st, err := b.stat()
	if err != nil {
		return 0, false, err
	}
	mtime := st.Mtim
	switch {
	case st.Atim == stampOf(ino):
	case st.Atim.Sec >= untimedFor: // a kill came amid Untimed
		mtime = unix.Timespec{Sec: st.Atim.Sec - untimedFor, Nsec: st.Atim.Nsec}
	default:
		return mtime.Nano(), false, nil
	}
	if mtime == stampOf(ino) {
		return 0, true, nil
	}
	return mtime.Nano(), true, nil
}

// untimedFor, in seconds, is added to the time of the last write while that is kept in the
// place of the time of last access: some 300 years, past any time of that.
const untimedFor = 300 * 365 * 24 * 3600

// Untimed runs do, which changes the file and nothing that a program has written: what
// Modified tells stays, also through a kill amid it.
func (b *Body) Untimed(ino uint64, do func() error) error {
	f, err := b.file()
	if err != nil {
		return err
	}
	st, err := b.stat()
	if err != nil {
		return err
	}
	if st.Atim == stampOf(ino) {
		kept := unix.Timespec{Sec: st.Mtim.Sec + untimedFor, Nsec: st.Mtim.Nsec}
		if err := b.setTimes(f, kept, unix.Timespec{Nsec: unix.UTIME_OMIT}); err != nil {
			return err
		}
	}
	err = do()
	return errors.Join(err, b.setTimes(f, st.Atim, st.Mtim))
}

func (b *Body) stat() (st unix.Stat_t, err error) {
	f, err := b.file()
	if err != nil {
		return st, err
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, &os.PathError{Op: "stat", Path: b.Path(), Err: err}
	}
	return st, nil
}

func (b *Body) setTimes(f *os.File, atime, mtime unix.Timespec) error {
	if err := unix.UtimesNanoAt(int(f.Fd()), "", []unix.Timespec{atime, mtime}, unix.AT_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "set times", Path: b.Path(), Err: err}
	}
	return nil
}

// Blocks is how much of the data lies on the disk, in units of 512 bytes.
func (b *Body) Blocks() (int64, error) {
	st, err := b.stat()
	return st.Blocks, err
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

// HeldBytes is how much of [off, end) lies in a sparse body, in bytes and whole units.
func (b *Body) HeldBytes(off, end int64) int64 {
	return b.held.count(off/Unit, (end+Unit-1)/Unit) * Unit
}

// ReadAt fills p from the body; past the end of the data it gives zeros.
func (b *Body) ReadAt(p []byte, off int64) error {
	if !b.roomy {
		return b.pread(p, off)
	}
	// Room that was read lies in the page cache, and the filesystem then takes it for data.
	for len(p) > 0 {
		from, to, err := b.NextData(off)
		if err != nil {
			return err
		}
		n := min(from-off, int64(len(p)))
		clear(p[:n])
		p, off = p[n:], off+n
		if n = min(to-off, int64(len(p))); n > 0 {
			if err := b.pread(p[:n], off); err != nil {
				return err
			}
			p, off = p[n:], off+n
		}
	}
	return nil
}

func (b *Body) pread(p []byte, off int64) error {
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
	b.dir.acted()
	if b.whole {
		if off <= b.dense {
			b.dense = max(b.dense, off+int64(len(p)))
		}
		return nil
	}
	return b.hold(off, off+int64(len(p)))
}

// CutBack takes away what a write that failed has left past the end of the data at size.
func (b *Body) CutBack(size int64) error {
	now, err := b.Size()
	if err != nil || now <= size {
		return err
	}
	f, err := b.file()
	if err != nil {
		return err
	}
	b.dense = min(b.dense, size)
	return f.Truncate(size)
}

// hold notes that a sparse body holds every unit of [off, end), whose data is in place.
func (b *Body) hold(off, end int64) error {
	if b.whole {
		return nil
	}
	from, to := off/Unit, (end+Unit-1)/Unit
	fresh, filled := b.held.set(from, to)
	if !fresh && !b.unsaved {
		return nil
	}
	b.mapSynced = false
	if b.unsaved {
		from, to = 0, maxUnits
	}
	return b.saveMap(append(b.held.patches(from, to), noUnits(filled)...))
}

// saveMap writes to the live map what has changed.
func (b *Body) saveMap(ps []patch) error {
	b.unsaved = true
	live, err := b.liveFile()
	if err != nil {
		return err
	}
	for _, p := range ps {
		if _, err := live.WriteAt(p.b, p.off); err != nil {
			return err
		}
	}
	b.unsaved = false
	b.dir.acted()
	return nil
}

// Truncate sets the length of the data.
func (b *Body) Truncate(size int64) error {
	defer b.dir.acted()
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
	if err := b.cutMap((size + Unit - 1) / Unit); err != nil {
		return err
	}
	return f.Truncate(size)
}

// cutMap forgets the units from u on.
func (b *Body) cutMap(u int64) error {
	c := u / chunk
	gone, wholes := b.held.cut(u)
	ps := b.held.patches(c*chunk, (c+1)*chunk)
	if b.unsaved {
		ps = b.held.patches(0, maxUnits)
	}
	// The bits of chunk c are there before it is none that is held wholly.
	if wholes > c {
		ps = append(ps, b.held.wholes(c, wholes))
	}
	if ps = append(ps, noUnits(gone)...); len(ps) == 0 {
		return nil
	}
	b.mapSynced = false
	return b.saveMap(ps)
}

// Sync makes the body as it is durable, its name included: data, then map.
func (b *Body) Sync() error {
	f, err := b.file()
	if err != nil {
		return err
	}
	if err := b.dir.SyncFile(int(f.Fd())); err != nil {
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
// then covers some, and beside Release; MarkSynced must follow when there were none.
func (b *Body) SyncData() error {
	fd, err := b.duplicate()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := b.dir.SyncFile(fd); err != nil {
		return &os.PathError{Op: "sync", Path: b.Path(), Err: err}
	}
	return b.dir.syncName(b.ID)
}

// duplicate gives a descriptor of the data that Release does not close. It is of the same open
// file: a write-back that failed since that was opened is told of.
func (b *Body) duplicate() (int, error) {
	f, err := b.file()
	if err != nil {
		return 0, err
	}
	b.open.Lock()
	defer b.open.Unlock()
	if b.f != f {
		return 0, &os.PathError{Op: "sync", Path: b.Path(), Err: os.ErrClosed}
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "dup", Path: b.Path(), Err: err}
	}
	return fd, nil
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
	if b.mapSynced {
		return nil
	}
	if err := replaceFile(b.dir.Path(b.ID)+syncedSuffix, b.held.encode()); err != nil {
		return err
	}
	b.mapSynced, b.named = true, false
	b.dir.acted()
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
