package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"stasis/store"
)

// cutter runs a ledger whose journal is in memory and cuts its power.
type cutter struct {
	t     *testing.T
	rng   *rand.Rand
	dir   string
	files *memFiles
	db    *DB
	// refused is 1 while the last update was refused by the disk, which may have it.
	refused Position
	tries   uint64              // of updates; each writes its own
	wrote   map[Position]uint64 // which try an update is
	failed  map[uint64]bool     // tries that were refused
}

func newCutter(t *testing.T, rng *rand.Rand) *cutter {
	c := &cutter{t: t, rng: rng, dir: memoryDir(t), files: newMemFiles(), wrote: map[Position]uint64{}, failed: map[uint64]bool{}}
	c.open()
	return c
}

func (c *cutter) options() Options {
	return Options{Segment: minSegment, Overlay: SmallOverlay, Ballast: -1, KeepJournal: int64(c.rng.IntN(3)) * minSegment * 4, files: c.files}
}

func (c *cutter) open() {
	c.t.Helper()
	db, err := Open(c.dir, c.options())
	if err != nil {
		c.t.Fatal(err)
	}
	c.db = db
}

// cut gives what a power cut leaves at a moment when updates may be under way,
// and opens it. The table is copied between two folds: bbolt's own commits are
// taken for atomic.
func (c *cutter) cut() {
	c.t.Helper()
	c.db.folding.Lock()
	b, err := os.ReadFile(filepath.Join(c.dir, tableName))
	synced := c.db.Synced()
	files := c.files.crash(c.rng)
	last := c.db.Position()
	c.db.folding.Unlock()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.db.die(); err != nil {
		c.t.Fatal(err)
	}
	c.dir, c.files = memoryDir(c.t), files
	if err := os.WriteFile(filepath.Join(c.dir, tableName), b, 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.open()
	if p := c.db.Position(); p < synced || p > last+c.refused {
		c.t.Fatalf("after the cut the ledger is at %d; it was at %d, synced up to %d", p, last, synced)
	}
	c.surface(last)
}

// kill drops the DB and opens it again over the same files.
func (c *cutter) kill() {
	c.t.Helper()
	p := c.db.Position()
	if err := c.db.die(); err != nil {
		c.t.Fatal(err)
	}
	c.open()
	if q := c.db.Position(); q != p && q != p+c.refused {
		c.t.Fatalf("after the kill the ledger is at %d, not %d", c.db.Position(), p)
	}
	c.surface(p)
}

// surface takes note of an update that was refused and is there after a restart,
// which may be where nothing followed it.
func (c *cutter) surface(last Position) {
	c.t.Helper()
	p := c.db.Position()
	if p <= last {
		return
	}
	v, _, err := c.db.Space(Shared).Get(fmt.Appendf(nil, "k%d", p%50))
	if err != nil || len(v) < 16 || !c.failed[binary.BigEndian.Uint64(v[8:])] {
		c.t.Fatalf("update %d was never made: %q, %v", p, v, err)
	}
	c.wrote[p] = binary.BigEndian.Uint64(v[8:])
}

// count is an update whose sum tells a prefix from anything else. Sizes differ so
// that records come to lie across sectors and segments.
func (c *cutter) count() error {
	size := c.rng.IntN(200)
	if c.rng.IntN(40) == 0 {
		size = c.rng.IntN(3 * minSegment / 2)
	}
	c.tries++
	c.wrote[c.db.Position()+1] = c.tries
	p, err := c.db.Space(Shared).Update(func(tx *Tx) error {
		n := uint64(c.db.Position()) + 1
		head := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, n), c.tries)
		if n%3 == 0 {
			tx.In(Local).Put([]byte("third"), binary.BigEndian.AppendUint64(nil, n))
		}
		tx.Put(fmt.Appendf(nil, "k%d", n%50), append(head, make([]byte, size)...))
		if n%7 == 0 {
			tx.Delete(fmt.Appendf(nil, "k%d", (n+1)%50))
		}
		return nil
	})
	c.refused = 0
	if err != nil {
		c.refused = 1
		c.failed[c.tries] = true
	} else if p != c.db.Position() {
		return fmt.Errorf("update %d is at %d", p, c.db.Position())
	}
	return err
}

