package directory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"stasis/store"
	"stasis/store/storetest"
)

// owner is the vault of most tests.
var owner = store.OwnerID{1, 2, 3}

// makeStore makes a store in a directory of its own and opens it.
func makeStore(t testing.TB, path string, capacity int64, o Options) *Store {
	t.Helper()
	if _, err := Create(path, owner, capacity, o); err != nil {
		t.Fatal(err)
	}
	return openStore(t, path, o)
}

func openStore(t testing.TB, path string, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), path, store.NodeID{}, owner, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// admitted makes this test the running mount.
func admitted(t testing.TB, s *Store) *Store {
	t.Helper()
	if err := s.Fence(context.Background(), nil, store.NewToken(), true); err != nil {
		t.Fatal(err)
	}
	return s
}

// crateFile is where a crate's bytes lie.
func crateFile(root string, id store.CrateID) string {
	return filepath.Join(root, cratesName, shardName(shardOf(id)), fileName(id, store.Plain))
}

func factory(dir string) storetest.Factory {
	return storetest.Factory{New: func(t testing.TB, o storetest.Options) *storetest.Instance {
		base := dir
		if base == "" {
			base = t.TempDir()
		} else {
			var err error
			if base, err = os.MkdirTemp(dir, "store"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(base) })
		}
		root, bodies := filepath.Join(base, "node"), filepath.Join(base, "bodies")
		if err := os.Mkdir(bodies, 0o700); err != nil {
			t.Fatal(err)
		}
		options := Options{Clock: o.Clock}
		in := &storetest.Instance{AdoptDir: bodies, Path: root}
		in.Store = makeStore(t, root, o.Capacity, options)
		in.Reopen = func(t testing.TB) store.Store {
			if err := in.Store.Close(); err != nil {
				t.Fatal(err)
			}
			in.Store = openStore(t, root, options)
			return in.Store
		}
		in.Damage = func(t testing.TB, id store.CrateID, offset int64) { flip(t, crateFile(root, id), offset) }
		in.Lose = func(t testing.TB, id store.CrateID) {
			var err error
			if path := crateFile(root, id); id[15]%2 == 0 {
				err = os.Remove(path)
			} else {
				err = os.Truncate(path, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return in
	}}
}

// flip changes one bit of a file.
func flip(t testing.TB, path string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
}

func TestStore(t *testing.T) { storetest.Run(t, factory("")) }

// gen makes crates where a test has no seed to repeat.
var gen = storetest.NewGen(1)

// newCrate makes a crate with an id of its own.
func newCrate(size int) storetest.Crate {
	c := gen.Crate(size)
	c.ID = store.NewCrateID()
	return c
}

// put stores a new crate under a reservation that has room for more.
func put(t testing.TB, s *Store, size int) (storetest.Crate, store.ReservationID) {
	t.Helper()
	c := newCrate(size)
	r := reserve(t, s, c.Charge()+1<<16)
	if _, err := s.Put(context.Background(), c.Put(r)); err != nil {
		t.Fatal(err)
	}
	return c, r
}

func reserve(t testing.TB, s *Store, bytes int64) store.ReservationID {
	t.Helper()
	r := store.NewReservationID()
	if _, err := s.Reserve(context.Background(), store.ReserveRequest{ID: r, Bytes: bytes}); err != nil {
		t.Fatal(err)
	}
	return r
}

// has checks that a crate is there, whole.
func has(t testing.TB, s *Store, c storetest.Crate) {
	t.Helper()
	if err := holds(s, c); err != nil {
		t.Error(err)
	}
}

func holds(s *Store, c storetest.Crate) error {
	rc, err := s.Open(context.Background(), c.ID, 0, -1)
	if err != nil {
		return err
	}
	p, err := io.ReadAll(rc)
	if err == nil && !bytes.Equal(p, c.Data) {
		err = fmt.Errorf("crate %s has other bytes", c.ID)
	}
	return errors.Join(err, rc.Close())
}

func status(t testing.TB, s *Store) store.Status {
	t.Helper()
	st, err := s.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return st
}
