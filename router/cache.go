package router

import (
	"container/list"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"stasis/router/cache"
	"stasis/store"
	"stasis/store/lean"
)

// blockKey names one block of a crate. What it stands for never changes.
type blockKey = cache.Key

// blockCache keeps verified blocks, the least recently used go first.
type blockCache struct {
	mu    sync.Mutex
	limit int64
	bytes int64
	order list.List // of *cachedBlock, the most recently used in front
	// crates has the blocks of each crate, in no order: most have one.
	crates lean.Map[store.CrateID, []*list.Element]
	// last is how crates are read, to see who reads in order. Entries go when there are
	// too many.
	last map[store.CrateID]course
	// under are fetches under way.
	under map[blockKey]*fetching
}

// course is how a crate is read.
type course struct {
	block int64 // that was read last
	run   int   // blocks that were read in order before it
	at    time.Time
}

type cachedBlock struct {
	key  blockKey
	data []byte
}

// cost is what a block takes of the limit.
func (b *cachedBlock) cost() int64 { return int64(len(b.data)) + blockOverhead }

// fetching is one fetch that several may wait for.
type fetching struct {
	done chan struct{}
	// busy: a local node that answers has been asked and is at it.
	busy atomic.Bool
	data []byte
	err  error
}

// maxReaders is how many crates are remembered as being read in order.
const maxReaders = 1024

// blockOverhead is what a cached block takes beside its data, in bytes. Without it the
// blocks of small files, which are many, would take several times the limit.
const blockOverhead = 256

// stragglers is how many blocks behind the last one a read does not break the order.
const stragglers = 3

func newBlockCache(limit int64) *blockCache {
	return &blockCache{limit: limit, last: make(map[store.CrateID]course), under: make(map[blockKey]*fetching)}
}

// find gives a block, which nobody may change; nil if it is not there. Called with mu
// held.
func (c *blockCache) find(k blockKey) []byte {
	e := c.element(k)
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedBlock).data
}

// element gives the place of a block, nil if it is not there. Called with mu held.
func (c *blockCache) element(k blockKey) *list.Element {
	for _, e := range c.crates.Get(k.Crate) {
		if e.Value.(*cachedBlock).key == k {
			return e
		}
	}
	return nil
}

// begin gives the block, or the fetch of it that is under way; mine says that it was
// begun now and that the caller must see it through.
func (c *blockCache) begin(k blockKey) (data []byte, f *fetching, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if data = c.find(k); data != nil {
		return data, nil, false
	}
	if f = c.under[k]; f != nil {
		return nil, f, false
	}
	f = &fetching{done: make(chan struct{})}
	c.under[k] = f
	return nil, f, true
}

// coming is how many blocks are on their way.
func (c *blockCache) coming() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.under)
}

// lacks gives the first block of a range, which ends before end, that is neither there nor on
// its way; end if there is none.
func (c *blockCache) lacks(crate store.CrateID, first, end int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ; first < end; first++ {
		k := blockKey{Crate: crate, Block: first}
		if c.element(k) == nil && c.under[k] == nil {
			break
		}
	}
	return first
}

// end finishes a fetch.
func (c *blockCache) end(k blockKey, f *fetching, data []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.data, f.err = data, err
	delete(c.under, k)
	close(f.done)
	b := &cachedBlock{k, data}
	if err != nil || b.cost() > c.limit {
		return
	}
	c.crates.Set(k.Crate, append(c.crates.Get(k.Crate), c.order.PushFront(b)))
	for c.bytes += b.cost(); c.bytes > c.limit; {
		c.remove(c.order.Back())
	}
}

// remove takes a block out. Called with mu held.
func (c *blockCache) remove(e *list.Element) {
	b := c.order.Remove(e).(*cachedBlock)
	c.bytes -= b.cost()
	es := c.crates.Get(b.key.Crate)
	if i := slices.Index(es, e); len(es) > 1 {
		c.crates.Set(b.key.Crate, slices.Delete(es, i, i+1))
	} else {
		c.crates.Delete(b.key.Crate)
	}
}

// drop gives up the blocks of a crate that nobody will read any more.
func (c *blockCache) drop(crate store.CrateID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range slices.Clone(c.crates.Get(crate)) {
		c.remove(e)
	}
}

// follow notes that a block is read. It gives how many were read in order up to this one,
// or 0 if that is nothing new, and how many crates are being read in order.
func (c *blockCache) follow(crate store.CrateID, block int64) (run, readers int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, known := c.last[crate]
	now := time.Now()
	switch {
	case !known && len(c.last) >= maxReaders:
		clear(c.last) // whoever reads on is seen again at once
	case known && block <= was.block && block > was.block-stragglers:
		return 0, 0 // the kernel asks for neighbours in any order
	case known && was.block == block-1:
		run = was.run + 1
	}
	c.last[crate] = course{block, run, now}
	if run == 0 {
		return 0, 0
	}
	for _, o := range c.last {
		if o.run > 0 && now.Sub(o.at) < ReaderAway {
			readers++
		}
	}
	return run, readers
}