// check compares the ledger with the counts up to its position.
func (c *cutter) check() {
	c.t.Helper()
	last := uint64(c.db.Position())
	want := map[string]uint64{}
	for n := uint64(max(1, int64(last)-200)); n <= last; n++ {
		want[fmt.Sprintf("k%d", n%50)] = n
		if n%7 == 0 {
			delete(want, fmt.Sprintf("k%d", (n+1)%50))
		}
	}
	v, _, err := c.db.Space(Local).Get([]byte("third"))
	if third := last - last%3; err != nil || third > 0 && (len(v) != 8 || binary.BigEndian.Uint64(v) != third) {
		c.t.Fatalf("at %d the other space is at %x, %v", last, v, err)
	}
	pairs, err := c.db.Space(Shared).Scan([]byte("k"), nil, 0)
	if err != nil || len(pairs) != len(want) {
		c.t.Fatalf("at %d: %d keys, %v; want %d", last, len(pairs), err, len(want))
	}
	for _, p := range pairs {
		if n := binary.BigEndian.Uint64(p.Value); want[string(p.Key)] != n {
			c.t.Fatalf("at %d: %s was written by update %d, not by %d", last, p.Key, want[string(p.Key)], n)
		} else if try := binary.BigEndian.Uint64(p.Value[8:]); c.wrote[Position(n)] != try {
			c.t.Fatalf("at %d: update %d is the try %d, which was refused or cut, not %d", last, n, try, c.wrote[Position(n)])
		}
	}
	if err := c.db.Check(context.Background()); err != nil {
		c.t.Fatal(err)
	}
}

// step does something that a ledger goes through.
func (c *cutter) step() error {
	switch c.rng.IntN(20) {
	case 0:
		return c.db.Sync(context.Background(), c.db.Position())
	case 1:
		return c.db.foldUpTo(c.db.Position())
	case 2:
		return c.db.tidy()
	case 3:
		_, err := c.db.journal.sync(Position(c.db.folded.Load()))
		return err // without the mark that a whole sync leaves
	default:
		return c.count()
	}
}

// TestPowerCuts: whatever of the unsynced writes comes to the disk, what is there
// afterwards is a prefix of the updates with all that were synced; and so again after
// further cuts and kills, whose torn tails lie among the segments.
func TestPowerCuts(t *testing.T) {
	rng := seeded(t)
	for range rounds(12) {
		c := newCutter(t, rng)
		for range 15 {
			for range rng.IntN(200) {
				if err := c.step(); err != nil {
					t.Fatal(err)
				}
			}
			switch rng.IntN(6) {
			case 0:
				c.kill()
			case 1:
				if err := c.db.Close(); err != nil {
					t.Fatal(err)
				}
				c.open()
			default:
				c.cut()
			}
			c.check()
		}
		closeTest(t, c.db)
	}
}

