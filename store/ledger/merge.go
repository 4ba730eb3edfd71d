package ledger

import (
	"bytes"
	"cmp"
	"slices"
)

// source gives changes in the order of their keys. at reports false at the end.
type source interface {
	at() (change, bool)
	next()
}

// treeSource goes through a tree that nobody changes meanwhile.
type treeSource struct {
	iter treeIter
	ok   bool
}

type treeIter interface {
	Seek(change) bool
	Next() bool
	Item() change
}

func newTreeSource(t *tree, from []byte) *treeSource {
	iter := t.Iter()
	s := &treeSource{iter: &iter}
	s.ok = s.iter.Seek(change{key: from})
	return s
}

func (s *treeSource) at() (change, bool) {
	if !s.ok {
		return change{}, false
	}
	return s.iter.Item(), true
}

func (s *treeSource) next() { s.ok = s.iter.Next() }

// sliceSource goes through sorted changes of one space.
type sliceSource []change

func newSliceSource(sorted []change, from []byte) *sliceSource {
	i, _ := slices.BinarySearchFunc(sorted, from, compareKey)
	s := sliceSource(sorted[i:])
	return &s
}

func (s *sliceSource) at() (change, bool) {
	if len(*s) == 0 {
		return change{}, false
	}
	return (*s)[0], true
}

func (s *sliceSource) next() { *s = (*s)[1:] }

func compareKey(c change, key []byte) int { return bytes.Compare(c.key, key) }

// compareChanges orders the changes of an update.
func compareChanges(a, b change) int {
	return cmp.Or(cmp.Compare(a.space, b.space), bytes.Compare(a.key, b.key))
}

// merge gives at most limit pairs before to, copied. Where several sources have a
// key the first of them counts, and its deletion hides the others.
func merge(sources []source, to []byte, limit int) []Pair {
	var out []Pair
	for len(out) < limit {
		var best change
		found := false
		for _, s := range sources {
			if c, ok := s.at(); ok && (!found || bytes.Compare(c.key, best.key) < 0) {
				best, found = c, true
			}
		}
		if !found || (to != nil && bytes.Compare(best.key, to) >= 0) {
			break
		}
		if !best.deleted {
			out = append(out, Pair{Key: bytes.Clone(best.key), Value: append([]byte{}, best.value...)})
		}
		for _, s := range sources {
			if c, ok := s.at(); ok && bytes.Equal(c.key, best.key) {
				s.next()
			}
		}
	}
	return out
}
