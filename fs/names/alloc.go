package names

import (
	"sync"

	"stasis/store/ledger"
)

// allocator hands out numbers that were never given before. The ledger holds a
// mark that is above all of them and is raised a block at a time, so that taking a
// number seldom costs a write of its own.
type allocator struct {
	space *ledger.Space
	key   []byte

	mu   sync.Mutex
	next uint64
	mark uint64 // every number below it is taken for given after a crash
}

// newAllocator goes on behind the mark in the ledger, or at first.
func newAllocator(space *ledger.Space, key []byte, first uint64) (*allocator, error) {
	v, ok, err := space.Get(key)
	if err != nil {
		return nil, err
	}
	if ok {
		if first, err = decodeMark(v); err != nil {
			return nil, err
		}
	}
	return &allocator{space: space, key: key, next: first, mark: first}, nil
}

func (a *allocator) take() (uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next == a.mark {
		up := a.mark + allocationBlock
		_, err := a.space.Update(func(tx *ledger.Tx) error {
			tx.Put(a.key, encodeMark(up))
			return nil
		})
		if err != nil {
			return 0, err
		}
		a.mark = up
	}
	a.next++
	return a.next - 1, nil
}

// last is a bound: every number given so far is at most this.
func (a *allocator) last() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.next - 1
}
