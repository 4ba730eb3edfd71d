package peerd

import (
	"context"
	"sync"

	"stasis/peer/host"
	"stasis/peer/wire"
	"stasis/store"
)

// gate is what the servers serve: the host, while there is one. The zero gate has none.
type gate struct {
	mu   sync.RWMutex
	host *host.Host
}

var _ wire.Service = (*gate)(nil)

func (g *gate) get() *host.Host {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.host
}

func (g *gate) set(h *host.Host) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.host = h
}

// Session is wire.Service's.
func (g *gate) Session(fingerprint string, mount store.Token) (wire.Session, error) {
	h := g.get()
	if h == nil {
		return nil, away("open a session")
	}
	return h.Session(fingerprint, mount)
}

// Redeem is wire.Service's.
func (g *gate) Redeem(ctx context.Context, r wire.Redeem, fingerprint string) (wire.Redeemed, error) {
	h := g.get()
	if h == nil {
		return wire.Redeemed{}, away("redeem an invite")
	}
	return h.Redeem(ctx, r, fingerprint)
}

// away is said to strangers too: it tells nothing of the machine.
func away(op string) error {
	return &store.Error{Kind: store.Unavailable, Op: op, Detail: "the peer's own store is away at this moment", Hint: "ask its person to look at `stasis status` there"}
}
