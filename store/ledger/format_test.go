package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	"stasis/store"
)

// span is an update of both spaces.
func span(t testing.TB, db *DB, key, value string) {
	t.Helper()
	_, err := db.Space(Shared).Update(func(tx *Tx) error {
		tx.Put([]byte(key), []byte(value))
		tx.In(Local).Put([]byte(key), []byte(value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func tableFormat(t testing.TB, db *DB) uint32 {
	t.Helper()
	m, err := db.table.meta()
	if err != nil {
		t.Fatal(err)
	}
	return m.version
}

// journalFormat is the newest format among the segments.
func journalFormat(t testing.TB, dir string) (newest uint32) {
	t.Helper()
	all, err := openSegments(osFiles{dir})
	for range 100 {
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		all, err = openSegments(osFiles{dir}) // one was just given up
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		newest = max(newest, s.header.version)
	}
	if err := closeSegments(all); err != nil {
		t.Fatal(err)
	}
	return newest
}

func TestUpdateOfBothSpaces(t *testing.T) {
	db := openTest(t, t.TempDir(), Options{})
	shared, local := db.Space(Shared), db.Space(Local)
	put(t, local, "a", "old")
	_, err := shared.Update(func(tx *Tx) error {
		other := tx.In(Local)
		tx.Put([]byte("a"), []byte("1"))
		other.Put([]byte("b"), []byte("2"))
		if v, ok, err := other.Get([]byte("a")); err != nil || !ok || string(v) != "old" {
			t.Errorf("the other space has %q, %v, %v", v, ok, err)
		}
		other.Delete([]byte("a"))
		if _, ok, err := other.Get([]byte("a")); err != nil || ok {
			t.Errorf("a key deleted in the other space is there: %v", err)
		}
		if v, ok, err := other.In(Shared).Get([]byte("a")); err != nil || !ok || string(v) != "1" {
			t.Errorf("the space begun with has %q, %v, %v", v, ok, err)
		}
		for want, s := range map[string]*Tx{"a=1 ": tx, "b=2 ": other} {
			pairs, err := s.Scan(nil, nil, 0)
			got := ""
			for _, p := range pairs {
				got += fmt.Sprintf("%s=%s ", p.Key, p.Value)
			}
			if err != nil || got != want {
				t.Errorf("a scan gives %q, %v; want %q", got, err, want)
			}
		}
		if tx.Room() != MaxUpdateKeys-3 || other.Room() != tx.Room() {
			t.Errorf("room for %d keys, %d by the other space", tx.Room(), other.Room())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantValue(t, shared, "a", "1")
	wantValue(t, local, "b", "2")
	wantAbsent(t, local, "a")

	failed := errors.New("failed")
	_, err = shared.Update(func(tx *Tx) error {
		tx.Delete([]byte("a"))
		tx.In(Local).Delete([]byte("b"))
		return failed
	})
	if err != failed {
		t.Fatal(err)
	}
	wantValue(t, shared, "a", "1")
	wantValue(t, local, "b", "2")
	if _, err = shared.Update(func(tx *Tx) error { tx.In(7).Put([]byte("a"), nil); return nil }); !errors.Is(err, store.Invalid) {
		t.Errorf("a space that does not exist: %v", err)
	}
}

// TestFormatIsRaisedByNeed: neither a start nor an update that an older program can read raises
// the format; the first that it can't does, for the table before the journal.
func TestFormatIsRaisedByNeed(t *testing.T) {
	for name, needs := range map[string]func(testing.TB, *DB){
		"both spaces": func(t testing.TB, db *DB) { span(t, db, "span", "1") },
		"many keys": func(t testing.TB, db *DB) {
			_, err := db.Space(Local).Update(func(tx *Tx) error {
				for i := range SmallUpdateKeys + 1 {
					tx.Put(fmt.Append(nil, i), nil)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db := openTest(t, dir, Options{})
			put(t, db.Space(Shared), "before", "1")
			_, err := db.Space(Local).Update(func(tx *Tx) error {
				for i := range SmallUpdateKeys {
					tx.Put(fmt.Append(nil, i), nil)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			closeTest(t, db)
			db = openTest(t, dir, Options{})
			if v, j := tableFormat(t, db), journalFormat(t, dir); v != formatFirst || j != formatFirst {
				t.Fatalf("without need the format is %d, the journal's %d", v, j)
			}
			needs(t, db)
			if v, j := tableFormat(t, db), journalFormat(t, dir); v != formatSpans || j != formatSpans {
				t.Fatalf("the format is %d, the journal's %d", v, j)
			}
			all, err := Backups(dir)
			if err != nil || len(all) != 1 || all[0].Position != 2 {
				t.Fatalf("backups before the first such update: %v, %v", all, err)
			}
			if m, err := readTableMeta(all[0].Path); err != nil || m.version != formatFirst {
				t.Fatalf("the backup's format is %d, %v", m.version, err)
			}
			if err := db.die(); err != nil {
				t.Fatal(err)
			}
			db = openTest(t, dir, Options{})
			wantValue(t, db.Space(Shared), "before", "1")
			want := dump(t, db)
			needs(t, db) // again
			if got := dump(t, db); got != want {
				t.Fatalf("%s\nwant\n%s", got, want)
			}
			closeTest(t, db)

			// The backup in the older format and the journals of both make up the ledger.
			if r, err := Restore(dir, all[0].Path); err != nil || r.Reached != r.Expected || r.Damage != "" {
				t.Fatalf("%+v, %v", r, err)
			}
			if got := dump(t, openTest(t, dir, Options{})); got != want {
				t.Fatalf("restored:\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestKillAmidRaising: between the table and the first segment that say so all is in order.
func TestKillAmidRaising(t *testing.T) {
	dir := t.TempDir()
	db := openTest(t, dir, Options{})
	put(t, db.Space(Shared), "before", "1")
	if err := db.table.raise(); err != nil {
		t.Fatal(err)
	}
	if err := db.die(); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, dir, Options{})
	wantValue(t, db.Space(Shared), "before", "1")
	put(t, db.Space(Shared), "after", "1")
	span(t, db, "span", "1")
	if err := db.die(); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, dir, Options{})
	for key, id := range map[string]SpaceID{"before": Shared, "after": Shared, "span": Local} {
		wantValue(t, db.Space(id), key, "1")
	}
}

// TestSmallLedgerKeepsItsFormat: older programs read the index of a store.
func TestSmallLedgerKeepsItsFormat(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "index")
	db := openTest(t, dir, Small())
	_, err := db.Space(Local).Update(func(tx *Tx) error {
		for i := range SmallUpdateKeys + 1 {
			tx.Put(fmt.Append(nil, i), nil)
		}
		return nil
	})
	if !errors.Is(err, store.Invalid) {
		t.Errorf("an update of too many keys: %v", err)
	}
	put(t, db.Space(Local), "a", "1")
	if v, j := tableFormat(t, db), journalFormat(t, dir); v != formatFirst || j != formatFirst {
		t.Errorf("the format is %d, the journal's %d", v, j)
	}
}

// TestFewKeysAnUpdate: a bound that a test has set is kept to.
func TestFewKeysAnUpdate(t *testing.T) {
	db := openTest(t, t.TempDir(), Options{UpdateKeys: 16})
	for n, want := range map[int]error{16: nil, 17: store.Invalid} {
		_, err := db.Space(Shared).Update(func(tx *Tx) error {
			for i := range n {
				tx.In(SpaceID(1+i%2)).Put(fmt.Append(nil, i), nil)
				tx.In(SpaceID(1+i%2)).Put(fmt.Append(nil, i), []byte("again"))
			}
			return nil
		})
		if !errors.Is(err, want) {
			t.Errorf("%d keys: %v", n, err)
		}
	}
	if _, err := Open(t.TempDir(), Options{UpdateKeys: MaxUpdateKeys + 1}); !errors.Is(err, store.Invalid) {
		t.Errorf("updates of too many keys: %v", err)
	}
}

// TestSyncPassesOverClosedSegments: a segment that was folded and closed while a sync was asked for
// is durable by the fold.
func TestSyncPassesOverClosedSegments(t *testing.T) {
	db := openTest(t, t.TempDir(), Options{})
	put(t, db.Space(Shared), "a", "1")
	db.journal.mu.Lock()
	db.journal.sealed = append(db.journal.sealed, &segment{name: "closed", from: 1, last: 1})
	db.journal.mu.Unlock()
	if need, err := db.journal.sync(0); err != nil || need != 0 || db.Synced() != 1 {
		t.Errorf("needs a fold up to %d, %v; synced up to %d", need, err, db.Synced())
	}
	db.journal.mu.Lock()
	db.journal.sealed = nil
	db.journal.mu.Unlock()
}
