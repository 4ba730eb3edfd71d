package router

import (
	"container/list"
	"sync"
	"time"

	"stasis/router/cache"
	"stasis/store"
)

// blockKey names one block of a crate. What it stands for never changes.
type blockKey = cache.Key

// blockCache keeps verified blocks, the least recently used go first.
type blockCache struct {
	mu    sync.Mutex
	limit int64
	bytes int64
	order list.List // of *cachedBlock, the most recently used in front
	byKey map[blockKey]*list.Element
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

// fetching is one fetch that several may wait for.
type fetching struct {
	done chan struct{}
	data []byte
	err  error
}

// maxReaders is how many crates are remembered as being read in order.
const maxReaders = 1024

// stragglers is how many blocks behind the last one a read does not break the order.
const stragglers = 3

func newBlockCache(limit int64) *blockCache {
	return &blockCache{limit: limit, byKey: make(map[blockKey]*list.Element), last: make(map[store.CrateID]course), under: make(map[blockKey]*fetching)}
}

// find gives a block, which nobody may change; nil if it is not there. Called with mu
// held.
func (c *blockCache) find(k blockKey) []byte {
	e := c.byKey[k]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedBlock).data
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
		if c.byKey[k] == nil && c.under[k] == nil {
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
	if err != nil || int64(len(data)) > c.limit {
		return
	}
	c.byKey[k] = c.order.PushFront(&cachedBlock{k, data})
	for c.bytes += int64(len(data)); c.bytes > c.limit; {
		oldest := c.order.Back()
		b := oldest.Value.(*cachedBlock)
		c.order.Remove(oldest)
		delete(c.byKey, b.key)
		c.bytes -= int64(len(b.data))
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
