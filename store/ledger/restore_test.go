package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stasis/store"
)

func TestBackupIsCompleteAndReplaysTheJournals(t *testing.T) {
	dir := t.TempDir()
	db := openTest(t, dir, Options{Segment: 64 << 10})
	for i := range 500 {
		put(t, db.Space(Shared), fmt.Sprint("s", i%100), fmt.Sprint(i))
		put(t, db.Space(Local), fmt.Sprint("l", i%100), fmt.Sprint(i))
	}
	b, made, err := db.BackupIfDue(time.Now())
	if err != nil || !made || b.Position != 1000 || b.Size == 0 {
		t.Fatalf("%+v, %v, %v", b, made, err)
	}
	for i := 500; i < 2000; i++ {
		put(t, db.Space(Shared), fmt.Sprint("s", i%100), fmt.Sprint(i))
	}
	want := dump(t, db)
	closeTest(t, db)

	// The table is lost altogether; the journals since the backup are there.
	if err := os.Remove(filepath.Join(dir, tableName)); err != nil {
		t.Fatal(err)
	}
	r, err := Restore(dir, b.Path)
	if err != nil || r.Backup != 1000 || r.Reached != 2500 || r.Expected != 2500 || r.Damage != "" {
		t.Fatalf("%+v, %v", r, err)
	}
	db = openTest(t, dir, Options{Segment: 64 << 10})
	if got := dump(t, db); got != want || db.Position() != 2500 {
		t.Fatalf("the restored ledger differs, at %d", db.Position())
	}
	if err := db.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
	if p := put(t, db.Space(Shared), "after", "1"); p != 2501 {
		t.Fatalf("positions go on at %d", p)
	}
	// The journals do not continue any backup now: another is due at once.
	if b, made, err := db.BackupIfDue(time.Now()); err != nil || !made || b.Position != 2501 {
		t.Fatalf("after the restore: %+v, %v, %v", b, made, err)
	}
}

// dump gives all there is as text.
func dump(t testing.TB, db *DB) string {
	t.Helper()
	var out strings.Builder
	for _, id := range []SpaceID{Shared, Local} {
		pairs, err := db.Space(id).Scan(nil, nil, 0)
		if err != nil || len(pairs) == MaxScan {
			t.Fatal(len(pairs), err)
		}
		for _, p := range pairs {
			fmt.Fprintf(&out, "%d %q %q\n", id, p.Key, p.Value)
		}
	}
	return out.String()
}

func TestBackupsAreDailyAndPruned(t *testing.T) {
	dir := t.TempDir()
	db := openTest(t, dir, Options{})
	now := time.Now()
	for day := range KeepBackups + 3 {
		put(t, db.Space(Shared), "day", fmt.Sprint(day))
		now = now.Add(BackupEvery)
		if _, made, err := db.BackupIfDue(now); err != nil || !made {
			t.Fatalf("day %d: %v, %v", day, made, err)
		}
		if _, made, err := db.BackupIfDue(now.Add(time.Hour)); err != nil || made {
			t.Fatalf("an hour after day %d: %v, %v", day, made, err)
		}
	}
	all, err := Backups(dir)
	if err != nil || len(all) != KeepBackups || !all[0].Time.Equal(now.Round(0)) || all[0].Position != KeepBackups+3 {
		t.Fatalf("%+v, %v", all, err)
	}
	closeTest(t, db)
	db = openTest(t, dir, Options{})
	if _, made, err := db.BackupIfDue(now.Add(time.Minute)); err != nil || made {
		t.Fatalf("after a restart: %v, %v", made, err)
	}
}

func TestBackupIsDueWhenTheJournalGrows(t *testing.T) {
	db := openTest(t, t.TempDir(), Options{Segment: 64 << 10, KeepJournal: 512 << 10})
	now := time.Now()
	if _, made, err := db.BackupIfDue(now); err != nil || !made {
		t.Fatal(made, err)
	}
	fill(t, db, 400<<10)
	if _, made, err := db.BackupIfDue(now.Add(time.Minute)); err != nil || !made {
		t.Fatal(made, err)
	}
}

func TestBackupElsewhere(t *testing.T) {
	db := openTest(t, t.TempDir(), Options{})
	put(t, db.Space(Shared), "a", "1")
	path := filepath.Join(t.TempDir(), "mine")
	if err := db.Backup(path); err != nil {
		t.Fatal(err)
	}
	if err := db.Backup(path); !errors.Is(err, store.Conflict) {
		t.Fatalf("over an existing file: %v", err)
	}
	if err := db.Backup(filepath.Join(path, "b")); err == nil {
		t.Fatal("into a file that is no directory")
	}
	// To a machine that never had the vault.
	dir := filepath.Join(t.TempDir(), "new", "ledger")
	r, err := Restore(dir, path)
	if err != nil || r != (Restored{Backup: 1, Reached: 1, Expected: 1}) {
		t.Fatalf("%+v, %v", r, err)
	}
	db = openTest(t, dir, Options{})
	wantValue(t, db.Space(Shared), "a", "1")
}

