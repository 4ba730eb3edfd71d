package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"stasis/store"
)

const (
	tableName = "ledger.db"
	tablePage = 4096 // bytes; the same on every machine
	// minTable is the size of an empty table, in bytes: two meta pages, a list of the
	// free pages and the root.
	minTable = 4 * tablePage
)

// table is the bbolt file. bbolt checks its two meta pages and believes the rest,
// so each value here carries a checksum, and every call runs where a panic or a
// fault in the mapping becomes an error.
type table struct {
	path string
	b    *bolt.DB
	file *os.File
	// broken: a call died inside bbolt and may have left its locks taken. Nothing
	// calls it again.
	broken atomic.Bool
	// doubted: a commit failed otherwise than for space. What it wrote may be in the
	// page cache and not on the disk, so no later commit of this process can vouch
	// for the pages it shares with it.
	doubted atomic.Pointer[store.Error]
}

// tableMeta is what a table says of itself.
type tableMeta struct {
	version  uint32
	lineage  lineage
	position Position
	made     int64 // of a backup or restored ledger: when, in nanoseconds since the epoch
	tallies  [spaces]tally
}

// tally is the number of a space's entries and the sum of their checksums: it
// shows entries that vanished with a page.
type tally struct {
	count, sum uint64
}

var (
	bucketNames = [spaces][]byte{[]byte("shared"), []byte("local")}
	metaBucket  = []byte("meta")
	metaKey     = []byte("meta")
)

const metaSize = 4 + 16 + 8 + 8 + spaces*16

func (m tableMeta) encode() []byte {
	b := make([]byte, 0, metaSize)
	b = binary.BigEndian.AppendUint32(b, m.version)
	b = append(b, m.lineage[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(m.position))
	b = binary.BigEndian.AppendUint64(b, uint64(m.made))
	for _, t := range m.tallies {
		b = binary.BigEndian.AppendUint64(b, t.count)
		b = binary.BigEndian.AppendUint64(b, t.sum)
	}
	return b
}

// parseTableMeta reads the version first: a newer one may have another layout
// behind it.
func parseTableMeta(b []byte) (m tableMeta, ok bool) {
	if len(b) < 4 {
		return m, false
	}
	m.version = binary.BigEndian.Uint32(b)
	if m.version > FormatVersion {
		return m, true
	}
	if len(b) != metaSize {
		return m, false
	}
	copy(m.lineage[:], b[4:])
	m.position = Position(binary.BigEndian.Uint64(b[20:]))
	m.made = int64(binary.BigEndian.Uint64(b[28:]))
	for i := range m.tallies {
		at := 36 + 16*i
		m.tallies[i] = tally{binary.BigEndian.Uint64(b[at:]), binary.BigEndian.Uint64(b[at+8:])}
	}
	return m, true
}

// createTable makes an empty table at path, durable but for its name.
func createTable(path string, small bool, m tableMeta) error {
	t, err := openTable(path, tableOptions{small: small})
	if err != nil {
		return err
	}
	err = t.update(func(tx *bolt.Tx) error {
		for _, name := range append(bucketNames[:], metaBucket) {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return putMeta(tx, m)
	})
	return errors.Join(err, t.close())
}

// tableOptions say how to open a bbolt file.
type tableOptions struct {
	small    bool // maps and grows in small steps
	readOnly bool // a file that must exist
	noSync   bool // the caller syncs at the end
}

// openTable opens a bbolt file and, to write, creates it if absent.
func openTable(path string, how tableOptions) (t *table, err error) {
	t = &table{path: path}
	o := &bolt.Options{
		Timeout: openTimeout, PageSize: tablePage, FreelistType: bolt.FreelistMapType,
		InitialMmapSize: mapSize, NoStatistics: true, ReadOnly: how.readOnly, NoSync: how.noSync,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			t.file = f
			return f, err
		},
	}
	grow := growTable
	if how.small {
		o.InitialMmapSize, grow = smallMapSize, growSmallTable
	}
	err = t.guard(func() (err error) {
		t.b, err = bolt.Open(path, 0o600, o)
		return err
	})
	if err != nil {
		if t.file != nil && t.b == nil {
			// bbolt closes it on an error, not on a panic.
			if closeErr := t.file.Close(); closeErr != nil && !errors.Is(closeErr, os.ErrClosed) {
				err = errors.Join(err, closeErr)
			}
		}
		if errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) || errors.Is(err, berrors.ErrVersionMismatch) {
			return nil, &store.Error{Kind: store.Corrupt, Op: "open ledger", Subject: path, Err: err}
		}
		return nil, diskError("open ledger", path, err)
	}
	if how.noSync {
		t.b.NoGrowSync, grow = true, growCopy
	}
	t.b.AllocSize = grow
	return t, nil
}

