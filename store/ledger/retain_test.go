package ledger

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The index of a small store must not cost more than the store.
func TestSmallLedgerIsSmall(t *testing.T) {
	dir := t.TempDir()
	db := openTest(t, dir, Small())
	put(t, db.Space(Local), "a", "1")
	if err := db.tidy(); err != nil {
		t.Fatal(err)
	}
	closeTest(t, db)
	var size int64
	for _, name := range list(t, dir) {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		size += st.Size()
	}
	if size > 1<<20 {
		t.Fatalf("a ledger of one entry takes %d bytes: %q", size, list(t, dir))
	}
}

func list(t testing.TB, dir string) []string {
	t.Helper()
	names, err := osFiles{dir}.List()
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func countJournals(t testing.TB, dir string) (n int) {
	for _, name := range list(t, dir) {
		if strings.HasPrefix(name, segmentPrefix) {
			n++
		}
	}
	return n
}

// fill makes updates that take several segments, and folds them.
func fill(t testing.TB, db *DB, bytes int) {
	t.Helper()
	for range bytes / 4096 {
		put(t, db.Space(Shared), "fill", strings.Repeat("x", 4096))
	}
	if err := db.foldUpTo(db.Position()); err != nil {
		t.Fatal(err)
	}
	if err := db.tidy(); err != nil {
		t.Fatal(err)
	}
}

// Folded segments are recycled while there is no backup, kept for its restore when
// there is one, and given up beyond KeepJournal.
func TestJournalIsKeptSinceTheBackupWithinBounds(t *testing.T) {
	dir := t.TempDir()
	db := openTest(t, dir, Options{Segment: 64 << 10, KeepJournal: 512 << 10})
	fill(t, db, 1<<20)
	if n := countJournals(t, dir); n > 2 {
		t.Fatalf("%d journals without a backup; want the active one and a spare", n)
	}
	if _, err := db.keepBackup(); err != nil {
		t.Fatal(err)
	}
	fill(t, db, 256<<10)
	if n := countJournals(t, dir); n < 5 {
		t.Fatalf("%d journals; the 256 KiB since the backup are to be kept", n)
	}
	fill(t, db, 2<<20)
	if n := countJournals(t, dir); n > 512/64+3 {
		t.Fatalf("%d journals; 512 KiB are to be kept at most", n)
	}
	if err := db.Sync(context.Background(), db.Position()); err != nil {
		t.Fatal(err)
	}
}

// Opening and closing again and again neither collects files nor loses them.
func TestReopeningDoesNotCollectJournals(t *testing.T) {
	dir := t.TempDir()
	o := Options{Segment: 64 << 10}
	for i := range 30 {
		db := openTest(t, dir, o)
		put(t, db.Space(Shared), "a", "1")
		if err := db.foldUpTo(db.Position()); err != nil {
			t.Fatal(err)
		}
		if err := db.tidy(); err != nil {
			t.Fatal(err)
		}
		if got := db.Position(); got != Position(i+1) {
			t.Fatalf("position %d after %d updates", got, i+1)
		}
		closeTest(t, db)
	}
	if n := countJournals(t, dir); n > 3 {
		t.Fatalf("%d journals", n)
	}
}
