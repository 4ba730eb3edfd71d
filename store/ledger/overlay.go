package ledger

import (
	"bytes"
	"time"

	"github.com/tidwall/btree"
)

const spaces = 2

func validSpace(id SpaceID) bool { return id == Shared || id == Local }

type tree = btree.BTreeG[change]

func newTree() *tree {
	return btree.NewBTreeGOptions(func(a, b change) bool { return bytes.Compare(a.key, b.key) < 0 },
		btree.Options{NoLocks: true})
}

// generation holds the newest change of each key over a run of updates. It is
// written until it is sealed and never after.
type generation struct {
	trees       [spaces]*tree
	copies      [spaces]*tree // of trees, for scans; nil after a change
	bytes       int64         // of memory, about
	journal     int64         // of journal, about
	first, last Position
	since       time.Time // of the first update
}

func newGeneration() *generation {
	g := &generation{}
	for i := range g.trees {
		g.trees[i] = newTree()
	}
	return g
}

func (g *generation) empty() bool { return g.last == 0 }

// apply takes an update; the changes' memory is the generation's from now on.
func (g *generation) apply(p Position, changes []change) {
	if g.empty() {
		g.first, g.since = p, time.Now()
	}
	g.last = p
	g.journal += recordHeader
	for _, c := range changes {
		i := c.space - 1
		g.copies[i] = nil
		size := int64(len(c.key) + len(c.value))
		g.journal += size
		g.bytes += size + entryOverhead
		if old, replaced := g.trees[i].Set(c); replaced {
			g.bytes -= int64(len(old.key)+len(old.value)) + entryOverhead
		}
	}
}

func (g *generation) get(space SpaceID, key []byte) (change, bool) {
	return g.trees[space-1].Get(change{key: key})
}

// frozen gives a copy of a tree that later changes don't touch. It is made by
// copy-on-write and shared by all scans between two changes.
func (g *generation) frozen(space SpaceID) *tree {
	i := space - 1
	if g.copies[i] == nil {
		g.copies[i] = g.trees[i].Copy()
	}
	return g.copies[i]
}
