package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// setCapacity bounds the disk; less than what is used leaves nothing free.
func (m *memFiles) setCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

func (m *memFiles) usedNow() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used()
}

// On a full disk the ballast lets the ledger go on for a while; then updates are
// refused with NoSpace, reads and syncs go on, nothing that was acknowledged is lost, and
// with room again everything goes on, the ballast included.
func TestFullDisk(t *testing.T) {
	const segment, ballast = 64 << 10, 256 << 10
	dir, files := t.TempDir(), newMemFiles()
	full := atomic.Bool{}
	o := Options{Segment: segment, Ballast: ballast, files: files, beforeFold: func() error {
		if full.Load() {
			return syscall.ENOSPC
		}
		return nil
	}}
	db := openTest(t, dir, o)
	s := db.Space(Shared)
	if err := db.tidy(); err != nil {
		t.Fatal(err)
	}
	if files.names[ballastName] == nil {
		t.Fatal("there is no ballast")
	}
	full.Store(true)
	files.setCapacity(files.usedNow())
	value := strings.Repeat("x", 1000)
	n := 0
	for ; ; n++ {
		_, err := s.Update(func(tx *Tx) error { tx.Put(fmt.Appendf(nil, "k%d", n), []byte(value)); return nil })
		if errors.Is(err, store.NoSpace) {
			if !strings.Contains(err.Error(), "make room") {
				t.Errorf("%v; want it to say what to do", err)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if bytes := n * 1000; bytes < ballast {
		t.Fatalf("%d bytes went in; the ballast alone is %d", bytes, int64(ballast))
	}
	wantValue(t, s, fmt.Sprint("k", n-1), value)
	if err := db.Sync(context.Background(), db.Position()); err != nil {
		t.Fatalf("a sync needs no room: %v", err)
	}
	if err := db.foldUpTo(db.Position()); !errors.Is(err, store.NoSpace) {
		t.Fatalf("a fold: %v; want NoSpace", err)
	}
	// Opening needs no room.
	if err := db.die(); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, dir, o)
	s = db.Space(Shared)
	for i := range n {
		wantValue(t, s, fmt.Sprint("k", i), value)
	}
	wantAbsent(t, s, fmt.Sprint("k", n))

	full.Store(false)
	files.setCapacity(0)
	for i := range 200 {
		put(t, s, fmt.Sprint("later", i), value)
	}
	if err := errors.Join(db.foldUpTo(db.Position()), db.tidy()); err != nil {
		t.Fatal(err)
	}
	if files.names[ballastName] == nil {
		t.Fatal("the ballast was not made again")
	}
	closeTest(t, db)
}

// When the table can't grow, updates stop at the overlay's bound, with NoSpace and at
// once, and go on when it can.
func TestOverlayIsBounded(t *testing.T) {
	full := atomic.Bool{}
	full.Store(true)
	db := openTest(t, t.TempDir(), Options{Overlay: minOverlay, Segment: 1 << 20, beforeFold: func() error {
		if full.Load() {
			return syscall.ENOSPC
		}
		return nil
	}})
	s := db.Space(Shared)
	value := make([]byte, 100_000)
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, err = s.Update(func(tx *Tx) error { tx.Put(fmt.Append(nil, n), value); return nil })
	}
	if !errors.Is(err, store.NoSpace) || n*len(value) > 2*minOverlay {
		t.Fatalf("after %d bytes: %v; want NoSpace", n*len(value), err)
	}
	full.Store(false)
	put(t, s, "after", "1")
	if err := db.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// The same on a filesystem that is really full: bbolt's file, the journal, the
// backups and the lock all lie on it.
func TestFullFilesystem(t *testing.T) {
	mnt := t.TempDir()
	if err := unix.Mount("ledger-test", mnt, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("mounting needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(mnt, "ledger")
	o := Options{Segment: 256 << 10, Ballast: 4 << 20}
	db := openTest(t, dir, o)
	if err := db.tidy(); err != nil {
		t.Fatal(err)
	}
	hog := filepath.Join(mnt, "hog")
	if err := fillDisk(hog); err != nil {
		t.Fatal(err)
	}
	value := strings.Repeat("x", 10_000)
	acknowledged := 0
	for ; ; acknowledged++ {
		_, err := db.Space(Shared).Update(func(tx *Tx) error {
			tx.Put(fmt.Appendf(nil, "k%d", acknowledged), []byte(value))
			return nil
		})
		if errors.Is(err, store.NoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if acknowledged*len(value) < 2<<20 {
		t.Fatalf("only %d updates went in with the ballast's 4 MiB", acknowledged)
	}
	if err := db.Backup(filepath.Join(mnt, "b")); !errors.Is(err, store.NoSpace) {
		t.Fatalf("a backup to a full disk: %v", err)
	}
	if names := list(t, mnt); len(names) != 2 {
		t.Fatalf("the backup that failed left something: %q", names)
	}
	if err := db.die(); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, dir, o)
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	for i := range acknowledged {
		wantValue(t, db.Space(Shared), fmt.Sprint("k", i), value)
	}
	put(t, db.Space(Shared), "after", "1")
	if err := errors.Join(db.foldUpTo(db.Position()), db.Check(context.Background()), db.Backup(filepath.Join(mnt, "b"))); err != nil {
		t.Fatal(err)
	}
	closeTest(t, db)
}

// fillDisk writes until there is no room.
func fillDisk(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	b := make([]byte, 64<<10)
	for len(b) >= 512 {
		if _, err := f.Write(b); errors.Is(err, syscall.ENOSPC) {
			b = b[:len(b)/2]
		} else if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}
