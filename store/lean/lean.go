// Package lean has a map that gives memory back. One of Go's own keeps what it took for
// the most entries that it ever had, for as long as it lives: too much where that follows
// how many files a program once went through.
package lean

import (
	"iter"
	"maps"
)

const (
	// worthwhile is how many entries there must have been for it to matter, and part the part
	// (1/part) of them that is left when the map is made anew.
	worthwhile = 4096
	part       = 4
)

// Map is a map. The zero Map is empty. Its methods are not to be called concurrently.
type Map[K comparable, V any] struct {
	m    map[K]V
	most int // entries since it was made
}

// Get gives the value of a key, or the zero value.
func (t *Map[K, V]) Get(k K) V { return t.m[k] }

// Has reports whether there is a value of a key.
func (t *Map[K, V]) Has(k K) bool {
	_, ok := t.m[k]
	return ok
}

// Len is how many entries there are.
func (t *Map[K, V]) Len() int { return len(t.m) }

// All gives the entries, in no order.
func (t *Map[K, V]) All() iter.Seq2[K, V] { return maps.All(t.m) }

// Set sets the value of a key.
func (t *Map[K, V]) Set(k K, v V) {
	if t.m == nil {
		t.m = make(map[K]V)
	}
	t.m[k] = v
	t.most = max(t.most, len(t.m))
}

// Delete takes a key out.
func (t *Map[K, V]) Delete(k K) {
	delete(t.m, k)
	if t.most < worthwhile || len(t.m) > t.most/part {
		return
	}
	// A clone would be as large.
	m := make(map[K]V, len(t.m))
	maps.Copy(m, t.m)
	t.m, t.most = m, len(m)
}