// TestCutDuringWrites takes the power between any two operations on files.
func TestCutDuringWrites(t *testing.T) {
	rng := seeded(t)
	for range rounds(25) {
		c := newCutter(t, rng)
		var left *memFiles
		var synced, last Position
		var table []byte
		at := rng.IntN(300)
		own := rand.New(rand.NewPCG(rng.Uint64(), 0)) // for whichever goroutine it is
		c.files.mu.Lock()
		c.files.before = func(string, string) error {
			if at--; at != 0 {
				return nil
			}
			synced, last = c.db.Synced(), c.db.Position()+1
			left = c.files.crashLocked(own)
			var err error
			table, err = os.ReadFile(filepath.Join(c.dir, tableName))
			return err
		}
		c.files.mu.Unlock()
		for range 250 {
			// No folds: they would write the table while it is read.
			var err error
			if rng.IntN(10) == 0 {
				err = c.db.Sync(context.Background(), c.db.Position())
			} else {
				err = c.count()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := c.db.die(); err != nil {
			t.Fatal(err)
		}
		if left == nil {
			continue
		}
		c.dir, c.files = memoryDir(t), left
		if err := os.WriteFile(filepath.Join(c.dir, tableName), table, 0o600); err != nil {
			t.Fatal(err)
		}
		c.open()
		if p := c.db.Position(); p < synced || p > last {
			t.Fatalf("after the cut the ledger is at %d; it was at %d, synced up to %d", p, last, synced)
		}
		c.check()
		closeTest(t, c.db)
	}
}

// TestEveryFileOperationFails fails the first operation on the journal's files, then
// the second, until a run needs no more. Whatever fails: what was acknowledged is
// there, what was refused is not, what was synced survives a cut, and the ledger goes
// on when the disk does.
func TestEveryFileOperationFails(t *testing.T) {
	rng := seeded(t)
	for _, width := range []int{1, 2, 1 << 30} {
		for n := 1; ; n++ {
			if !failOperation(t, rng, n, width) {
				t.Logf("%d operations", n-1)
				break
			}
		}
	}
}

var errInjected = errors.New("injected")

// failOperation fails width operations from the nth on, until the disk is well
// again. It reports whether there was one.
func failOperation(t *testing.T, rng *rand.Rand, n, width int) bool {
	c := newCutter(t, rng)
	failed, count := false, 0
	c.files.mu.Lock()
	c.files.before = func(op, name string) error {
		if count++; count >= n && count < n+width {
			failed = true
			return errInjected
		}
		return nil
	}
	c.files.mu.Unlock()
	heal := func() {
		c.files.mu.Lock()
		c.files.before = nil
		c.files.mu.Unlock()
	}
	for i := range 150 {
		if err := c.count(); err != nil && !errors.Is(err, errInjected) {
			t.Fatalf("operation %d: update: %v", n, err)
		}
		if i%20 == 10 {
			if err := c.db.Sync(context.Background(), c.db.Position()); err != nil && !errors.Is(err, errInjected) {
				t.Fatalf("operation %d: sync: %v", n, err)
			}
		}
		if i == 75 {
			if err := c.db.foldUpTo(c.db.Position()); err != nil {
				t.Fatalf("operation %d: fold: %v", n, err)
			}
			_ = c.db.tidy() // its failures are logged, and are what is tested
		}
	}
	c.check()
	heal()
	if rng.IntN(2) == 0 {
		c.cut()
	} else {
		c.kill()
	}
	c.check()
	if err := c.count(); err != nil {
		t.Fatalf("operation %d: an update after the disk is well: %v", n, err)
	}
	if err := c.db.Sync(context.Background(), c.db.Position()); err != nil {
		t.Fatalf("operation %d: a sync after the disk is well: %v", n, err)
	}
	c.cut()
	c.check()
	closeTest(t, c.db)
	return failed
}

// A ledger whose opening fails leaves no lock, no open file and no change behind.
func TestOpenFails(t *testing.T) {
	rng := seeded(t)
	c := newCutter(t, rng)
	for range 400 {
		if err := c.count(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.db.die(); err != nil {
		t.Fatal(err)
	}
	for n := 1; ; n++ {
		count := 0
		c.files.mu.Lock()
		c.files.before = func(op, name string) error {
			// Only opening: the steward's work afterwards may fail without a word.
			if count++; count == n {
				return errInjected
			}
			return nil
		}
		c.files.mu.Unlock()
		db, err := Open(c.dir, c.options())
		c.files.mu.Lock()
		c.files.before = nil
		c.files.mu.Unlock()
		if err == nil {
			if err := db.die(); err != nil && !errors.Is(err, errInjected) {
				t.Fatal(err)
			}
			break
		}
		if !errors.Is(err, errInjected) || store.KindOf(err) != store.Unavailable {
			t.Fatalf("operation %d: %v", n, err)
		}
	}
	c.open()
	c.check()
	closeTest(t, c.db)
}

// An update that was refused, and whose record the disk has and would not let go
// of, is not there after a power cut once another was acknowledged in its place.
func TestRefusedUpdateIsOverruled(t *testing.T) {
	rng := seeded(t)
	for range 40 {
		c := newCutter(t, rng)
		if err := errors.Join(c.count(), c.db.Sync(context.Background(), 1)); err != nil {
			t.Fatal(err)
		}
		c.db.steward.end(errInjected) // whose writes would be counted too
		c.files.mu.Lock()
		writes := 0
		c.files.before = func(op, name string) error {
			if op == "write" {
				writes++
				return errInjected
			}
			return nil
		}
		c.files.mu.Unlock()
		// An update that is too large for the rest of the segment is no case of it.
		if err := c.count(); writes == 2 && !errors.Is(err, errInjected) {
			t.Fatalf("%d writes: %v", writes, err)
		}
		c.files.mu.Lock()
		c.files.before = nil
		c.files.mu.Unlock()
		if err := c.count(); err != nil {
			t.Fatal(err)
		}
		c.cut()
		c.check()
		closeTest(t, c.db)
	}
}
