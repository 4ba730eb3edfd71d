package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"stasis/store"
)

func TestReadsSeeTheUpdateUnderWay(t *testing.T) {
	s := openTest(t, t.TempDir(), Options{}).Space(Shared)
	put(t, s, "a", "old")
	put(t, s, "b", "old")
	_, err := s.Update(func(tx *Tx) error {
		tx.Put([]byte("a"), []byte("new"))
		tx.Delete([]byte("b"))
		tx.Put([]byte("c"), nil)
		if v, ok, err := tx.Get([]byte("a")); err != nil || !ok || string(v) != "new" {
			return fmt.Errorf("a is %q, %v, %v", v, ok, err)
		}
		if _, ok, err := tx.Get([]byte("b")); err != nil || ok {
			return fmt.Errorf("b is there: %v, %v", ok, err)
		}
		pairs, err := tx.Scan(nil, nil, 0)
		if err != nil || len(pairs) != 2 || string(pairs[0].Key) != "a" || string(pairs[1].Key) != "c" {
			return fmt.Errorf("scan: %q, %v", pairs, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantAbsent(t, s, "b")
	wantValue(t, s, "c", "")
}

func TestTxIsOverWhenItsFunctionReturns(t *testing.T) {
	s := openTest(t, t.TempDir(), Options{}).Space(Shared)
	var kept *Tx
	if _, err := s.Update(func(tx *Tx) error { kept = tx; tx.Put([]byte("a"), nil); return nil }); err != nil {
		t.Fatal(err)
	}
	kept.Put([]byte("b"), nil)
	if _, _, err := kept.Get([]byte("c")); !errors.Is(err, store.Invalid) {
		t.Errorf("get: %v", err)
	}
	if _, err := kept.Scan(nil, nil, 0); !errors.Is(err, store.Invalid) {
		t.Errorf("scan: %v", err)
	}
	wantAbsent(t, s, "b")
}

// Check of a large ledger does not hold up its closing.
func TestCheckEndsWhenTheLedgerCloses(t *testing.T) {
	dir := folded(t, 2000)
	db := openTest(t, dir, Small())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := db.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("check with an ended context: %v", err)
	}
	if err := db.table.check(func() error { return db.closedError("check ledger") }); !errors.Is(err, store.Unavailable) {
		t.Errorf("check of a ledger that closes: %v", err)
	}
}

func TestUpdateThatFailsChangesNothing(t *testing.T) {
	db := openTest(t, t.TempDir(), Options{})
	s := db.Space(Shared)
	p := put(t, s, "a", "1")
	boom := errors.New("boom")
	_, err := s.Update(func(tx *Tx) error {
		tx.Put([]byte("a"), []byte("2"))
		return boom
	})
	if err != boom {
		t.Fatalf("the function's error came back as %v", err)
	}
	wantValue(t, s, "a", "1")
	if db.Position() != p {
		t.Fatalf("the position went from %d to %d", p, db.Position())
	}
	if q, err := s.Update(func(*Tx) error { return nil }); err != nil || q != p {
		t.Fatalf("an update of nothing: %d, %v; want %d", q, err, p)
	}
}

func TestUpdateRefusesWhatBreaksItsLimits(t *testing.T) {
	db := openTest(t, t.TempDir(), Options{})
	s := db.Space(Local)
	for name, fn := range map[string]func(tx *Tx){
		"empty key": func(tx *Tx) { tx.Put(nil, []byte("v")) },
		"long key":  func(tx *Tx) { tx.Delete(make([]byte, MaxKey+1)) },
		"many bytes": func(tx *Tx) {
			tx.Put([]byte("a"), make([]byte, MaxUpdateBytes))
		},
		"many keys": func(tx *Tx) {
			for i := range MaxUpdateKeys + 1 {
				tx.Put(fmt.Append(nil, i), nil)
			}
		},
	} {
		_, err := s.Update(func(tx *Tx) error { fn(tx); tx.Put([]byte("other"), nil); return nil })
		if !errors.Is(err, store.Invalid) {
			t.Errorf("%s: %v; want Invalid", name, err)
		}
	}
	wantAbsent(t, s, "other")
	// The largest update there may be, larger than a segment of the journal.
	if _, err := s.Update(func(tx *Tx) error {
		for i := range MaxUpdateKeys {
			key := fmt.Appendf(nil, "%08d", i)
			tx.Put(key, bytes.Repeat([]byte{byte(i)}, MaxUpdateBytes/MaxUpdateKeys-len(key)))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Space(7).Update(func(*Tx) error { return nil }); !errors.Is(err, store.Invalid) {
		t.Errorf("a space that does not exist: %v", err)
	}
	if err := db.Sync(context.Background(), db.Position()+1); !errors.Is(err, store.Invalid) {
		t.Errorf("a sync of the future: %v", err)
	}
}

func TestUpdateLargerThanASegment(t *testing.T) {
	dir := t.TempDir()
	db := openTest(t, dir, Options{Segment: minSegment})
	big := strings.Repeat("x", MaxUpdateBytes-3)
	put(t, db.Space(Shared), "a", "1")
	put(t, db.Space(Shared), "big", big)
	put(t, db.Space(Shared), "b", "2")
	if err := db.die(); err != nil {
		t.Fatal(err)
	}
	s := openTest(t, dir, Options{Segment: minSegment}).Space(Shared)
	wantValue(t, s, "big", big)
	wantValue(t, s, "b", "2")
}

func TestSpacesAreApart(t *testing.T) {
	db := openTest(t, t.TempDir(), Options{})
	put(t, db.Space(Shared), "k", "shared")
	put(t, db.Space(Local), "k", "local")
	for range 2 {
		wantValue(t, db.Space(Shared), "k", "shared")
		wantValue(t, db.Space(Local), "k", "local")
		if err := db.foldUpTo(db.Position()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestScanBounds(t *testing.T) {
	db := openTest(t, t.TempDir(), Options{})
	s := db.Space(Shared)
	for i := range MaxScan + 10 {
		put(t, s, fmt.Sprintf("%06d", i), "v")
		if i == MaxScan/2 {
			if err := db.foldUpTo(db.Position()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		from, to    string
		limit, want int
	}{
		{"", "", 0, MaxScan}, {"", "", MaxScan + 1, MaxScan}, {"000010", "000020", 0, 10},
		{"000010", "000020", 3, 3}, {"000020", "000010", 0, 0}, {"9", "", 5, 0},
	} {
		var to []byte
		if c.to != "" {
			to = []byte(c.to)
		}
		if out, err := s.Scan([]byte(c.from), to, c.limit); err != nil || len(out) != c.want {
			t.Errorf("scan %q to %q, at most %d: %d, %v; want %d", c.from, c.to, c.limit, len(out), err, c.want)
		}
	}
	if _, err := s.Scan(nil, nil, -1); !errors.Is(err, store.Invalid) {
		t.Errorf("a negative limit: %v", err)
	}
}

// Values are the caller's to keep and to change.
func TestMemoryIsNotShared(t *testing.T) {
	s := openTest(t, t.TempDir(), Options{}).Space(Shared)
	key, value := []byte("k"), []byte("v")
	if _, err := s.Update(func(tx *Tx) error { tx.Put(key, value); return nil }); err != nil {
		t.Fatal(err)
	}
	key[0], value[0] = 'x', 'x'
	v, _, _ := s.Get([]byte("k"))
	v[0] = 'y'
	out, err := s.Scan(nil, nil, 0)
	if err != nil || len(out) != 1 {
		t.Fatal(out, err)
	}
	out[0].Key[0], out[0].Value[0] = 'z', 'z'
	wantValue(t, s, "k", "v")
}

func TestSecondOpenIsAConflictThatNamesTheFirst(t *testing.T) {
	dir := t.TempDir()
	db := openTest(t, dir, Options{})
	_, err := Open(dir, Options{})
	if !errors.Is(err, store.Conflict) || !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) {
		t.Fatalf("a second open: %v", err)
	}
	if _, err := Restore(dir, "nowhere"); !errors.Is(err, store.Conflict) {
		t.Fatalf("a restore of an open ledger: %v", err)
	}
	closeTest(t, db)
	closeTest(t, openTest(t, dir, Options{}))
}

func TestClosedLedgerAnswersUnavailable(t *testing.T) {
	db := openTest(t, t.TempDir(), Options{})
	s := db.Space(Shared)
	p := put(t, s, "a", "1")
	closeTest(t, db)
	closeTest(t, db)
	_, _, getErr := s.Get([]byte("a"))
	_, scanErr := s.Scan(nil, nil, 0)
	_, updateErr := s.Update(func(tx *Tx) error { tx.Put([]byte("b"), nil); return nil })
	for _, err := range []error{getErr, scanErr, updateErr, db.Check(context.Background()), db.Backup(filepath.Join(t.TempDir(), "b"))} {
		if !errors.Is(err, store.Unavailable) {
			t.Errorf("%v; want Unavailable", err)
		}
	}
	if err := db.Sync(context.Background(), p); err != nil {
		t.Errorf("a sync of what Close made durable: %v", err)
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	db := openTest(t, dir, Options{})
	put(t, db.Space(Shared), "a", "1")
	if err := db.foldUpTo(1); err != nil {
		t.Fatal(err)
	}
	if err := db.table.putMeta(tableMeta{version: FormatVersion + 1}); err != nil {
		t.Fatal(err)
	}
	if err := db.die(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, store.Invalid) || !strings.Contains(err.Error(), "newer version") {
		t.Fatalf("a newer table: %v", err)
	}
}

// Readers, writers, scans, syncs and folds at once: each reader sees the two keys
// of an update together, and never an older state than before.
func TestConcurrentUse(t *testing.T) {
	db := openTest(t, t.TempDir(), Options{Segment: 64 << 10})
	s := db.Space(Shared)
	const writers, updates = 8, 300
	var wg sync.WaitGroup
	done := make(chan struct{})
	for w := range writers {
		wg.Go(func() {
			for i := range updates {
				p, err := s.Update(func(tx *Tx) error {
					v := fmt.Appendf(nil, "%06d", i)
					tx.Put(fmt.Appendf(nil, "a%d", w), v)
					tx.Put(fmt.Appendf(nil, "b%d", w), v)
					return nil
				})
				if err == nil && i%50 == 0 {
					err = db.Sync(context.Background(), p)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			last := map[string]string{}
			for {
				select {
				case <-done:
					return
				default:
				}
				out, err := s.Scan(nil, nil, 0)
				if err != nil || len(out)%2 != 0 {
					t.Errorf("scan: %d, %v", len(out), err)
					return
				}
				for i, p := range out {
					if string(p.Value) < last[string(p.Key)] {
						t.Errorf("%s went back", p.Key)
					}
					last[string(p.Key)] = string(p.Value)
					if i < len(out)/2 && !bytes.Equal(p.Value, out[i+len(out)/2].Value) {
						t.Errorf("half an update: %q", out)
					}
				}
				if err := db.foldUpTo(db.Position()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(done)
	readers.Wait()
	if err := db.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
}
