package directory

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"stasis/store"
	"stasis/store/booking"
	"stasis/store/ledger"
)

// index is the store's own ledger. Its updates survive the death of the process
// when they return, and a power cut after sync.
type index struct {
	db     *ledger.DB
	space  *ledger.Space
	number atomic.Uint64 // the last given to an intent or a mark since the open
	probe  probe

	mu       sync.Mutex
	position store.Position // that the last change has given the crates
}

var _ booking.Journal = (*index)(nil)

func openIndex(dir string, o Options) (*index, error) {
	lo := ledger.Small()
	lo.Ballast = indexBallast
	lo.Log = o.Log
	db, err := ledger.Open(dir, lo)
	if err != nil {
		return nil, err
	}
	return &index{db: db, space: db.Space(ledger.Local)}, nil
}

func (x *index) sync(ctx context.Context, p ledger.Position) error {
	if err := x.probe.before("sync index"); err != nil {
		return err
	}
	return x.db.Sync(ctx, p)
}

func (x *index) update(fn func(tx *ledger.Tx) error) (ledger.Position, error) {
	if err := x.probe.before("update index"); err != nil {
		return 0, err
	}
	return x.space.Update(fn)
}

// begin makes a new index's first entries.
func (x *index) begin(m meta) error {
	p, err := x.update(func(tx *ledger.Tx) error {
		tx.Put([]byte{keyMeta}, m.encode())
		tx.Put([]byte{keyTotals}, totals{}.encode())
		return nil
	})
	if err != nil {
		return err
	}
	return x.sync(context.Background(), p)
}

func (x *index) meta() (m meta, ok bool, err error) {
	b, ok, err := x.space.Get([]byte{keyMeta})
	if err != nil || !ok {
		return m, false, err
	}
	m, err = parseMeta(b)
	return m, true, err
}

// known is what the index knows of an id.
type known struct {
	rec    record
	there  bool
	tomb   *tombstone
	marked bool
}

// find gives the record of a crate; ok is false if there is none.
func (x *index) find(id store.CrateID) (rec record, ok bool, err error) {
	b, ok, err := x.space.Get(crateKey(keyCrate, id))
	if err != nil || !ok {
		return rec, false, err
	}
	rec, err = parseRecord(id, b)
	return rec, err == nil, err
}

// page gives the crates after an id, from the start if it is nil, as many as a page holds;
// more says that there are others.
func (x *index) page(after []byte) (recs []record, more bool, err error) {
	from := []byte{keyCrate}
	if after != nil {
		from = append(key(keyCrate, after), 0)
	}
	ps, err := x.space.Scan(from, []byte{keyCrate + 1}, store.MaxPage+1)
	if err != nil {
		return nil, false, err
	}
	if more = len(ps) > store.MaxPage; more {
		ps = ps[:store.MaxPage]
	}
	recs = make([]record, len(ps))
	for i, p := range ps {
		if err := wrongKey(p.Key[1:]); err != nil {
			return nil, false, err
		}
		if recs[i], err = parseRecord(store.CrateID(p.Key[1:]), p.Value); err != nil {
			return nil, false, err
		}
	}
	return recs, more, nil
}

// lookup gives all that is known of an id, for who is about to change it and has
// its lock.
func (x *index) lookup(id store.CrateID) (k known, err error) {
	if k.rec, k.there, err = x.find(id); err != nil || k.there {
		return k, err
	}
	if _, k.marked, err = x.space.Get(crateKey(keyMark, id)); err != nil {
		return k, err
	}
	b, ok, err := x.space.Get(crateKey(keyTomb, id))
	if err != nil || !ok {
		return k, err
	}
	t, err := parseTombstone(b)
	k.tomb = &t
	return k, err
}

// sums gives a crate's checksums.
func (x *index) sums(rec record) (store.Checksums, error) {
	sums := store.Checksums{Size: rec.size, Blocks: rec.inline}
	for n := range chunksOf(rec.size) {
		ds, err := x.chunk(rec, n)
		if err != nil {
			return store.Checksums{}, err
		}
		sums.Blocks = append(sums.Blocks, ds...)
	}
	return sums, nil
}

// chunk gives the digests of the blocks from n*chunkBlocks.
func (x *index) chunk(rec record, n int64) ([]store.Digest, error) {
	b, ok, err := x.space.Get(chunkKey(rec.id, n))
	if err != nil {
		return nil, err
	}
	ds, fits := splitDigests(b, min(chunkBlocks, store.Blocks(rec.size)-n*chunkBlocks))
	if !ok || !fits {
		return nil, damagedRecord("the list of checksums of crate " + rec.id.String())
	}
	return ds, nil
}

