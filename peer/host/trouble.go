package host

import (
	"errors"
	"sync"
	"syscall"

	"stasis/store"
)

// trouble is what the store or the ledger of the host failed with when something was to be written
// last: owners are told what kind of it, the peer's person all of it. It costs nothing to know, as
// nothing is written for it.
type trouble struct {
	mu   sync.Mutex
	last error // nil: the last writing went well
}

// wrote notes how a writing went. What is wrong with the writer's own request is none.
func (t *trouble) wrote(err error) {
	if k := store.KindOf(err); err != nil && k != 0 && k != store.Unavailable {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = err
}

func (t *trouble) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// reason says of an error of the disk what an owner may know of it: no path is in it.
func reason(err error) string {
	switch {
	case errors.Is(err, syscall.EROFS):
		return "the peer's disk may only be read at the moment"
	case errors.Is(err, syscall.EIO):
		return "the peer's disk fails"
	}
	return ""
}
