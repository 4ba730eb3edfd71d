package lean

import (
	"runtime"
	"testing"
)

// It is a map, and most of what it took goes when most of its entries do.
func TestMap(t *testing.T) {
	const n, stay = 1 << 18, 1 << 18 / 64
	var m Map[int, int]
	before := held()
	for i := range n {
		m.Set(i, 2*i)
	}
	full := held() - before
	for i := stay; i < n; i++ {
		m.Delete(i)
	}
	if left := held() - before; left > full/8 {
		t.Errorf("%d bytes are held of %d with a 64th of the entries", left, full)
	}
	if m.Len() != stay {
		t.Fatalf("%d entries are left, want %d", m.Len(), stay)
	}
	for i := range n {
		if has := i < stay; m.Has(i) != has || has && m.Get(i) != 2*i || !has && m.Get(i) != 0 {
			t.Fatalf("entry %d: %v, %d", i, m.Has(i), m.Get(i))
		}
	}
	for i := range m.All() {
		m.Delete(i)
	}
	m.Delete(n)
	if m.Len() != 0 || m.Has(0) {
		t.Errorf("%d entries are left of none", m.Len())
	}
}

func held() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
