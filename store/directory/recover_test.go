package directory

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"stasis/store"
	"stasis/store/storetest"
)

// large makes a crate with more blocks than stand in one record.
func large() storetest.Crate { return newCrate((inlineBlocks + 2) * store.BlockSize) }

// TestLargeCrate: digests that lie beside the record are kept, served, discarded.
func TestLargeCrate(t *testing.T) {
	ctx := context.Background()
	root := filepath.Join(t.TempDir(), "node")
	s := admitted(t, makeStore(t, root, 1<<30, Options{}))
	defer func() { _ = s.Close() }()
	c := large()
	r := reserve(t, s, 2*c.Charge())
	for range 2 { // the second time over its own tombstone and mark
		receipts, err := s.Put(ctx, c.Put(r))
		if err != nil || receipts[0].Sums.Root() != c.Root() {
			t.Fatalf("put: %v", err)
		}
		if again, err := s.Put(ctx, c.Put(r)); err != nil || again[0].Sums.Root() != c.Root() || !again[0].Sums.Valid() {
			t.Fatalf("repeat: %v", err)
		}
		has(t, s, c)
		flip(t, crateFile(root, c.ID), 65*store.BlockSize)
		_, err = s.Verify(ctx, c.ID, 65*store.BlockSize, 1, store.Digest{})
		fails(t, err, store.Corrupt)
		if err := s.Discard(ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
			t.Fatal(err)
		}
	}
	ps, err := s.index.space.Scan([]byte{keyChunk}, []byte{keyChunk + 1}, 0)
	if err != nil || len(ps) != 0 {
		t.Errorf("%d lists of checksums left, %v", len(ps), err)
	}
}

