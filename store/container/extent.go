package container

import (
	"math"

	"github.com/tidwall/btree"
)

// extent is a run of pages.
type extent struct {
	start, pages int64
}

func (e extent) end() int64 { return e.start + e.pages }

// maxExtent is the most pages of one extent: what its encoding has bits for.
const maxExtent = 1<<24 - 1

// pack puts an extent into 8 bytes: 40 bits of page number, 24 bits of length.
func (e extent) pack() uint64 { return uint64(e.start)<<24 | uint64(e.pages) }

func unpackExtent(v uint64) extent {
	return extent{start: int64(v >> 24), pages: int64(v & maxExtent)}
}

// totalPages is how many pages the extents have together.
func totalPages(es []extent) (n int64) {
	for _, e := range es {
		n += e.pages
	}
	return n
}

// slice gives n pages of the row that the extents make, from its page skip on.
func slice(es []extent, skip, n int64) []extent {
	var out []extent
	for _, e := range es {
		if n <= 0 {
			break
		}
		if skip >= e.pages {
			skip -= e.pages
			continue
		}
		k := min(e.pages-skip, n)
		out = append(out, extent{e.start + skip, k})
		skip, n = 0, n-k
	}
	return out
}

// appendExtent adds e to the row, joined to its last extent where the two
// touch, in parts that can be packed.
func appendExtent(es []extent, e extent) []extent {
	if k := len(es) - 1; k >= 0 && es[k].end() == e.start {
		n := min(maxExtent-es[k].pages, e.pages)
		es[k].pages += n
		e.start, e.pages = e.start+n, e.pages-n
	}
	for e.pages > 0 {
		n := min(maxExtent, e.pages)
		es = append(es, extent{e.start, n})
		e.start, e.pages = e.start+n, e.pages-n
	}
	return es
}

// space is the map of free pages. It is not safe for concurrent use. The run up
// to limit is a free run like any other, so the file grows only where no hole
// has the room.
type space struct {
	limit   int64
	free    int64 // pages
	byStart *btree.BTreeG[extent]
	bySize  *btree.BTreeG[extent]
}

// newSpace has all pages from first to limit free.
func newSpace(first, limit int64) *space {
	s := &space{limit: limit}
	opts := btree.Options{NoLocks: true, Degree: 16}
	s.byStart = btree.NewBTreeGOptions(func(a, b extent) bool { return a.start < b.start }, opts)
	s.bySize = btree.NewBTreeGOptions(func(a, b extent) bool {
		if a.pages != b.pages {
			return a.pages < b.pages
		}
		return a.start < b.start
	}, opts)
	s.insert(extent{first, limit - first})
	return s
}

func (s *space) insert(e extent) {
	if e.pages > 0 {
		s.byStart.Set(e)
		s.bySize.Set(e)
		s.free += e.pages
	}
}

func (s *space) remove(e extent) {
	s.byStart.Delete(e)
	s.bySize.Delete(e)
	s.free -= e.pages
}

// at is the free run that page lies in.
func (s *space) at(page int64) (run extent, ok bool) {
	s.byStart.Descend(extent{start: page}, func(e extent) bool {
		run, ok = e, page < e.end()
		return false
	})
	return run, ok
}

// take marks e as used. It reports false, and changes nothing, if not all of it
// is free.
func (s *space) take(e extent) bool {
	run, ok := s.at(e.start)
	if !ok || e.pages <= 0 || e.end() > run.end() {
		return false
	}
	s.remove(run)
	s.insert(extent{run.start, e.start - run.start})
	s.insert(extent{e.end(), run.end() - e.end()})
	return true
}

// alloc takes n pages: the smallest run that has room for them all, of those
// the first; or if there is none the largest runs, so that the pieces are few.
// It reports false, and takes nothing, if fewer are free.
func (s *space) alloc(n int64) ([]extent, bool) {
	if n > s.free {
		return nil, false
	}
	var out []extent
	for n > 0 {
		var run extent
		s.bySize.Ascend(extent{pages: n, start: math.MinInt64}, func(e extent) bool {
			run = e
			return false
		})
		if run.pages == 0 {
			run, _ = s.bySize.Max()
		}
		e := extent{run.start, min(n, run.pages)}
		s.take(e)
		out = appendExtent(out, e)
		n -= e.pages
	}
	return out, true
}

// allocFirst takes n pages as near to the start of the file as they are free.
func (s *space) allocFirst(n int64) ([]extent, bool) {
	if n > s.free {
		return nil, false
	}
	var out []extent
	for n > 0 {
		run, _ := s.byStart.Min()
		e := extent{run.start, min(n, run.pages)}
		s.take(e)
		out = appendExtent(out, e)
		n -= e.pages
	}
	return out, true
}

// release makes e free again, joined to its neighbours.
func (s *space) release(e extent) {
	if before, ok := s.at(e.start - 1); ok {
		s.remove(before)
		e = extent{before.start, before.pages + e.pages}
	}
	if after, ok := s.at(e.end()); ok {
		s.remove(after)
		e.pages += after.pages
	}
	s.insert(e)
}

// end is the page after the last one in use.
func (s *space) end() int64 {
	if last, ok := s.byStart.Max(); ok && last.end() == s.limit {
		return last.start
	}
	return s.limit
}

// endOfFirst is the page after the first n that are free.
func (s *space) endOfFirst(n int64) int64 {
	end := s.limit
	s.byStart.Scan(func(e extent) bool {
		if n <= e.pages {
			end = e.start + n
			return false
		}
		n -= e.pages
		return true
	})
	return end
}

// runs gives every free run in order.
func (s *space) runs() []extent { return s.byStart.Items() }
