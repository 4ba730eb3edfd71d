package ledger

import (
	"bytes"

	bolt "go.etcd.io/bbolt"
)

// Get gives the value of a key; it is the caller's to keep. Corrupt if the value
// does not match its checksum.
func (s *Space) Get(key []byte) (value []byte, ok bool, err error) {
	if !validSpace(s.id) {
		return nil, false, invalid("read ledger", "there is no space %d", s.id)
	}
	return s.db.get(s.id, key)
}

// Scan gives the pairs with from <= key < to in order, as they were at one moment;
// a nil to means the end of the space. It gives at most limit pairs, and at most
// MaxScan, which is also what a limit of 0 means.
func (s *Space) Scan(from, to []byte, limit int) ([]Pair, error) {
	if !validSpace(s.id) {
		return nil, invalid("read ledger", "there is no space %d", s.id)
	}
	return s.db.scan(s.id, nil, from, to, limit)
}

func (db *DB) get(id SpaceID, key []byte) ([]byte, bool, error) {
	db.view.RLock()
	closed := db.closed
	c, found := db.active.get(id, key)
	if !found && db.sealed != nil {
		c, found = db.sealed.get(id, key)
	}
	db.view.RUnlock()
	if closed {
		return nil, false, db.closedError("read ledger")
	}
	if found {
		if c.deleted {
			return nil, false, nil
		}
		return append([]byte{}, c.value...), true, nil
	}
	// A generation that was folded since is in bbolt: nothing falls between.
	return db.table.get(id, key)
}

// scan merges pending, the changes of an update under way, with the generations
// and bbolt.
func (db *DB) scan(id SpaceID, pending []change, from, to []byte, limit int) (out []Pair, err error) {
	if limit < 0 {
		return nil, invalid("read ledger", "a limit of %d", limit)
	}
	if limit == 0 || limit > MaxScan {
		limit = MaxScan
	}
	if to != nil && bytes.Compare(from, to) >= 0 {
		return nil, nil
	}
	for done := false; !done && err == nil; {
		before := db.folded.Load()
		err = db.table.view(func(tx *bolt.Tx) error {
			sources := []source{newSliceSource(pending, from)}
			trees, ok := db.overlay(id, before)
			if !ok {
				return nil
			}
			done = true
			for _, t := range trees {
				sources = append(sources, newTreeSource(t, from))
			}
			bottom, err := newTableSource(tx, id, from)
			if err != nil {
				return err
			}
			out = merge(append(sources, bottom), to, limit)
			return bottom.err
		})
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// overlay gives the generations' trees, newest first. ok is false if a generation
// was folded since folded was read: a transaction of bbolt begun since then may not
// have it, and so it would be in neither.
func (db *DB) overlay(id SpaceID, folded uint64) (trees []*tree, ok bool) {
	db.view.Lock()
	defer db.view.Unlock()
	if db.folded.Load() != folded {
		return nil, false
	}
	trees = append(trees, db.active.frozen(id))
	if db.sealed != nil {
		trees = append(trees, db.sealed.trees[id-1])
	}
	return trees, true
}
