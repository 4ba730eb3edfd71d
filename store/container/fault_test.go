package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/storetest"
)

func lossyStore(t *testing.T, capacity int64) (*lossyFile, *Store) {
	t.Helper()
	f := newLossy(nil)
	if _, err := format(f, testOwner, capacity, time.Now()); err != nil {
		t.Fatal(err)
	}
	s, err := openLossy(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return f, s
}

// One write or sync fails, the first, the second and so on until a run goes
// through: each call that fails leaves the accounts as they were and nothing
// visible, and the next one works.
func TestEachOperationFails(t *testing.T) {
	for _, kind := range []string{"write", "sync", "allocate"} {
		for _, why := range []error{unix.EIO, unix.ENOSPC} {
			for n := int64(1); ; n++ {
				done, err := failNth(t, kind, n, why)
				if err != nil {
					t.Fatalf("%s %d fails with %v: %v", kind, n, why, err)
				}
				if done || n > 100 {
					break
				}
			}
		}
	}
}

func failNth(t *testing.T, kind string, n int64, why error) (done bool, err error) {
	f, s := lossyStore(t, MinCapacity)
	ctx := context.Background()
	g := storetest.NewGen(uint64(n))
	old := g.Crate(50000)
	store1(t, s, old)
	r := store.NewReservationID()
	if _, err := s.Reserve(ctx, store.ReserveRequest{ID: r, Bytes: 1 << 20}); err != nil {
		return false, err
	}
	before, err := s.Status(ctx)
	if err != nil {
		return false, err
	}
	var count atomic.Int64
	f.mu.Lock()
	f.fail = func(k string, _, _ int64) error {
		if k == kind && count.Add(1) == n {
			return why
		}
		return nil
	}
	f.mu.Unlock()
	fresh := g.Crate(9000)
	fresh2 := g.Crate(store.BlockSize / 2)
	var refused []store.CrateID
	for _, c := range []*storetest.Crate{&fresh, &fresh2} {
		if _, err := s.Put(ctx, c.Put(r)); err != nil {
			if kind := store.KindOf(err); kind != store.NoSpace && kind != store.Unavailable {
				return false, fmt.Errorf("put: %w", err)
			}
			if _, err := s.Stat(ctx, c.ID); !errors.Is(err, store.NotFound) {
				return false, fmt.Errorf("visible after a failed put: %w", err)
			}
			// Others take its place from here on.
			refused = append(refused, c.ID)
			c.ID = g.ID()
			if _, err := s.Put(ctx, c.Put(r)); err != nil {
				return false, fmt.Errorf("put again: %w", err)
			}
		}
	}
	for _, c := range []storetest.Crate{fresh, fresh2} {
		if p, err := contents(s, c.ID); err != nil || !bytes.Equal(p, c.Data) {
			return false, fmt.Errorf("read: %w", err)
		}
		if err := s.Discard(ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
			if _, err := s.Stat(ctx, c.ID); err != nil {
				return false, fmt.Errorf("gone after a failed discard: %w", err)
			}
			if err := s.Discard(ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
				return false, fmt.Errorf("discard again: %w", err)
			}
		}
	}
	drawn := fresh.Charge() + fresh2.Charge()
	after, err := s.Status(ctx)
	if err != nil || after.Used != before.Used || after.Reserved != before.Reserved-drawn || after.Free != before.Free+drawn {
		return false, fmt.Errorf("status was %+v and is %+v, %w", before, after, err)
	}
	again, err := openLossy(f.killed())
	if err != nil {
		return false, err
	}
	defer again.Close()
	if p, err := contents(again, old.ID); err != nil || !bytes.Equal(p, old.Data) {
		return false, fmt.Errorf("an old crate after a restart: %w", err)
	}
	for _, id := range refused {
		if _, err := again.Stat(ctx, id); !errors.Is(err, store.NotFound) {
			return false, fmt.Errorf("a refused crate is there after a restart: %w", err)
		}
	}
	if now, err := again.Status(ctx); err != nil || now.Used != after.Used || now.Damage != 0 {
		return false, fmt.Errorf("status after a restart %+v, was %+v, %w", now, after, err)
	}
	return count.Load() < n, nil
}

// When every sync fails nothing is acknowledged, and the container says so until
// it is opened again; what it had can be read all along.
func TestDiskThatKeepsNothing(t *testing.T) {
	f, s := lossyStore(t, MinCapacity)
	ctx := context.Background()
	g := storetest.NewGen(1)
	old := g.Crate(50000)
	store1(t, s, old)
	r := store.NewReservationID()
	if _, err := s.Reserve(ctx, store.ReserveRequest{ID: r, Bytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.fail = func(k string, _, _ int64) error {
		if k == "sync" {
			return unix.EIO
		}
		return nil
	}
	f.mu.Unlock()
	for range 3 {
		if _, err := s.Put(ctx, g.Crate(100).Put(r)); !errors.Is(err, store.Unavailable) {
			t.Errorf("put: %v, want unavailable", err)
		}
		if err := s.Discard(ctx, store.DiscardRequest{Crate: old.ID}); !errors.Is(err, store.Unavailable) {
			t.Errorf("discard: %v, want unavailable", err)
		}
	}
	if p, err := contents(s, old.ID); err != nil || !bytes.Equal(p, old.Data) {
		t.Errorf("read: %v", err)
	}
}

// On a disk without room for anything new discards go on, many of them, over
// restarts too, and their space serves again: whether or not the filesystem lets
// the log have its pages beforehand.
func TestDiscardOnFullDisk(t *testing.T) {
	t.Run("with room in the file", func(t *testing.T) { discardOnFullDisk(t, false) })
	t.Run("with none", func(t *testing.T) { discardOnFullDisk(t, true) })
}

func discardOnFullDisk(t *testing.T, nothing bool) {
	f, s := lossyStore(t, 8<<20)
	ctx := context.Background()
	g := storetest.NewGen(1)
	var cs []storetest.Crate
	for range 300 {
		c := g.Crate(8000)
		store1(t, s, c)
		cs = append(cs, c)
	}
	// Only what the file has on the disk can be written.
	onDisk := func(f *lossyFile) {
		f.mu.Lock()
		defer f.mu.Unlock()
		size := int64(len(f.data))
		f.avail = 0
		f.fail = func(kind string, off, n int64) error {
			if kind == "allocate" && nothing || (kind == "write" || kind == "allocate") && off+n > size {
				return unix.ENOSPC
			}
			return nil
		}
	}
	onDisk(f)
	for i, c := range cs[:200] {
		if i%50 == 49 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			f = f.killed()
			onDisk(f)
			var err error
			if s, err = openLossy(f); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Discard(ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
			t.Fatalf("discard %d on a full disk: %v", i, err)
		}
	}
	st, err := s.Status(ctx)
	if err != nil || st.Free < 150*cs[0].Charge() {
		t.Fatalf("after 200 discards free is %d, %v", st.Free, err)
	}
	if nothing {
		f.mu.Lock()
		f.avail, f.fail = 1<<30, nil
		f.mu.Unlock()
	}
	for range 100 {
		store1(t, s, g.Crate(8000))
	}
	for _, c := range cs[200:] {
		if p, err := contents(s, c.ID); err != nil || !bytes.Equal(p, c.Data) {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A place that the disk doesn't give is damage; a disk that gives nothing is not.
func TestUnreadable(t *testing.T) {
	f, s := lossyStore(t, 8<<20)
	c := storetest.NewGen(1).Crate(2 << 20)
	store1(t, s, c)
	at := dataOffset(t, s, c.ID, store.BlockSize)
	set := func(fail func(string, int64, int64) error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.fail = fail
	}
	set(func(kind string, off, n int64) error {
		if kind == "read" && off <= at && at < off+n {
			return unix.EIO
		}
		return nil
	})
	if _, err := contents(s, c.ID); !errors.Is(err, store.Corrupt) || s.damage.count() != 1 {
		t.Errorf("%v, %d damages; want one", err, s.damage.count())
	}
	set(func(kind string, _, _ int64) error {
		if kind == "read" {
			return unix.EIO
		}
		return nil
	})
	if _, err := contents(s, c.ID); !errors.Is(err, store.Unavailable) || s.damage.count() != 1 {
		t.Errorf("%v, %d damages; want unavailable", err, s.damage.count())
	}
	set(nil)
}
