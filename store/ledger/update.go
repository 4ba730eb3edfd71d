package ledger

import (
	"bytes"
	"slices"
)

// Update runs fn and applies what it wrote, all or nothing. When it returns nil
// the change survives the death of the process; Sync makes it survive a power
// cut. An error of fn is returned as it is and changes nothing; so does an update
// that wrote nothing, which gives the position of the last one.
//
// fn may run again, runs alone, and must not call the DB otherwise than by its
// Tx. NoSpace if the disk is full even without the ballast; the update may be repeated
// when there is room. Unavailable if the checkpointer has not kept up for
// MaxUpdateWait. After an Unavailable that tells of a failing disk a restart may find
// the update done, unless another one followed it.
func (s *Space) Update(fn func(tx *Tx) error) (Position, error) {
	const op = "update ledger"
	if !validSpace(s.id) {
		return 0, invalid(op, "there is no space %d", s.id)
	}
	db := s.db
	if err := db.admit(); err != nil {
		return 0, err
	}
	p, err := db.update(s.id, fn)
	if err == nil && db.pressure(sealPart) {
		db.checkpointer.kick()
	}
	return p, err
}

func (db *DB) update(id SpaceID, fn func(tx *Tx) error) (Position, error) {
	const op = "update ledger"
	db.writing.Lock()
	defer db.writing.Unlock()
	if db.isClosed() {
		return 0, db.closedError(op)
	}
	tx := &Tx{db: db, id: id}
	err := fn(tx)
	tx.db = nil
	if err != nil {
		return 0, err
	}
	if tx.err != nil {
		return 0, tx.err
	}
	if len(tx.changes) == 0 {
		return db.Position(), nil
	}
	p, err := db.journal.append(id, tx.changes)
	if isFull(err) && db.ballast.release(db.log) {
		p, err = db.journal.append(id, tx.changes)
	}
	if err != nil {
		return 0, diskError(op, db.dir, err)
	}
	db.view.Lock()
	db.active.apply(p, id, tx.changes)
	db.position.Store(uint64(p))
	db.view.Unlock()
	return p, nil
}

// Tx is one update under way. It is valid until its fn returns and is not for
// concurrent use. Reads see what it wrote.
type Tx struct {
	db      *DB
	id      SpaceID
	changes []change // sorted by key
	size    int      // bytes of keys and values in changes
	err     error    // the first broken rule; Update returns it
}

// Get is as Space.Get.
func (t *Tx) Get(key []byte) ([]byte, bool, error) {
	if i, found := slices.BinarySearchFunc(t.changes, key, compareKey); found {
		c := t.changes[i]
		if c.deleted {
			return nil, false, nil
		}
		return append([]byte{}, c.value...), true, nil
	}
	if t.db == nil {
		return nil, false, invalid("read ledger", "the update has ended")
	}
	return t.db.get(t.id, key)
}

// Scan is as Space.Scan.
func (t *Tx) Scan(from, to []byte, limit int) ([]Pair, error) {
	if t.db == nil {
		return nil, invalid("read ledger", "the update has ended")
	}
	return t.db.scan(t.id, t.changes, from, to, limit)
}

// Put sets a key; both are copied. What is wrong with it (an empty or long key,
// too many keys, too many bytes) is returned by Update, which then changes nothing.
func (t *Tx) Put(key, value []byte) {
	both := make([]byte, 0, len(key)+len(value))
	both = append(append(both, key...), value...)
	t.set(change{key: both[:len(key):len(key)], value: both[len(key):]})
}

// Delete removes a key; removing what is not there is no error.
func (t *Tx) Delete(key []byte) { t.set(change{key: bytes.Clone(key), deleted: true}) }

func (t *Tx) set(c change) {
	const op = "update ledger"
	if t.err != nil {
		return
	}
	if len(c.key) == 0 || len(c.key) > MaxKey {
		t.err = invalid(op, "a key of %d bytes; 1 to %d are allowed", len(c.key), MaxKey)
		return
	}
	i, found := slices.BinarySearchFunc(t.changes, c.key, compareKey)
	if found {
		t.size -= len(t.changes[i].key) + len(t.changes[i].value)
		t.changes[i] = c
	} else {
		t.changes = slices.Insert(t.changes, i, c)
	}
	t.size += len(c.key) + len(c.value)
	switch {
	case len(t.changes) > MaxUpdateKeys:
		t.err = invalid(op, "more than %d keys", MaxUpdateKeys)
	case t.size > MaxUpdateBytes:
		t.err = invalid(op, "more than %d bytes", MaxUpdateBytes)
	}
}
