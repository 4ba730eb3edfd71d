package ledger

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestMain makes the test binary double as the process that a test kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LEDGER_TEST_WRITER"); dir != "" {
		if err := writeForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// seeded gives a generator whose seed is printed and can be given again.
func seeded(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("STASIS_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("STASIS_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("STASIS_SEED=%d repeats this run", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// rounds multiplies a count where time does not matter.
func rounds(n int) int {
	if os.Getenv("STASIS_SOAK") != "" {
		return 50 * n
	}
	return n
}

// memoryDir gives a directory for a test that opens many ledgers, in memory where
// this machine has such a place: real syncs would take most of its time.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "ledger")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func openTest(t testing.TB, dir string, o Options) *DB {
	t.Helper()
	db, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !db.isClosed() {
			if err := db.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
	return db
}

func closeTest(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// die leaves the DB as kill -9 would: nothing is folded or synced on the way.
func (db *DB) die() error {
	db.writing.Lock()
	db.view.Lock()
	db.closed = true
	db.view.Unlock()
	db.writing.Unlock()
	why := db.closedError("update ledger")
	for _, w := range []*worker{db.steward, db.checkpointer, db.syncer} {
		w.end(why)
	}
	return errors.Join(db.journal.close(), db.table.close(), db.lock.Close())
}

func put(t testing.TB, s *Space, key, value string) Position {
	t.Helper()
	p, err := s.Update(func(tx *Tx) error {
		tx.Put([]byte(key), []byte(value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func wantValue(t testing.TB, s *Space, key, want string) {
	t.Helper()
	v, ok, err := s.Get([]byte(key))
	if err != nil || !ok || string(v) != want {
		t.Fatalf("%q is %.60q, %v, %v; want %.60q", key, v, ok, err, want)
	}
}

func wantAbsent(t testing.TB, s *Space, key string) {
	t.Helper()
	if v, ok, err := s.Get([]byte(key)); err != nil || ok {
		t.Fatalf("%q is %.60q, %v, %v; want nothing", key, v, ok, err)
	}
}

// copyTree copies the plain files of a ledger's directory, backups included.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// newestJournal gives the newest segment in a directory that holds records.
func newestJournal(t testing.TB, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, segmentPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	newest := ""
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		h, ok := parseSegmentHeader(b)
		if !ok {
			continue
		}
		if _, _, ok := newSeal(h.salt).parseRecord(b[min(len(b), segmentStart):]); ok {
			newest = name
		}
	}
	if newest == "" {
		t.Fatal("no journal has records")
	}
	return newest
}
