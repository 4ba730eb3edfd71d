package container

import (
	"testing"

	"pgregory.net/rapid"
)

// The map of free space against a row of booleans: what is handed out was free,
// is as much as asked for, and what is given back joins up again.
func TestSpaceAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const first, limit = 4, 400
		s := newSpace(first, limit)
		used := make([]bool, limit)
		var held [][]extent
		free := int64(limit - first)
		t.Repeat(map[string]func(*rapid.T){
			"alloc": func(t *rapid.T) {
				n := rapid.Int64Range(1, 120).Draw(t, "pages")
				alloc := s.alloc
				if rapid.Bool().Draw(t, "first") {
					alloc = s.allocFirst
				}
				es, ok := alloc(n)
				if ok != (n <= free) {
					t.Fatalf("alloc %d of %d free: %v", n, free, ok)
				}
				if !ok {
					return
				}
				if totalPages(es) != n {
					t.Fatalf("asked for %d pages, got %v", n, es)
				}
				for _, e := range es {
					if unpackExtent(e.pack()) != e {
						t.Fatalf("%v does not survive packing", e)
					}
					for p := e.start; p < e.end(); p++ {
						if p < first || used[p] {
							t.Fatalf("page %d handed out twice", p)
						}
						used[p] = true
					}
				}
				free -= n
				held = append(held, es)
			},
			"release": func(t *rapid.T) {
				if len(held) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				for _, e := range held[i] {
					s.release(e)
					for p := e.start; p < e.end(); p++ {
						used[p] = false
					}
				}
				free += totalPages(held[i])
				held = append(held[:i], held[i+1:]...)
			},
			"": func(t *rapid.T) {
				if s.free != free {
					t.Fatalf("free is %d, should be %d", s.free, free)
				}
				var runs []extent
				end := int64(first)
				for p := int64(first); p < limit; p++ {
					if used[p] {
						end = p + 1
						continue
					}
					if k := len(runs) - 1; k >= 0 && runs[k].end() == p {
						runs[k].pages++
					} else {
						runs = append(runs, extent{p, 1})
					}
				}
				got := s.runs()
				if len(got) != len(runs) || s.end() != end || s.bySize.Len() != len(runs) {
					t.Fatalf("runs are %v, should be %v; end %d, should be %d", got, runs, s.end(), end)
				}
				for i := range runs {
					if got[i] != runs[i] {
						t.Fatalf("runs are %v, should be %v", got, runs)
					}
				}
			},
		})
	})
}

func TestExtentsTooLongToPackAreSplit(t *testing.T) {
	es := appendExtent([]extent{{10, 5}}, extent{15, 2 * maxExtent})
	if totalPages(es) != 2*maxExtent+5 {
		t.Fatalf("pages are lost: %v", es)
	}
	for _, e := range es {
		if unpackExtent(e.pack()) != e {
			t.Fatalf("%v does not survive packing", e)
		}
	}
	if got := slice(es, 3, 10); totalPages(got) != 10 || got[0].start != 13 {
		t.Fatalf("slice gives %v", got)
	}
}
