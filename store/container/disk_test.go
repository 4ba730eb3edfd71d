package container

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/storetest"
)

// smallDisk mounts a filesystem of so many bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("can't mount a small disk here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A container larger than its disk promises what the disk has and keeps that
// promise to the last byte; full, it goes on with what is discarded.
func TestContainerLargerThanDisk(t *testing.T) {
	dir := smallDisk(t, "24m")
	ctx := context.Background()
	path := filepath.Join(dir, "c")
	id, err := Create(path, testOwner, 256<<20, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(ctx, path, id, testOwner, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Fence(ctx, nil, store.NewToken(), false); err != nil {
		t.Fatal(err)
	}
	g := storetest.NewGen(storetest.Seed(t))
	free := func() int64 {
		t.Helper()
		st, err := s.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return st.Free
	}
	if n := free(); n > 24<<20 || n < 20<<20 {
		t.Fatalf("%d bytes free on a disk of 24 MiB", n)
	}
	var cs []storetest.Crate
	for size := 300000; size > 2000; { // what was promised is written, down to the last
		c := g.Crate(size)
		r := store.NewReservationID()
		_, err := s.Reserve(ctx, store.ReserveRequest{ID: r, Bytes: c.Charge()})
		if errors.Is(err, store.NoSpace) {
			size /= 2
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(ctx, c.Put(r)); err != nil {
			t.Fatalf("promised, and then: %v", err)
		}
		cs = append(cs, c)
	}
	for i := 0; ; i++ { // somebody else takes what is left of the disk
		p := bytes.Repeat([]byte{1}, 4096)
		if err := os.WriteFile(filepath.Join(dir, "other"+string(rune('a'+i%26))+string(rune('a'+i/26))), p, 0o600); err != nil {
			break
		}
	}
	before := free()
	for i, c := range cs[:len(cs)/2] {
		if err := s.Discard(ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
			t.Fatalf("discard %d of %d on a full disk: %v", i, len(cs), err)
		}
	}
	if n := free(); n < before+8<<20 {
		t.Errorf("%d bytes free after half of it was discarded, %d before", n, before)
	}
	again := g.Crate(4 << 20)
	store1(t, s, again)
	for _, c := range append(cs[len(cs)/2:], again) {
		if p, err := contents(s, c.ID); err != nil || !bytes.Equal(p, c.Data) {
			t.Fatalf("%d bytes: %v", len(c.Data), err)
		}
	}
}

// Who reads a crate while it is discarded and its place filled with others gets
// an error that says so, and nobody takes it for damage.
func TestReadWhileDiscarded(t *testing.T) {
	_, s := lossyStore(t, 8<<20)
	ctx := context.Background()
	g := storetest.NewGen(1)
	c := g.Crate(3 << 20)
	store1(t, s, c)
	rc, err := s.Open(ctx, c.ID, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := rc.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := s.Discard(ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		store1(t, s, g.Crate(1<<20))
	}
	for err == nil {
		_, err = rc.Read(make([]byte, 1<<20))
	}
	if !errors.Is(err, store.NotFound) {
		t.Errorf("got %v, want not found", err)
	}
	if n := s.damage.count(); n != 0 {
		t.Errorf("%d damages", n)
	}
}
