package container

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"stasis/store"
	"stasis/store/storetest"
)

var testOwner = store.OwnerID{7}

// make gives a container in a directory of the test, of any size.
func newContainer(t testing.TB, capacity int64, o Options) (path string, s *Store) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "c")
	id, err := Create(path, testOwner, capacity, o)
	if err != nil {
		t.Fatal(err)
	}
	s, err = Open(context.Background(), path, id, testOwner, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return path, s
}

func reopen(t testing.TB, path string, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), path, store.NodeID{}, testOwner, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Factory{New: func(t testing.TB, o storetest.Options) *storetest.Instance {
		opts := Options{Clock: o.Clock}
		path, s := newContainer(t, o.Capacity, opts)
		inst := &storetest.Instance{Store: s, Path: path}
		inst.Reopen = func(t testing.TB) store.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = reopen(t, path, opts)
			return s
		}
		inst.Damage = func(t testing.TB, id store.CrateID, offset int64) {
			flip(t, s.f, dataOffset(t, s, id, offset))
		}
		inst.Lose = func(t testing.TB, id store.CrateID) {
			// As the free page that it was before.
			if err := s.v.writePages(make([]byte, PageSize), s.get(id).extents[0].start); err != nil {
				t.Fatal(err)
			}
		}
		return inst
	}})
}

// A container that was cut off has the crates whose data does not lie past its end.
func TestDataPastTheEnd(t *testing.T) {
	_, s := newContainer(t, 16<<20, Options{})
	if err := s.Fence(context.Background(), nil, store.NewToken(), true); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 5000, 3<<20 + 1} {
		k := storetest.NewGen(1).Crate(size)
		k.ID = store.NewCrateID()
		store1(t, s, k)
		end := dataOffset(t, s, k.ID, int64(size)-1) + 1
		if err := s.v.lies(s.get(k.ID), end); err != nil {
			t.Errorf("%d bytes, all of them there: %v", size, err)
		}
		if err := s.v.lies(s.get(k.ID), end-1); !errors.Is(err, errShort) {
			t.Errorf("%d bytes, the last one cut off: %v", size, err)
		}
	}
}

// dataOffset is where in the file a byte of a crate lies.
func dataOffset(t testing.TB, s *Store, id store.CrateID, offset int64) (at int64) {
	t.Helper()
	c := s.get(id)
	if c == nil {
		t.Fatal("no such crate")
	}
	_, data := c.headerData()
	if err := extentIO(data, make([]byte, 1), offset, func(_ []byte, pos int64) error { at = pos; return nil }); err != nil {
		t.Fatal(err)
	}
	return at
}

// flip changes a bit of the file.
func flip(t testing.TB, f file, at int64) {
	t.Helper()
	p := make([]byte, 1)
	if _, err := f.ReadAt(p, at); err != nil {
		t.Fatal(err)
	}
	p[0] ^= 4
	if _, err := f.WriteAt(p, at); err != nil {
		t.Fatal(err)
	}
}
