package memory

import (
	"testing"

	"stasis/store"
	"stasis/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Factory{New: func(t testing.TB, o storetest.Options) *storetest.Instance {
		s, err := New(o.Capacity, Options{Clock: o.Clock})
		if err != nil {
			t.Fatal(err)
		}
		return &storetest.Instance{Store: s, Damage: func(t testing.TB, id store.CrateID, offset int64) {
			s.mu.Lock()
			defer s.mu.Unlock()
			c, ok := s.crates.Get(string(id[:]))
			if !ok {
				t.Fatal("no such crate")
			}
			c.blocks[offset/store.BlockSize][offset%store.BlockSize] ^= 1
		}}
	}})
}

func TestCapacity(t *testing.T) {
	for _, n := range []int64{0, -1} {
		if _, err := New(n, Options{}); store.KindOf(err) != store.Invalid {
			t.Errorf("capacity %d: %v, want invalid", n, err)
		}
	}
}