func TestRestoreRefusesWhatIsNoBackup(t *testing.T) {
	dir := t.TempDir()
	db := openTest(t, dir, Small())
	put(t, db.Space(Shared), "a", "1")
	closeTest(t, db)
	before := list(t, dir)
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte(strings.Repeat("junk", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{junk, filepath.Join(dir, "absent"), dir} {
		if r, err := Restore(dir, path); err == nil || store.KindOf(err) == 0 {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
	}
	if after := list(t, dir); len(after) != len(before) {
		t.Fatalf("refusals left %q; before there was %q", after, before)
	}
	wantValue(t, openTest(t, dir, Small()).Space(Shared), "a", "1")
}

// A damaged backup is found before anything is replaced.
func TestRestoreChecksTheBackup(t *testing.T) {
	dir := t.TempDir()
	db := openTest(t, dir, Small())
	for i := range 1000 {
		put(t, db.Space(Shared), fmt.Sprint("key", i), strings.Repeat("v", 50))
	}
	path := filepath.Join(dir, "b")
	if err := db.Backup(path); err != nil {
		t.Fatal(err)
	}
	closeTest(t, db)
	used := usedPages(t, path)
	damageAt(t, path, int64(used[len(used)-1]*tablePage+tablePage/2))
	damageAt(t, path, int64(used[len(used)/2]*tablePage+tablePage/2))
	if _, err := Restore(dir, path); !errors.Is(err, store.Corrupt) {
		t.Fatalf("%v; want Corrupt", err)
	}
	wantValue(t, openTest(t, dir, Small()).Space(Shared), "key1", strings.Repeat("v", 50))
}

// Wherever a restore is interrupted, the ledger opens as it was or as restored, or
// the restore can be repeated, and in the end nothing is missing.
func TestInterruptedRestore(t *testing.T) {
	from := t.TempDir()
	db := openTest(t, from, Small())
	put(t, db.Space(Shared), "a", "1")
	b := filepath.Join(from, "b")
	if err := db.Backup(b); err != nil {
		t.Fatal(err)
	}
	put(t, db.Space(Shared), "b", "2")
	closeTest(t, db)
	for moved := range 4 {
		dir := filepath.Join(t.TempDir(), "l")
		copyTree(t, from, dir)
		if _, err := rebuild(dir, filepath.Join(dir, restoreTemp), filepath.Join(dir, "b")); err != nil {
			t.Fatal(err)
		}
		if moved > 0 {
			if err := os.Rename(filepath.Join(dir, restoreTemp), filepath.Join(dir, restoredName)); err != nil {
				t.Fatal(err)
			}
			m, err := readTableMeta(filepath.Join(dir, restoredName))
			if err != nil {
				t.Fatal(err)
			}
			aside := asideOf(dir, m)
			names, err := filepath.Glob(filepath.Join(dir, segmentPrefix+"*"))
			if err != nil {
				t.Fatal(err)
			}
			for i, name := range append([]string{filepath.Join(dir, tableName)}, names...) {
				if i >= moved-1 {
					break
				}
				if err := errors.Join(makeDir(aside), os.Rename(name, filepath.Join(aside, filepath.Base(name)))); err != nil {
					t.Fatal(err)
				}
			}
		}
		db := openTest(t, dir, Small())
		wantValue(t, db.Space(Shared), "a", "1")
		if moved > 0 && db.lineage == mustMeta(t, b).lineage {
			t.Errorf("%d moved: the restore was not carried through", moved)
		}
		closeTest(t, db)
	}
}

func mustMeta(t testing.TB, path string) tableMeta {
	t.Helper()
	m, err := readTableMeta(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A backup of a history that was restored since can still be gone back to; what
// does not continue it is said to be lost.
func TestRestoreOfAnEarlierHistory(t *testing.T) {
	dir := t.TempDir()
	db := openTest(t, dir, Options{})
	put(t, db.Space(Shared), "a", "1")
	first := filepath.Join(dir, "first")
	if err := db.Backup(first); err != nil {
		t.Fatal(err)
	}
	put(t, db.Space(Shared), "b", "2")
	closeTest(t, db)
	if r, err := Restore(dir, first); err != nil || r.Reached != r.Expected {
		t.Fatalf("%+v, %v", r, err)
	}
	db = openTest(t, dir, Options{})
	put(t, db.Space(Shared), "c", "3")
	if err := db.die(); err != nil { // with it in the journal only
		t.Fatal(err)
	}
	r, err := Restore(dir, first)
	if err != nil || r.Reached != 1 || r.Expected != 3 || r.Damage == "" {
		t.Fatalf("%+v, %v", r, err)
	}
	if aside, err := filepath.Glob(filepath.Join(dir, asidePrefix+"*")); err != nil || len(aside) != 2 {
		t.Fatalf("set aside: %q, %v", aside, err)
	}
	db = openTest(t, dir, Options{})
	wantAbsent(t, db.Space(Shared), "c")
}