func (t *table) close() error {
	if t.broken.Load() {
		// bbolt's Close could wait for ever on a lock that a dead call holds.
		return t.file.Close()
	}
	return t.guard(t.b.Close)
}

// guard runs a call into bbolt; a panic or a fault becomes a Corrupt.
func (t *table) guard(call func() error) (err error) {
	if t.broken.Load() {
		return t.corrupt("an earlier access found it damaged")
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = t.corrupt(fmt.Sprint(r))
		}
	}()
	return call()
}

func (t *table) corrupt(detail string) error {
	return &store.Error{Kind: store.Corrupt, Op: "read ledger", Subject: t.path, Detail: detail}
}

// begin starts a transaction; end it with finish.
func (t *table) begin(writable bool) (tx *bolt.Tx, err error) {
	began := false
	err = t.guard(func() error {
		var err error
		tx, err = t.b.Begin(writable)
		began = true
		return err
	})
	if !began {
		t.broken.Store(true)
	}
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return nil, &store.Error{Kind: store.Unavailable, Op: "read ledger", Subject: t.path, Detail: "the ledger is closed"}
	}
	return tx, err
}

// finish rolls a transaction back.
func (t *table) finish(tx *bolt.Tx) error {
	done := false
	err := t.guard(func() error {
		err := tx.Rollback()
		done = true
		return err
	})
	if !done {
		t.broken.Store(true)
	}
	return err
}

// view runs fn in a read transaction.
func (t *table) view(fn func(tx *bolt.Tx) error) error {
	tx, err := t.begin(false)
	if err != nil {
		return err
	}
	err = t.guard(func() error { return fn(tx) })
	return errors.Join(err, t.finish(tx))
}

// update runs fn in a transaction and commits it, synced.
func (t *table) update(fn func(tx *bolt.Tx) error) error {
	if doubt := t.doubted.Load(); doubt != nil {
		return doubt
	}
	tx, err := t.begin(true)
	if err != nil {
		return err
	}
	returned := false
	err = t.guard(func() error {
		err := fn(tx)
		returned = true
		return err
	})
	if err != nil {
		err = errors.Join(err, t.finish(tx))
		if !returned {
			t.broken.Store(true)
		}
		return err
	}
	returned = false
	err = t.guard(func() error {
		err := tx.Commit()
		returned = true
		return err
	})
	if !returned {
		t.broken.Store(true)
	}
	if err != nil && !isFull(err) && store.KindOf(err) != store.Corrupt {
		e := &store.Error{
			Kind: store.Unavailable, Op: "write ledger", Subject: filepath.Base(t.path), Err: err,
			Hint: "look at the disk that holds the ledger, then start again: nothing that was acknowledged is lost with the process",
		}
		t.doubted.Store(e)
		return e
	}
	return err
}

// unmap gives back the memory that reads of the file have taken: bbolt maps the file, so
// all that was ever looked at counts as this process's until the mapping ends. It stays
// in the system's cache, and is mapped again when it is next read.
func (t *table) unmap() error {
	return t.view(func(tx *bolt.Tx) error { // while which the mapping stays where it is
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, tx.DB().Info().Data, uintptr(tx.Size()), unix.MADV_DONTNEED)
		if errno != 0 {
			return &os.PathError{Op: "unmap", Path: t.path, Err: errno}
		}
		return nil
	})
}

// space gives the bucket of a key space.
func space(tx *bolt.Tx, id SpaceID) (*bolt.Bucket, error) {
	b := tx.Bucket(bucketNames[id-1])
	if b == nil {
		return nil, &store.Error{Kind: store.Corrupt, Op: "read ledger", Detail: "a key space is missing"}
	}
	return b, nil
}

// putMeta writes the table's description.
func (t *table) putMeta(m tableMeta) error {
	return t.update(func(tx *bolt.Tx) error { return putMeta(tx, m) })
}
