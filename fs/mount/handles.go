package mount

import (
	"sync"

	"stasis/fs"
	"stasis/fs/names"
)

// handles are the open files, by the numbers that the kernel knows them by.
type handles struct {
	mu   sync.RWMutex
	last uint64
	open map[uint64]opened
	// writers counts the handles for writing.
	writers map[writer]int
}

// opened is a handle with the user who opened it.
type opened struct {
	*fs.Handle
	user uint32
}

// writer is a user who has a file open for writing.
type writer struct {
	ino  names.Ino
	user uint32
}

func newHandles() *handles {
	return &handles{open: make(map[uint64]opened), writers: make(map[writer]int)}
}

// add gives a handle, which a user has opened, its number, which is never 0 and never used
// again.
func (t *handles) add(h *fs.Handle, user uint32) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	t.open[t.last] = opened{h, user}
	if h.Writes() {
		t.writers[writer{h.Ino(), user}]++
	}
	return t.last
}

// get gives a handle, or nil.
func (t *handles) get(number uint64) *fs.Handle {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.open[number].Handle
}

// writes reports whether a file was opened for writing by a user and is still open.
func (t *handles) writes(ino names.Ino, user uint32) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.writers[writer{ino, user}] > 0
}

// take gives a handle, or nil, and forgets it.
func (t *handles) take(number uint64) *fs.Handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.open[number]
	if o.Handle == nil {
		return nil
	}
	delete(t.open, number)
	if o.Writes() {
		w := writer{o.Ino(), o.user}
		if t.writers[w]--; t.writers[w] == 0 {
			delete(t.writers, w)
		}
	}
	return o.Handle
}

// releaseAll releases what is still open. No request may be under way.
func (t *handles) releaseAll() {
	t.mu.Lock()
	open := t.open
	t.open, t.writers = make(map[uint64]opened), make(map[writer]int)
	t.mu.Unlock()
	for _, o := range open {
		o.Release()
	}
}
