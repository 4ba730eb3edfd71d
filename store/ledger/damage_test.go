package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"stasis/store"
)

// journalled makes a ledger of ten updates that are in the journal only, five of
// them synced, after a backup of two; and leaves it as a kill would.
func journalled(t testing.TB) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "state", "ledger")
	db := openTest(t, dir, Options{Segment: 64 << 10, Ballast: -1})
	for i := range 10 {
		put(t, db.Space(Shared), string(rune('a'+i)), "value of "+string(rune('a'+i)))
		if i == 1 {
			if _, err := db.keepBackup(); err != nil {
				t.Fatal(err)
			}
		}
		if i == 4 {
			if err := db.Sync(context.Background(), 5); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.die(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// recordOffsets finds where the updates of a segment lie.
func recordOffsets(t testing.TB, path string) map[Position]int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h, ok := parseSegmentHeader(b)
	if !ok {
		t.Fatal("the header can't be read")
	}
	at := map[Position]int{}
	_, _, err = newSeal(h.salt).scanRecords(b, segmentStart, func(offset int, r record) error {
		if r.kind == kindUpdate {
			at[r.position] = offset
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func damageAt(t testing.TB, path string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	_, readErr := f.ReadAt(b, offset)
	b[0] ^= 0x40
	_, writeErr := f.WriteAt(b, offset)
	if err := errors.Join(readErr, writeErr, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// Damage after the last recorded sync may be a torn tail; before it, it is a loss,
// and the refusal says what to do about it.
func TestJournalDamage(t *testing.T) {
	for _, c := range []struct {
		update Position
		want   Position // where the ledger opens; 0 means a refusal
	}{{3, 0}, {4, 0}, {5, 0}, {6, 5}, {8, 7}, {10, 9}} {
		dir := journalled(t)
		journal := newestJournal(t, dir)
		damageAt(t, journal, int64(recordOffsets(t, journal)[c.update]+recordHeader+2))
		db, err := Open(dir, Options{})
		if c.want > 0 {
			if err != nil || db.Position() != c.want {
				t.Fatalf("update %d damaged: %v; want it open at %d", c.update, err, c.want)
			}
			wantAbsent(t, db.Space(Shared), string(rune('a'+c.want)))
			closeTest(t, db)
			continue
		}
		backups, _ := Backups(dir)
		wantRefusal(t, err, "stasis restore "+filepath.Dir(dir)+" "+backups[0].Path)
		r, err := Restore(dir, backups[0].Path)
		if err != nil {
			t.Fatal(err)
		}
		if r.Backup != 2 || r.Reached != c.update-1 || r.Expected != 10 || r.Damage == "" || r.Aside == "" {
			t.Fatalf("update %d damaged: restored %+v", c.update, r)
		}
		db = openTest(t, dir, Options{})
		if db.Position() != c.update-1 {
			t.Fatalf("the restored ledger is at %d", db.Position())
		}
		wantValue(t, db.Space(Shared), "b", "value of b")
		closeTest(t, db)
	}
}

func wantRefusal(t testing.TB, err error, command string) {
	t.Helper()
	if !errors.Is(err, store.Corrupt) || !strings.Contains(err.Error(), command) {
		t.Fatalf("%v; want Corrupt, with %q", err, command)
	}
}

func TestDamageWithoutABackupSaysSo(t *testing.T) {
	dir := journalled(t)
	if err := os.RemoveAll(filepath.Join(dir, backupsDir)); err != nil {
		t.Fatal(err)
	}
	journal := newestJournal(t, dir)
	damageAt(t, journal, int64(recordOffsets(t, journal)[4]))
	_, err := Open(dir, Options{State: "~/vault-state"})
	wantRefusal(t, err, "stasis restore ~/vault-state BACKUP")
}

// One copy of a header may be lost, not both.
func TestHeaderDamage(t *testing.T) {
	dir := journalled(t)
	journal := newestJournal(t, dir)
	damageAt(t, journal, 20)
	db := openTest(t, dir, Options{})
	wantValue(t, db.Space(Shared), "j", "value of j")
	if err := db.die(); err != nil {
		t.Fatal(err)
	}

	dir = journalled(t)
	journal = newestJournal(t, dir)
	damageAt(t, journal, 20)
	damageAt(t, journal, headerCopy+20)
	_, err := Open(dir, Options{})
	wantRefusal(t, err, "stasis restore")
}

// Files that vanish are not an empty ledger.
func TestMissingFiles(t *testing.T) {
	dir := journalled(t)
	if err := os.Remove(filepath.Join(dir, tableName)); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, Options{})
	wantRefusal(t, err, "stasis restore")

	// The same with its journals, of which a restored ledger has none at first.
	backups, err := Backups(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(dir, backups[0].Path); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, tableName)); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, Options{})
	wantRefusal(t, err, "stasis restore")

	dir = journalled(t)
	if err := os.Truncate(filepath.Join(dir, tableName), 0); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, Options{})
	wantRefusal(t, err, "stasis restore")
}

// Journals are replayed over the table that they continue and over no other.
func TestForeignJournalIsRefused(t *testing.T) {
	dir, other := journalled(t), journalled(t)
	b, err := os.ReadFile(filepath.Join(other, tableName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, tableName), b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, Options{})
	wantRefusal(t, err, "another ledger")
}

// folded makes a ledger of many entries that are in bbolt, closed.
func folded(t testing.TB, entries int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	db := openTest(t, dir, Small())
	for i := range entries {
		put(t, db.Space(Shared), string(binary.BigEndian.AppendUint32([]byte("key"), uint32(i))), strings.Repeat("v", 100))
	}
	closeTest(t, db)
	return dir
}

// exercise does with a damaged ledger what programs do; it must not die of it.
func exercise(dir string) error {
	db, err := Open(dir, Small())
	if err != nil {
		return err
	}
	errs := []error{db.Check(context.Background())}
	_, err = db.Space(Shared).Scan(nil, nil, 0)
	errs = append(errs, err)
	for i := range 50 {
		_, _, err := db.Space(Shared).Get(binary.BigEndian.AppendUint32([]byte("key"), uint32(i*17)))
		errs = append(errs, err)
	}
	_, err = db.Space(Shared).Update(func(tx *Tx) error {
		tx.Put(binary.BigEndian.AppendUint32([]byte("key"), 5), []byte("new"))
		return nil
	})
	return errors.Join(append(errs, err, db.Close())...)
}

// Flipped bits anywhere in bbolt's file are found by Check or at open, and never end
// the process: bbolt itself believes its pages.
func TestTableDamageIsFound(t *testing.T) {
	rng := seeded(t)
	dir := folded(t, 2000)
	table, err := os.ReadFile(filepath.Join(dir, tableName))
	if err != nil {
		t.Fatal(err)
	}
	used := usedPages(t, filepath.Join(dir, tableName))
	silent := 0
	for range rounds(150) {
		to := filepath.Join(memoryDir(t), "ledger")
		copyTree(t, dir, to)
		b := append([]byte{}, table...)
		page := used[rng.IntN(len(used))]
		for range 1 + rng.IntN(8) {
			b[page*tablePage+rng.IntN(tablePage)] ^= 1 << rng.IntN(8)
		}
		if err := os.WriteFile(filepath.Join(to, tableName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := exercise(to); err == nil {
			silent++ // the unused part of a page, or one of the two meta pages
		} else if store.KindOf(err) == 0 {
			t.Fatalf("page %d: an error without a kind: %v", page, err)
		}
	}
	if silent > rounds(150)/2 {
		t.Fatalf("%d of %d damaged ledgers went unnoticed", silent, rounds(150))
	}
}

// usedPages lists the pages of the table that are not free.
func usedPages(t testing.TB, path string) (used []int) {
	t.Helper()
	b, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		t.Fatal(err)
	}
	err = b.View(func(tx *bolt.Tx) error {
		for i := 0; ; i++ {
			p, err := tx.Page(i)
			if err != nil || p == nil {
				return err
			}
			if p.Type != "free" {
				used = append(used, i)
			}
		}
	})
	if err := errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	return used
}

// A table cut short makes bbolt's mapping fault: an error, not the end.
func TestTruncatedTable(t *testing.T) {
	dir := folded(t, 2000)
	st, err := os.Stat(filepath.Join(dir, tableName))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{1, tablePage, 3 * tablePage, 10 * tablePage, 40 * tablePage} {
		to := filepath.Join(memoryDir(t), "ledger")
		copyTree(t, dir, to)
		if err := os.Truncate(filepath.Join(to, tableName), min(size, st.Size())); err != nil {
			t.Fatal(err)
		}
		if err := exercise(to); !errors.Is(err, store.Corrupt) {
			t.Errorf("cut to %d bytes: %v; want Corrupt", size, err)
		}
	}
}

// A file that vanishes under an open ledger faults in the same way.
func TestTableTruncatedWhileOpen(t *testing.T) {
	dir := folded(t, 2000)
	db := openTest(t, dir, Small())
	if err := os.Truncate(filepath.Join(dir, tableName), 2*tablePage); err != nil {
		t.Fatal(err)
	}
	if err := db.Check(context.Background()); !errors.Is(err, store.Corrupt) {
		t.Fatalf("check: %v; want Corrupt", err)
	}
	// What was acknowledged is in the journal all the same.
	put(t, db.Space(Shared), "after", "1")
	wantValue(t, db.Space(Shared), "after", "1")
	if err := db.Close(); err != nil && store.KindOf(err) == 0 {
		t.Fatal(err)
	}
}