// saveChunks keeps the digests of a large crate that has no record yet.
func (x *index) saveChunks(id store.CrateID, sums store.Checksums) error {
	chunks := chunksOf(sums.Size)
	for from := int64(0); from < chunks; from += chunksAnUpdate {
		_, err := x.update(func(tx *ledger.Tx) error {
			for n := from; n < min(chunks, from+chunksAnUpdate); n++ {
				tx.Put(chunkKey(id, n), joinDigests(sums.Blocks[n*chunkBlocks:min(int64(len(sums.Blocks)), (n+1)*chunkBlocks)]))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dropChunks removes the digests of a crate that has no record.
func (x *index) dropChunks(id store.CrateID) error {
	_, err := x.update(func(tx *ledger.Tx) error {
		ps, err := tx.Scan(chunkKey(id, 0), append(chunkKey(id, 1<<32-1), 0), updateKeys)
		for _, p := range ps {
			tx.Delete(p.Key)
		}
		return err
	})
	return err
}

// intend records that these files are about to appear among the crates.
func (x *index) intend(files []named) (number uint64, p ledger.Position, err error) {
	number = x.number.Add(1)
	p, err = x.update(func(tx *ledger.Tx) error {
		tx.Put(numberKey(keyIntent, number), encodeIntent(files))
		return nil
	})
	return number, p, err
}

// forget removes entries whose purpose is fulfilled.
func (x *index) forget(keys ...[]byte) error {
	_, err := x.update(func(tx *ledger.Tx) error {
		for _, k := range keys {
			tx.Delete(k)
		}
		return nil
	})
	return err
}

func (x *index) put(k, value []byte) error {
	_, err := x.update(func(tx *ledger.Tx) error {
		tx.Put(k, value)
		return nil
	})
	return err
}

// landing is a crate whose file is durably in its place.
type landing struct {
	rec         record
	reservation store.ReservationID
	known       known
}

func count(tx *ledger.Tx, change func(t *totals)) error {
	b, _, err := tx.Get([]byte{keyTotals})
	if err != nil {
		return err
	}
	t, err := parseTotals(b)
	if err != nil {
		return err
	}
	change(&t)
	tx.Put([]byte{keyTotals}, t.encode())
	return nil
}

// charge adds to what a reservation has drawn, if it is still there.
func charge(tx *ledger.Tx, id store.ReservationID, bytes int64) error {
	_, ok, err := tx.Get(key(keyTerms, id[:]))
	if err != nil || !ok {
		return err
	}
	b, _, err := tx.Get(key(keyDrawn, id[:]))
	if err != nil {
		return err
	}
	var drawn uint64
	if len(b) == 8 {
		drawn = binary.BigEndian.Uint64(b)
	}
	tx.Put(key(keyDrawn, id[:]), binary.BigEndian.AppendUint64(nil, uint64(max(0, int64(drawn)+bytes))))
	return nil
}

// land makes crates, in as many updates as it takes; the last one also removes the
// entries under ends. It gives how many it has made, which after an error may be some.
func (x *index) land(ls []landing, ends ...[]byte) (landed int, p ledger.Position, err error) {
	for landed < len(ls) {
		n := fitting(ls[landed:], updateKeys-2-len(ends))
		group := ls[landed : landed+n]
		p, err = x.change(func(tx *ledger.Tx) error {
			if landed+n == len(ls) {
				for _, k := range ends {
					tx.Delete(k)
				}
			}
			return landGroup(tx, group)
		})
		if err != nil {
			return landed, 0, err
		}
		landed += n
	}
	return landed, p, nil
}

// fitting is how many landings one update may take so that it writes at most so
// many keys: at least one.
func fitting(ls []landing, keys int) int {
	for i, l := range ls {
		keys -= 2 // its record, and perhaps a reservation not seen before
		if l.known.tomb != nil {
			keys--
		}
		if l.known.marked {
			keys--
		}
		if keys < 0 && i > 0 {
			return i
		}
	}
	return len(ls)
}

func landGroup(tx *ledger.Tx, ls []landing) error {
	drawn := make(map[store.ReservationID]int64)
	for _, l := range ls {
		tx.Put(crateKey(keyCrate, l.rec.id), l.rec.encode())
		if l.known.tomb != nil {
			tx.Delete(crateKey(keyTomb, l.rec.id))
		}
		if l.known.marked {
			tx.Delete(crateKey(keyMark, l.rec.id))
		}
		drawn[l.reservation] += l.rec.charge()
	}
	for id, bytes := range drawn {
		if err := charge(tx, id, bytes); err != nil {
			return err
		}
	}
	return count(tx, func(t *totals) {
		for _, l := range ls {
			t.used += l.rec.charge()
			t.crates++
			if l.known.tomb != nil {
				t.tombs--
			}
		}
	})
}

// unland takes a crate back that could not be made durable, and marks its file.
func (x *index) unland(l landing, m mark) error {
	_, err := x.change(func(tx *ledger.Tx) error {
		tx.Delete(crateKey(keyCrate, l.rec.id))
		tx.Put(crateKey(keyMark, l.rec.id), m.encode())
		if err := charge(tx, l.reservation, -l.rec.charge()); err != nil {
			return err
		}
		return count(tx, func(t *totals) { t.used -= l.rec.charge(); t.crates-- })
	})
	return err
}

// unadopt takes an adopted crate back that could not be made durable, and brings
// the intent back: the file is not the store's to remove.
func (x *index) unadopt(l landing, a adoption) error {
	_, err := x.change(func(tx *ledger.Tx) error {
		tx.Delete(crateKey(keyCrate, l.rec.id))
		tx.Put(crateKey(keyAdopted, l.rec.id), a.encode())
		if err := charge(tx, l.reservation, -l.rec.charge()); err != nil {
			return err
		}
		return count(tx, func(t *totals) { t.used -= l.rec.charge(); t.crates-- })
	})
	return err
}

// discard takes a crate out: a tombstone for its id, a mark for its file.
func (x *index) discard(rec record, m mark) (ledger.Position, error) {
	return x.change(func(tx *ledger.Tx) error {
		tx.Delete(crateKey(keyCrate, rec.id))
		for n := range chunksOf(rec.size) {
			tx.Delete(chunkKey(rec.id, n))
		}
		tx.Put(crateKey(keyMark, rec.id), m.encode())
		tx.Put(crateKey(keyTomb, rec.id), tombstone{rec.form, rec.root}.encode())
		return count(tx, func(t *totals) {
			t.used -= rec.charge()
			t.crates--
			t.tombs++
		})
	})
}

// prune forgets the oldest tombstones once there are too many: ids are in the order
// of the time they were minted.
func (x *index) prune() error {
	_, err := x.update(func(tx *ledger.Tx) error {
		gone := 0
		err := count(tx, func(t *totals) { gone = int(min(t.tombs-maxTombstones, tombstonesCut)) })
		if err != nil || gone <= 0 {
			return err
		}
		ps, err := tx.Scan([]byte{keyTomb}, []byte{keyTomb + 1}, gone)
		if err != nil {
			return err
		}
		for _, p := range ps {
			tx.Delete(p.Key)
		}
		return count(tx, func(t *totals) { t.tombs -= int64(len(ps)) })
	})
	return err
}

// unmark removes marks whose files are durably gone, but for those that a later
// discard has renewed.
func (x *index) unmark(marks map[store.CrateID]mark) error {
	ids := make([]store.CrateID, 0, len(marks))
	for id := range marks {
		ids = append(ids, id)
	}
	for len(ids) > 0 {
		n := min(len(ids), updateKeys)
		_, err := x.update(func(tx *ledger.Tx) error {
			for _, id := range ids[:n] {
				b, ok, err := tx.Get(crateKey(keyMark, id))
				if err != nil {
					return err
				}
				if ok && bytes.Equal(b, marks[id].encode()) {
					tx.Delete(crateKey(keyMark, id))
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// SaveTerms is booking.Journal's.
func (x *index) SaveTerms(ctx context.Context, t booking.Terms) error {
	p, err := x.update(func(tx *ledger.Tx) error {
		tx.Put(key(keyTerms, t.ID[:]), t.Encode())
		return nil
	})
	if err != nil {
		return err
	}
	return x.sync(ctx, p)
}

// DeleteTerms is booking.Journal's.
func (x *index) DeleteTerms(ctx context.Context, id store.ReservationID) error {
	p, err := x.update(func(tx *ledger.Tx) error {
		tx.Delete(key(keyTerms, id[:]))
		tx.Delete(key(keyDrawn, id[:]))
		return nil
	})
	if err != nil {
		return err
	}
	return x.sync(ctx, p)
}

// each goes through all entries of a kind, outside of any update.
func (x *index) each(kind byte, fn func(id, value []byte) error) error {
	for from := []byte{kind}; from != nil; {
		ps, err := x.space.Scan(from, []byte{kind + 1}, ledger.MaxScan)
		if err != nil {
			return err
		}
		from = nil
		for _, p := range ps {
			if err := fn(p.Key[1:], p.Value); err != nil {
				return err
			}
			from = append(bytes.Clone(p.Key), 0)
		}
	}
	return nil
}

// reservations loads what the accounts start from.
func (x *index) reservations() ([]booking.Record, error) {
	drawn := make(map[string]int64)
	err := x.each(keyDrawn, func(id, v []byte) error {
		if len(v) != 8 {
			return damagedRecord("what a reservation has drawn")
		}
		drawn[string(id)] = int64(binary.BigEndian.Uint64(v))
		return nil
	})
	if err != nil {
		return nil, err
	}
	var rs []booking.Record
	err = x.each(keyTerms, func(id, v []byte) error {
		t, err := booking.DecodeTerms(v)
		rs = append(rs, booking.Record{Terms: t, Drawn: drawn[string(id)]})
		return err
	})
	return rs, err
}

func (x *index) totals() (totals, error) {
	b, ok, err := x.space.Get([]byte{keyTotals})
	if err != nil {
		return totals{}, err
	}
	if !ok {
		return totals{}, damagedRecord("its totals")
	}
	return parseTotals(b)
}
