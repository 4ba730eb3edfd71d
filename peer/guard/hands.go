package guard

import (
	"context"
	"sync"
)

// hand is the turn of a connection whose TLS handshake is under way. It is held while its bytes
// are worked on, and not while they are waited for: whoever is slow holds up nobody, and all
// handshakes together take no more than their part of the processors.
type hand struct {
	mu      sync.Mutex
	turns   *Lanes // nil: the handshake is over
	address string
	held    bool
	over    context.Context // ends with the handshake
	stop    context.CancelFunc
}

// shake begins a handshake.
func (h *hand) shake(turns *Lanes, address string) {
	h.turns, h.address = turns, address
	h.over, h.stop = context.WithCancel(context.Background())
}

// lay gives the turn back.
func (h *hand) lay() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held {
		h.held = false
		h.turns.Release(h.address, 1)
	}
}

// take waits for a turn, or for the end.
func (h *hand) take() {
	h.mu.Lock()
	turns := h.turns
	h.mu.Unlock()
	if turns == nil || turns.Acquire(h.over, h.address, 1) != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.turns == nil || h.held {
		turns.Release(h.address, 1)
		return
	}
	h.held = true
}

// end ends the handshake, however it ended.
func (h *hand) end() {
	h.lay()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.turns != nil {
		h.turns = nil
		h.stop()
	}
}