// TestTombstone: an id that has stood for some bytes never stands for others.
func TestTombstone(t *testing.T) {
	ctx := context.Background()
	root := filepath.Join(t.TempDir(), "node")
	s := admitted(t, makeStore(t, root, 1<<20, Options{}))
	c, r := put(t, s, 5000)
	if err := s.Discard(ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
		t.Fatal(err)
	}
	was := status(t, s)
	other := newCrate(5000)
	other.ID = c.ID
	for range 2 {
		req := other.Put(r)
		_, err := s.Put(ctx, req)
		fails(t, err, store.Conflict, "other bytes")
		req.Expect = nil
		_, err = s.Put(ctx, req)
		fails(t, err, store.Conflict, "other bytes")
		if now := status(t, s); now != was {
			t.Errorf("refused, and the status is %+v, was %+v", now, was)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = admitted(t, openStore(t, root, Options{}))
		was.Position = status(t, s).Position // which the admission has moved
	}
	defer func() { _ = s.Close() }()
	if _, err := s.Put(ctx, c.Put(r)); err != nil {
		t.Errorf("the same bytes again: %v", err)
	}
}

// TestLostFile: a crate whose file has gone or shrunk is damage, never an absence,
// and a put heals it after a discard.
func TestLostFile(t *testing.T) {
	ctx := context.Background()
	root := filepath.Join(t.TempDir(), "node")
	s := admitted(t, makeStore(t, root, 1<<20, Options{}))
	defer func() { _ = s.Close() }()
	a, r := put(t, s, 5000)
	b, _ := put(t, s, 5000)
	if err := os.Remove(crateFile(root, a.ID)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(crateFile(root, b.ID), 4999); err != nil {
		t.Fatal(err)
	}
	for i, c := range []storetest.Crate{a, b} {
		_, err := s.Open(ctx, c.ID, 0, -1)
		fails(t, err, store.Corrupt)
		_, err = s.File(ctx, c.ID)
		fails(t, err, store.Corrupt)
		_, err = s.Put(ctx, c.Put(r))
		fails(t, err, store.Corrupt) // no receipt for what is not there
		if st := status(t, s); st.Damage != int64(3*(i+1)) {
			t.Errorf("damage %d", st.Damage)
		}
		if err := s.Discard(ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
			t.Error(err)
		}
		if _, err := s.Put(ctx, c.Put(r)); err != nil {
			t.Errorf("put it back: %v", err)
		}
		has(t, s, c)
	}
}

// TestSweep makes by hand what a crash can leave at each step, and opens.
func TestSweep(t *testing.T) {
	root := filepath.Join(t.TempDir(), "node")
	s := admitted(t, makeStore(t, root, 1<<30, Options{}))
	kept, _ := put(t, s, 3000)
	write := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// A put that had written, and one that had been renamed, with its checksums.
	written, renamed := newCrate(100), large()
	write(filepath.Join(root, tempName, written.ID.String()), written.Data)
	write(crateFile(root, renamed.ID), renamed.Data)
	_, _, err := s.index.intend([]named{{written.ID, store.Plain}, {renamed.ID, store.Plain}, {kept.ID, store.Plain}})
	must(err)
	must(s.index.saveChunks(renamed.ID, renamed.Sums))
	// A discard whose file was not unlinked yet.
	doomed, _ := put(t, s, 3000)
	rec, _, err := s.index.find(doomed.ID)
	must(err)
	_, err = s.index.discard(rec, s.newMark(store.Plain))
	must(err)
	// An adoption before its rename, and one after.
	bodies := t.TempDir()
	early, late := newCrate(70000), large()
	r := reserve(t, s, late.Charge())
	write(filepath.Join(bodies, "early"), early.Data)
	write(crateFile(root, late.ID), late.Data)
	for path, c := range map[string]storetest.Crate{"early": early, "late": late} {
		a := adoption{r, filepath.Join(bodies, path), newRecord(c.ID, store.Plain, c.Sums)}
		must(s.index.put(crateKey(keyAdopted, c.ID), a.encode()))
		must(s.index.saveChunks(c.ID, c.Sums))
	}
	must(s.Close())

	s = admitted(t, openStore(t, root, Options{}))
	defer func() { _ = s.Close() }()
	has(t, s, kept)
	has(t, s, late)
	for _, c := range []storetest.Crate{written, renamed, doomed, early} {
		_, err := s.Stat(context.Background(), c.ID)
		fails(t, err, store.NotFound)
		if _, err := os.Stat(crateFile(root, c.ID)); err == nil {
			t.Errorf("the file of crate %s is left", c.ID)
		}
	}
	if p, err := os.ReadFile(filepath.Join(bodies, "early")); err != nil || !bytes.Equal(p, early.Data) {
		t.Errorf("a body that was not adopted: %d bytes, %v", len(p), err)
	}
	if st := status(t, s); st.Crates != 2 || st.Used != kept.Charge()+late.Charge() {
		t.Errorf("status %+v", st)
	}
	// The adoption was charged to its reservation.
	if _, err := s.Put(context.Background(), newCrate(10).Put(r)); store.KindOf(err) != store.NoSpace {
		t.Errorf("the reservation of an adopted crate has room: %v", err)
	}
	for _, kind := range []byte{keyIntent, keyAdopted, keyMark} {
		if ps, err := s.index.space.Scan([]byte{kind}, []byte{kind + 1}, 0); err != nil || len(ps) > 0 {
			t.Errorf("%d entries %q left, %v", len(ps), kind, err)
		}
	}
	if names, _ := os.ReadDir(filepath.Join(root, tempName)); len(names) > 0 {
		t.Errorf("left in tmp: %v", names)
	}
}

// TestRebuild loses the index, or damages it, and makes it anew.
func TestRebuild(t *testing.T) {
	ctx := context.Background()
	root := filepath.Join(t.TempDir(), "node")
	s := admitted(t, makeStore(t, root, 1<<30, Options{}))
	var cs []storetest.Crate
	for _, n := range []int{1, 4096, 3 << 20} {
		c, _ := put(t, s, n)
		cs = append(cs, c)
	}
	cs = append(cs, large())
	sealed := newCrate(5000)
	sealed.Form = store.Sealed
	cs = append(cs, sealed)
	r := reserve(t, s, 1<<28)
	for _, c := range cs[3:] {
		if _, err := s.Put(ctx, c.Put(r)); err != nil {
			t.Fatal(err)
		}
	}
	was := status(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	strange := filepath.Join(root, cratesName, "00", "notes.txt")
	if err := os.WriteFile(strange, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Rebuild(ctx, root, owner, Options{}, nil)
	fails(t, err, store.Conflict, "in order")
	_, err = Rebuild(ctx, root, store.OwnerID{7}, Options{}, nil)
	fails(t, err, store.Denied)

	lose := map[string]func() error{
		"lost":  func() error { return os.RemoveAll(filepath.Join(root, indexName)) },
		"empty": func() error { return os.RemoveAll(filepath.Join(root, indexName)) },
	}
	for name, f := range lose {
		if err := f(); err != nil {
			t.Fatal(err)
		}
		if name == "empty" {
			if err := os.Mkdir(filepath.Join(root, indexName), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Open(ctx, root, store.NodeID{}, owner, Options{})
		fails(t, err, store.Corrupt, "made anew")
		// Interrupted once, it goes on.
		stopped, cancel := context.WithCancel(ctx)
		_, err = Rebuild(stopped, root, owner, Options{}, func(r Rebuilt) {
			if r.Crates == 2 {
				cancel()
			}
		})
		fails(t, err, store.Unavailable)
		got, err := Rebuild(ctx, root, owner, Options{Capacity: was.Capacity}, nil)
		if err != nil || got.Crates != int64(len(cs)) || got.Strange != 1 {
			t.Fatalf("rebuild: %+v, %v", got, err)
		}
		s = admitted(t, openStore(t, root, Options{}))
		for _, c := range cs {
			has(t, s, c)
			info, err := s.Stat(ctx, c.ID)
			if err != nil || info.Form != c.Form || info.Root != c.Root() {
				t.Errorf("stat %+v, %v", info, err)
			}
		}
		if now := status(t, s); now.Used != was.Used || now.Crates != was.Crates || now.Leaf != was.Leaf || now.Capacity != was.Capacity {
			t.Errorf("status %+v, was %+v", now, was)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(strange); err != nil {
		t.Errorf("somebody's file is gone: %v", err)
	}
}
