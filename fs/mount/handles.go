package mount

import (
	"sync"

	"stasis/fs"
)

// handles are the open files, by the numbers that the kernel knows them by.
type handles struct {
	mu   sync.RWMutex
	last uint64
	open map[uint64]*fs.Handle
}

func newHandles() *handles { return &handles{open: make(map[uint64]*fs.Handle)} }

// add gives a handle its number, which is never 0 and never used again.
func (t *handles) add(h *fs.Handle) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	t.open[t.last] = h
	return t.last
}

// get gives a handle, or nil.
func (t *handles) get(number uint64) *fs.Handle {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.open[number]
}

// take gives a handle, or nil, and forgets it.
func (t *handles) take(number uint64) *fs.Handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[number]
	delete(t.open, number)
	return h
}

// releaseAll releases what is still open. No request may be under way.
func (t *handles) releaseAll() {
	t.mu.Lock()
	open := t.open
	t.open = make(map[uint64]*fs.Handle)
	t.mu.Unlock()
	for _, h := range open {
		h.Release()
	}
}
