package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	bolt "go.etcd.io/bbolt"

	"stasis/store"
)

// An entry is what bbolt holds as a key's value: a CRC32C over the space, the
// key's length, the key and the value, then the value.

const entryHeader = 4

// metaSpace is the space number in the checksum of the table's own meta entry.
const metaSpace SpaceID = 0

func entrySum(id SpaceID, key, value []byte) uint32 {
	h := [5]byte{byte(id)}
	binary.BigEndian.PutUint32(h[1:], uint32(len(key)))
	sum := crc32.Update(0, castagnoli, h[:])
	sum = crc32.Update(sum, castagnoli, key)
	return crc32.Update(sum, castagnoli, value)
}

func appendEntry(b []byte, id SpaceID, key, value []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, entrySum(id, key, value))
	return append(b, value...)
}

// parseEntry checks an entry; the value shares its memory.
func parseEntry(id SpaceID, key, entry []byte) ([]byte, error) {
	if len(entry) < entryHeader || binary.BigEndian.Uint32(entry) != entrySum(id, key, entry[entryHeader:]) {
		return nil, &store.Error{
			Kind: store.Corrupt, Op: "read ledger", Subject: fmt.Sprintf("key %.80q", key),
			Detail: "its checksum does not match", Hint: "restore a backup with `stasis restore`",
		}
	}
	return entry[entryHeader:], nil
}

func putMeta(tx *bolt.Tx, m tableMeta) error {
	b := tx.Bucket(metaBucket)
	if b == nil {
		return &store.Error{Kind: store.Corrupt, Op: "read ledger", Detail: "its description is missing"}
	}
	return b.Put(metaKey, appendEntry(nil, metaSpace, metaKey, m.encode()))
}

func getMeta(tx *bolt.Tx) (tableMeta, error) {
	missing := &store.Error{Kind: store.Corrupt, Op: "read ledger", Detail: "its description is missing or damaged"}
	b := tx.Bucket(metaBucket)
	if b == nil {
		return tableMeta{}, missing
	}
	value, err := parseEntry(metaSpace, metaKey, b.Get(metaKey))
	if err != nil {
		missing.Err = err
		return tableMeta{}, missing
	}
	m, ok := parseTableMeta(value)
	if !ok {
		return tableMeta{}, missing
	}
	return m, nil
}

// meta reads what the table says of itself and refuses a newer format.
func (t *table) meta() (m tableMeta, err error) {
	err = t.view(func(tx *bolt.Tx) error {
		m, err = getMeta(tx)
		return err
	})
	if err == nil && m.version > FormatVersion {
		err = newerError(t.path, m.version)
	}
	return m, err
}

// get reads one value, copied.
func (t *table) get(id SpaceID, key []byte) (value []byte, ok bool, err error) {
	err = t.view(func(tx *bolt.Tx) error {
		b, err := space(tx, id)
		if err != nil {
			return err
		}
		entry := b.Get(key)
		if entry == nil {
			return nil
		}
		v, err := parseEntry(id, key, entry)
		if err != nil {
			return err
		}
		value, ok = append([]byte{}, v...), true
		return nil
	})
	return value, ok, err
}

// fold writes a generation in one transaction. Doing it again changes nothing.
func (t *table) fold(g *generation) error {
	return t.update(func(tx *bolt.Tx) error {
		m, err := getMeta(tx)
		if err != nil {
			return err
		}
		for i := range spaces {
			b, err := space(tx, SpaceID(i+1))
			if err != nil {
				return err
			}
			g.trees[i].Scan(func(c change) bool {
				err = m.tallies[i].fold(b, SpaceID(i+1), c)
				return err == nil
			})
			if err != nil {
				return err
			}
		}
		m.position = max(m.position, g.last)
		return putMeta(tx, m)
	})
}

// fold makes one change and keeps the tally.
func (y *tally) fold(b *bolt.Bucket, id SpaceID, c change) error {
	if old := b.Get(c.key); old != nil {
		if len(old) < entryHeader {
			_, err := parseEntry(id, c.key, old)
			return err
		}
		y.count--
		y.sum -= uint64(binary.BigEndian.Uint32(old))
	}
	if c.deleted {
		return b.Delete(c.key)
	}
	entry := appendEntry(make([]byte, 0, entryHeader+len(c.value)), id, c.key, c.value)
	y.add(entry)
	return b.Put(c.key, entry)
}

func (y *tally) add(entry []byte) {
	y.count++
	y.sum += uint64(binary.BigEndian.Uint32(entry))
}

// each gives every entry of a space in order, checked, in bbolt's memory, and
// then compares with the tally.
func each(tx *bolt.Tx, id SpaceID, want tally, fn func(key, entry []byte) error) error {
	b, err := space(tx, id)
	if err != nil {
		return err
	}
	var got tally
	var last []byte
	c := b.Cursor()
	for k, entry := c.First(); k != nil; k, entry = c.Next() {
		if last != nil && string(last) >= string(k) {
			return &store.Error{Kind: store.Corrupt, Op: "read ledger", Subject: fmt.Sprintf("key %.80q", k), Detail: "it is out of order"}
		}
		if _, err := parseEntry(id, k, entry); err != nil {
			return err
		}
		last = append(last[:0], k...)
		got.add(entry)
		if err := fn(k, entry); err != nil {
			return err
		}
	}
	if got != want {
		return &store.Error{
			Kind: store.Corrupt, Op: "read ledger", Subject: string(bucketNames[id-1]) + " space",
			Detail: fmt.Sprintf("%d entries were found where %d should be, or their sum differs", got.count, want.count),
		}
	}
	return nil
}

// check reads every entry.
func (t *table) check(stop func() error) error {
	return t.view(func(tx *bolt.Tx) error {
		m, err := getMeta(tx)
		if err != nil {
			return err
		}
		for i := range spaces {
			err = errors.Join(err, each(tx, SpaceID(i+1), m.tallies[i], func(_, _ []byte) error { return stop() }))
		}
		return err
	})
}

// tableSource goes through a space within a transaction.
type tableSource struct {
	id     SpaceID
	cursor *bolt.Cursor
	key    []byte
	value  []byte
	err    error // ends the source
}

func newTableSource(tx *bolt.Tx, id SpaceID, from []byte) (*tableSource, error) {
	b, err := space(tx, id)
	if err != nil {
		return nil, err
	}
	s := &tableSource{id: id, cursor: b.Cursor()}
	s.take(s.cursor.Seek(from))
	return s, s.err
}

func (s *tableSource) take(key, entry []byte) {
	s.key = key
	if key != nil {
		if s.value, s.err = parseEntry(s.id, key, entry); s.err != nil {
			s.key = nil
		}
	}
}

func (s *tableSource) at() (change, bool) {
	return change{key: s.key, value: s.value}, s.key != nil
}

func (s *tableSource) next() { s.take(s.cursor.Next()) }
