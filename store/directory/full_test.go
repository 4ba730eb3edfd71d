package directory

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/storetest"
)

// TestFullDisk: others fill the disk after its space was promised. Puts fail with no
// space and leave nothing, by every way in; what is there is served; discards go
// through without a byte free, and then there is room again.
func TestFullDisk(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			size := int64(64 << 20)
			if kind == "xfs" {
				size = 320 << 20 // its least
			}
			testFullDisk(t, newLoop(t, kind, size).dir)
		})
	}
}

func testFullDisk(t *testing.T, dir string) {
	ctx := context.Background()
	s := admitted(t, makeStore(t, filepath.Join(dir, "node"), 0, Options{}))
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	var there []storetest.Crate
	for range 30 {
		c, _ := put(t, s, 256<<10)
		there = append(there, c)
	}
	const size = 4 << 20
	r := reserve(t, s, 4*store.Charge(size))
	before := status(t, s)
	body := newCrate(size)
	path := filepath.Join(dir, "body")
	if err := os.WriteFile(path, body.Data, 0o600); err != nil {
		t.Fatal(err)
	}
	fillDisk(t, filepath.Join(dir, "filler"))

	for _, n := range []int{size, preallocateFrom} {
		c := newCrate(n)
		q := reserveSame(t, s, r, 4*store.Charge(preallocateFrom))
		_, err := s.Put(ctx, c.Put(q))
		fails(t, err, store.NoSpace)
		_, err = s.Stat(ctx, c.ID)
		fails(t, err, store.NotFound)
	}
	for _, res := range s.PutBatch(ctx, []store.PutRequest{newCrate(size).Put(r), newCrate(size).Put(r)}) {
		fails(t, res.Err, store.NoSpace)
	}
	if st := status(t, s); st.Used != before.Used || st.Reserved != before.Reserved || st.Crates != before.Crates {
		t.Errorf("after failed puts %+v, was %+v", st, before)
	}
	if names, _ := os.ReadDir(filepath.Join(dir, "node", tempName)); len(names) > 0 {
		t.Errorf("left in tmp: %v", names)
	}
	for _, c := range there {
		has(t, s, c)
	}
	// A rename needs no room.
	if _, err := s.Adopt(ctx, body.Put(r), path); err != nil {
		t.Errorf("adopt on a full disk: %v", err)
	}
	has(t, s, body)
	for _, c := range append(there, body) {
		if err := s.Discard(ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
			t.Fatalf("discard on a full disk: %v", err)
		}
	}
	c := newCrate(size)
	if _, err := s.Put(ctx, c.Put(r)); err != nil {
		t.Errorf("put after room was made: %v", err)
	}
	has(t, s, c)
}

// reserveSame asks for another figure under an id; on a full disk it may not get it.
func reserveSame(t *testing.T, s *Store, r store.ReservationID, bytes int64) store.ReservationID {
	t.Helper()
	_, err := s.Reserve(context.Background(), store.ReserveRequest{ID: r, Bytes: bytes})
	if err != nil && !errors.Is(err, store.NoSpace) {
		t.Fatal(err)
	}
	return r
}

// fillDisk writes until nothing more fits.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := 1 << 20; n > 0; {
		if _, err := f.Write(make([]byte, n)); errors.Is(err, unix.ENOSPC) {
			n /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	// Space that is only promised to the cache is not taken yet.
	if err := f.Sync(); err != nil && !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDeadDisk: a disk that dies under an open store is out of reach. It never says
// that a crate is not there, or damaged; nothing is acknowledged; closing ends.
func TestDeadDisk(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			l := newLoop(t, kind, 320<<20)
			root := filepath.Join(l.dir, "node")
			s := admitted(t, makeStore(t, root, 0, Options{}))
			c, r := put(t, s, 3<<20)
			d, err := os.Open(crateFile(root, c.ID))
			if err != nil {
				t.Fatal(err)
			}
			dropCache(d, 0, 0)
			_ = d.Close() // only looked at
			l.cut(t)
			_, err = s.Put(ctx, newCrate(10).Put(r))
			fails(t, err, store.Unavailable)
			for _, res := range s.PutBatch(ctx, []store.PutRequest{newCrate(10).Put(r)}) {
				fails(t, res.Err, store.Unavailable)
			}
			fails(t, s.Discard(ctx, store.DiscardRequest{Crate: c.ID}), store.Unavailable)
			if err := holds(s, c); err != nil {
				fails(t, err, store.Unavailable)
			}
			_ = s.Close() // it can't write its last words
			l.unmount(t)
			l.mount(t)
			s = admitted(t, openStore(t, root, Options{}))
			has(t, s, c)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
