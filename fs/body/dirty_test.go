package body

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// The map answers as a slice of bools would, through its file form too.
func TestMapIsASetOfUnits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const units = 200
		var m Map
		var want [units]bool
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			from := rapid.Int64Range(0, units).Draw(t, "from")
			to := rapid.Int64Range(0, units).Draw(t, "to")
			if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
				m.cut(from)
				clear(want[from:])
				continue
			}
			fresh := false
			for u := from; u < to; u++ {
				fresh = fresh || !want[u]
				want[u] = true
			}
			if got := m.set(from, to); got != fresh {
				t.Fatalf("set(%d, %d) said %v", from, to, got)
			}
		}
		again := mapOf(m.bytes())
		for _, m := range []Map{m, again} {
			for u := range int64(units) {
				if m.Has(u) != want[u] {
					t.Fatalf("unit %d is %v", u, m.Has(u))
				}
				n, held := m.Run(u, units)
				end := u
				for end < units && want[end] == want[u] {
					end++
				}
				if held != want[u] || n != end-u {
					t.Fatalf("Run(%d) gives %d, %v; want %d, %v", u, n, held, end-u, want[u])
				}
			}
		}
		if !bytes.Equal(m.bytes(), again.bytes()) {
			t.Fatal("the file form does not come back")
		}
	})
}
