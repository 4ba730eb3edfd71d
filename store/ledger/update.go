package ledger

import (
	"bytes"
	"errors"
	"slices"
)

// Update runs fn and applies what it wrote, all or nothing. When it returns nil
// the change survives the death of the process; Sync makes it survive a power
// cut. An error of fn is returned as it is and changes nothing; so does an update
// that wrote nothing, which gives the position of the last one. By Tx.In an update changes
// both spaces.
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
	if errors.Is(err, errFormat) {
		if err = db.raise(); err == nil {
			p, err = db.update(s.id, fn)
		}
	}
	if err == nil && db.pressure(sealPart) {
		db.checkpointer.kick()
	}
	return p, err
}

// errFormat says that an update can't be written in the ledger's format.
var errFormat = errors.New("the update needs a newer format")

func (db *DB) update(id SpaceID, fn func(tx *Tx) error) (Position, error) {
	const op = "update ledger"
	db.writing.Lock()
	defer db.writing.Unlock()
	if db.isClosed() {
		return 0, db.closedError(op)
	}
	u := &update{db: db, room: db.options.UpdateKeys}
	err := fn(&Tx{u, id})
	u.db = nil
	if err != nil {
		return 0, err
	}
	if u.err != nil {
		return 0, u.err
	}
	if len(u.changes) == 0 {
		return db.Position(), nil
	}
	if formatOf(u.changes) > db.format() {
		return 0, errFormat
	}
	p, err := db.journal.append(u.changes)
	if isFull(err) && db.ballast.release(db.log) {
		p, err = db.journal.append(u.changes)
	}
	if err != nil {
		return 0, diskError(op, db.dir, err)
	}
	db.view.Lock()
	db.active.apply(p, u.changes)
	db.position.Store(uint64(p))
	db.view.Unlock()
	if db.options.Gate != nil {
		db.gate(p)
	}
	return p, nil
}

// gate calls Options.Gate. The caller holds writing.
func (db *DB) gate(p Position) {
	db.folding.Lock()
	defer db.folding.Unlock()
	db.journal.still(func() { db.options.Gate(p) })
}

// Still calls Options.Gate, which must be given, between two updates: something else has changed
// that a kill would leave.
func (db *DB) Still() {
	db.writing.Lock()
	defer db.writing.Unlock()
	db.gate(db.Position())
}

// update is what all Tx of one update write to.
type update struct {
	db      *DB      // nil once it has ended
	changes []change // sorted by space and key
	size    int      // bytes of keys and values in changes
	room    int      // keys that may still be added
	err     error    // the first broken rule; Update returns it
}

// Tx is one update under way, as one of the spaces sees it. It is valid until its fn returns
// and is not for concurrent use. Reads see what it wrote.
type Tx struct {
	*update
	id SpaceID
}

// In gives the same update as another space sees it: what both write changes together.
func (t *Tx) In(id SpaceID) *Tx {
	if !validSpace(id) && t.err == nil {
		t.err = invalid("update ledger", "there is no space %d", id)
	}
	return &Tx{t.update, id}
}

// Room is how many keys, over all spaces, the update may still write beside those it has.
func (t *Tx) Room() int { return t.room }

// Get is as Space.Get.
func (t *Tx) Get(key []byte) ([]byte, bool, error) {
	if i, found := t.find(key); found {
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

// find finds a key of this space among the changes, or where it belongs.
func (t *Tx) find(key []byte) (at int, found bool) {
	return slices.BinarySearchFunc(t.changes, change{space: t.id, key: key}, compareChanges)
}

// Scan is as Space.Scan.
func (t *Tx) Scan(from, to []byte, limit int) ([]Pair, error) {
	if t.db == nil {
		return nil, invalid("read ledger", "the update has ended")
	}
	first, _ := t.find(nil)
	next := Tx{t.update, t.id + 1}
	end, _ := next.find(nil)
	return t.db.scan(t.id, t.changes[first:end], from, to, limit)
}

// Put sets a key; both are copied. What is wrong with it (an empty or long key,
// too many keys, too many bytes) is returned by Update, which then changes nothing.
func (t *Tx) Put(key, value []byte) {
	both := make([]byte, 0, len(key)+len(value))
	both = append(append(both, key...), value...)
	t.set(change{space: t.id, key: both[:len(key):len(key)], value: both[len(key):]})
}

// Delete removes a key; removing what is not there is no error.
func (t *Tx) Delete(key []byte) {
	t.set(change{space: t.id, key: bytes.Clone(key), deleted: true})
}

func (t *Tx) set(c change) {
	const op = "update ledger"
	if t.err != nil {
		return
	}
	if len(c.key) == 0 || len(c.key) > MaxKey {
		t.err = invalid(op, "a key of %d bytes; 1 to %d are allowed", len(c.key), MaxKey)
		return
	}
	i, found := t.find(c.key)
	if found {
		t.size -= len(t.changes[i].key) + len(t.changes[i].value)
		t.changes[i] = c
	} else {
		t.changes = slices.Insert(t.changes, i, c)
		t.room--
	}
	t.size += len(c.key) + len(c.value)
	switch {
	case t.room < 0:
		t.err = invalid(op, "more than %d keys", t.db.options.UpdateKeys)
	case t.size > MaxUpdateBytes:
		t.err = invalid(op, "more than %d bytes", MaxUpdateBytes)
	}
}
