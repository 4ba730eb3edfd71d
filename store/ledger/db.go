package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"stasis/store"
)

// DB is an open ledger. All methods may be called concurrently.
type DB struct {
	mu   sync.RWMutex
	bolt *bolt.DB
	pos  Position
}

// Space is one key space of a DB.
type Space struct {
	db *DB
	id SpaceID
}

var metaBucket = []byte("meta")

// Open opens the ledger in dir and creates it where dir is absent or empty.
// Conflict if another process has it open, Corrupt if it is damaged before the
// last recorded sync, Invalid if a newer program wrote it.
func Open(dir string, o Options) (*DB, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b, err := bolt.Open(filepath.Join(dir, "ledger.db"), 0o600, &bolt.Options{NoSync: true, Timeout: time.Second})
	if err != nil {
		return nil, &store.Error{Kind: store.Conflict, Op: "open ledger", Subject: dir, Err: err}
	}
	db := &DB{bolt: b}
	err = b.Update(func(tx *bolt.Tx) error {
		for _, n := range [][]byte{{byte(Shared)}, {byte(Local)}, metaBucket} {
			if _, err := tx.CreateBucketIfNotExists(n); err != nil {
				return err
			}
		}
		if v := tx.Bucket(metaBucket).Get([]byte("position")); len(v) == 8 {
			db.pos = Position(binary.BigEndian.Uint64(v))
		}
		return nil
	})
	return db, err
}

// Space gives one of the two key spaces.
func (db *DB) Space(id SpaceID) *Space { return &Space{db, id} }

// Position is that of the last update.
func (db *DB) Position() Position {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.pos
}

// Synced is the position up to which a power cut loses nothing.
func (db *DB) Synced() Position { return db.Position() }

// Sync returns when every update up to p survives a power cut. Concurrent
// callers share one fdatasync.
func (db *DB) Sync(ctx context.Context, p Position) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return db.bolt.Sync()
}

// Backup writes a consistent copy of the ledger to path while updates go on.
// When it returns the file is complete and durable; after an error it is absent.
func (db *DB) Backup(path string) error {
	return db.bolt.View(func(tx *bolt.Tx) error { return tx.CopyFile(path, 0o600) })
}

// Close syncs and gives up the files and the lock.
func (db *DB) Close() error {
	if err := db.bolt.Sync(); err != nil {
		return err
	}
	return db.bolt.Close()
}

// Get gives the value of a key; it is the caller's to keep.
func (s *Space) Get(key []byte) (value []byte, ok bool, err error) {
	err = s.db.bolt.View(func(tx *bolt.Tx) error {
		value, ok, err = (&Tx{b: tx.Bucket([]byte{byte(s.id)})}).Get(key)
		return err
	})
	return value, ok, err
}

// Scan gives the pairs with from <= key < to in order, at most limit of them
// and never more than MaxScan; a nil to means the end of the space.
func (s *Space) Scan(from, to []byte, limit int) (out []Pair, err error) {
	err = s.db.bolt.View(func(tx *bolt.Tx) error {
		out, err = (&Tx{b: tx.Bucket([]byte{byte(s.id)})}).Scan(from, to, limit)
		return err
	})
	return out, err
}

// Update runs fn and applies what it wrote, all or nothing. When it returns nil
// the change survives the death of the process; Sync makes it survive a power
// cut. An error of fn is returned as it is and changes nothing. fn may run again and
// must not call the DB otherwise than by its Tx.
func (s *Space) Update(fn func(tx *Tx) error) (Position, error) {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	p := s.db.pos + 1
	err := s.db.bolt.Update(func(tx *bolt.Tx) error {
		t := &Tx{b: tx.Bucket([]byte{byte(s.id)})}
		if err := fn(t); err != nil {
			return err
		}
		if t.err != nil {
			return t.err
		}
		return tx.Bucket(metaBucket).Put([]byte("position"), binary.BigEndian.AppendUint64(nil, uint64(p)))
	})
	if err != nil {
		return 0, err
	}
	s.db.pos = p
	return p, nil
}

// Tx is one update under way. It is valid until its fn returns and is not for
// concurrent use. Reads see what it wrote.
type Tx struct {
	b   *bolt.Bucket
	err error
}

// Get is as Space.Get.
func (t *Tx) Get(key []byte) ([]byte, bool, error) {
	v := t.b.Get(key)
	if v == nil {
		return nil, false, nil
	}
	return bytes.Clone(v[1:]), true, nil
}

// Scan is as Space.Scan.
func (t *Tx) Scan(from, to []byte, limit int) ([]Pair, error) {
	var out []Pair
	c := t.b.Cursor()
	for k, v := c.Seek(from); k != nil && len(out) < min(limit, MaxScan) && (to == nil || bytes.Compare(k, to) < 0); k, v = c.Next() {
		out = append(out, Pair{bytes.Clone(k), bytes.Clone(v[1:])})
	}
	return out, nil
}

// Put sets a key, which must not be empty. What is wrong with it (too large, too
// many keys) is returned by Update.
func (t *Tx) Put(key, value []byte) {
	if err := t.b.Put(bytes.Clone(key), append([]byte{1}, value...)); err != nil {
		t.err = err
	}
}

// Delete removes a key; removing what is not there is no error.
func (t *Tx) Delete(key []byte) {
	if err := t.b.Delete(key); err != nil {
		t.err = err
	}
}
