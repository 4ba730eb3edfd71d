package router

import (
	"testing"

	"stasis/store"
)

// The cache keeps to its limit with blocks of every size, what it keeps of them in memory
// counted, and gives a dead crate's up.
func TestBlockCache(t *testing.T) {
	const limit = 100 * (1 + blockOverhead)
	c := newBlockCache(limit)
	put := func(crate store.CrateID, block int64) {
		t.Helper()
		k := blockKey{Crate: crate, Block: block}
		_, f, mine := c.begin(k)
		if !mine {
			t.Fatalf("block %d is there before it was fetched", block)
		}
		c.end(k, f, []byte{1}, nil)
	}
	has := func(crate store.CrateID, block int64) bool { return c.lacks(crate, block, block+1) > block }
	var crates []store.CrateID
	for range 200 {
		crates = append(crates, store.NewCrateID())
		put(crates[len(crates)-1], 0)
	}
	if n := c.order.Len(); n != 100 || c.crates.Len() != n || c.bytes != limit {
		t.Fatalf("%d blocks of %d crates with %d bytes, want 100 in %d", n, c.crates.Len(), c.bytes, limit)
	}
	if has(crates[99], 0) || !has(crates[100], 0) {
		t.Error("not the oldest went")
	}
	many := store.NewCrateID()
	for i := range int64(10) {
		put(many, i)
	}
	c.drop(crates[150])
	c.drop(crates[0]) // has none
	for i := range int64(10) {
		if !has(many, i) {
			t.Errorf("block %d is not there", i)
		}
	}
	c.drop(many)
	if has(many, 0) || has(many, 9) || has(crates[150], 0) || !has(crates[151], 0) {
		t.Error("not the blocks of the crates that were dropped went")
	}
	if n := c.order.Len(); n != 89 || c.crates.Len() != n || c.bytes != int64(n)*(1+blockOverhead) {
		t.Errorf("%d blocks of %d crates with %d bytes are left, want 89", n, c.crates.Len(), c.bytes)
	}
}
