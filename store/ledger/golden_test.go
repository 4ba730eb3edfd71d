package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goldenDir = "testdata/golden"

// golden is what a version of the format wrote: backup holds what first did, the table the same
// and the journal what then did.
type golden struct {
	version            uint32
	first, then        func(db *DB) error
	backed, all        [spaces]int // how many updates each space has by then
	reached, positions Position    // of the backup, of all
}

var goldens = []golden{
	{formatFirst, func(db *DB) error { return errors.Join(goldenUpdates(db, 0, Shared), goldenUpdates(db, 0, Local)) },
		func(db *DB) error { return goldenUpdates(db, 20, Shared) }, [spaces]int{20, 20}, [spaces]int{40, 20}, 40, 60},
	{formatSpans, func(db *DB) error { return goldenUpdates(db, 0, Shared, Local) },
		func(db *DB) error { return goldenUpdates(db, 20, Local, Shared) }, [spaces]int{20, 20}, [spaces]int{40, 40}, 20, 40},
}

func (g *golden) dir() string { return filepath.Join(goldenDir, fmt.Sprintf("v%d", g.version)) }

// goldenUpdates makes 20 updates, each of some spaces.
func goldenUpdates(db *DB, from int, ids ...SpaceID) error {
	for i := from; i < from+20; i++ {
		_, err := db.Space(ids[0]).Update(func(tx *Tx) error {
			for _, id := range ids {
				tx := tx.In(id)
				tx.Put(fmt.Appendf(nil, "key%02d", i), []byte(strings.Repeat(fmt.Sprint(i, " "), i)))
				tx.Put([]byte("empty"), nil)
				tx.Delete(fmt.Appendf(nil, "key%02d", i-5))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// wantGolden is what dump gives for them.
func wantGolden(done [spaces]int) string {
	var out strings.Builder
	for id, until := range done {
		fmt.Fprintf(&out, "%d %q %q\n", id+1, "empty", "")
		for i := max(0, until-5); i < until; i++ {
			fmt.Fprintf(&out, "%d %q %q\n", id+1, fmt.Sprintf("key%02d", i), strings.Repeat(fmt.Sprint(i, " "), i))
		}
	}
	return out.String()
}

// TestWriteGolden writes the golden files of a new format version. Those of a version
// that was released are never written again.
func TestWriteGolden(t *testing.T) {
	if os.Getenv("STASIS_WRITE_GOLDEN") == "" {
		t.Skip("set STASIS_WRITE_GOLDEN to write golden files where there are none")
	}
	for _, g := range goldens {
		if _, err := os.Stat(g.dir()); err != nil {
			g.write(t)
		}
	}
}

func (g *golden) write(t *testing.T) {
	first := openTest(t, t.TempDir(), Small())
	if err := g.first(first); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "golden.backup")
	if err := first.Backup(backup); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := Restore(dir, backup); err != nil {
		t.Fatal(err)
	}
	db := openTest(t, dir, Options{Segment: minSegment, Ballast: -1})
	if err := g.then(db); err != nil {
		t.Fatal(err)
	}
	if err := db.Sync(context.Background(), db.Position()); err != nil {
		t.Fatal(err)
	}
	if err := db.die(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(g.dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		backup: "golden.backup", filepath.Join(dir, tableName): tableName, newestJournal(t, dir): filepath.Base(newestJournal(t, dir)),
	} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(g.dir(), to), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGolden: what an earlier version wrote is read for ever.
func TestGolden(t *testing.T) {
	for _, g := range goldens {
		t.Run(fmt.Sprintf("v%d", g.version), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ledger")
			copyTree(t, g.dir(), dir)
			db := openTest(t, dir, Small())
			if got, want := dump(t, db), wantGolden(g.all); got != want || db.Position() != g.positions || db.Synced() != g.positions {
				t.Fatalf("at %d, synced %d:\n%s\nwant:\n%s", db.Position(), db.Synced(), got, want)
			}
			if v := tableFormat(t, db); v != g.version {
				t.Fatalf("the format is %d", v)
			}
			if err := db.Check(context.Background()); err != nil {
				t.Fatal(err)
			}
			closeTest(t, db)

			restored := t.TempDir()
			r, err := Restore(restored, filepath.Join(g.dir(), "golden.backup"))
			if err != nil || r.Reached != g.reached {
				t.Fatalf("%+v, %v", r, err)
			}
			if got, want := dump(t, openTest(t, restored, Small())), wantGolden(g.backed); got != want {
				t.Fatalf("%s\nwant:\n%s", got, want)
			}
		})
	}
}

// TestFormatIsAsWritten pins the bytes of a record and of a header as FORMAT.md has
// them: golden files alone would not show a reader and a writer that change together.
func TestFormatIsAsWritten(t *testing.T) {
	r := newSeal(0x0102030405060708).appendRecord(nil, record{kind: kindUpdate, space: Local, position: 3, synced: 2}, []change{
		{key: []byte("k"), value: []byte("vw")}, {key: []byte("gone"), deleted: true},
	})
	const wantRecord = "8f2d1923406570570c000000020202000300000000000000020000000000000001016b0276770204676f6e6500000000"
	if got := fmt.Sprintf("%x", r); got != wantRecord {
		t.Errorf("a record is\n%s\nwant\n%s", got, wantRecord)
	}
	both := newSeal(0x0102030405060708).appendRecord(nil, record{kind: kindUpdate, position: 3, synced: 2}, []change{
		{space: Shared, key: []byte("k"), value: []byte("vw")}, {space: Local, key: []byte("gone"), deleted: true},
	})
	const wantBoth = "418a9ef4406570570e00000002000200030000000000000002000000000000000101016b027677020204676f6e650000"
	if got := fmt.Sprintf("%x", both); got != wantBoth {
		t.Errorf("a record of both spaces is\n%s\nwant\n%s", got, wantBoth)
	}
	h := segmentHeader{version: 1, lineage: lineage{1, 2, 3}, number: 4, salt: 5, size: 6}
	const wantHeader = "5354415349534a4c0100000000000000010203000000000000000000000000000400000000000000050000000000000006000000000000006df6b0db"
	if got := fmt.Sprintf("%x", h.encode()); got != wantHeader {
		t.Errorf("a header is\n%s\nwant\n%s", got, wantHeader)
	}
	const wantEntry = "f10eaa6676616c7565"
	if got := fmt.Sprintf("%x", appendEntry(nil, Shared, []byte("key"), []byte("value"))); got != wantEntry {
		t.Errorf("an entry is\n%s\nwant\n%s", got, wantEntry)
	}
}
