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
	// revoked are the owners that were revoked in the ledger while there was no host, by
	// fingerprint: one that was being opened may not know.
	revoked map[string]store.OwnerID
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

// let opens the gate to a host, once it knows of all who were revoked meanwhile.
func (g *gate) let(ctx context.Context, h *host.Host) error {
	for {
		g.mu.Lock()
		if len(g.revoked) == 0 {
			g.host = h
			g.mu.Unlock()
			return nil
		}
		pending := g.revoked
		g.revoked = nil
		g.mu.Unlock()
		for fingerprint, id := range pending {
			if err := h.Revoke(ctx, id); err != nil {
				g.shut(fingerprint, id)
				return err
			}
		}
	}
}

// shut keeps an owner out who was revoked in the ledger; it returns the host that has to be told,
// if there is one by now.
func (g *gate) shut(fingerprint string, id store.OwnerID) *host.Host {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.host == nil {
		if g.revoked == nil {
			g.revoked = make(map[string]store.OwnerID)
		}
		g.revoked[fingerprint] = id
	}
	return g.host
}

// Session is wire.Service's.
func (g *gate) Session(fingerprint string, mount store.Token) (wire.Session, error) {
	g.mu.RLock()
	h := g.host
	_, revoked := g.revoked[fingerprint]
	g.mu.RUnlock()
	switch {
	case revoked:
		return nil, &store.Error{Kind: store.Denied, Op: "open a session", Detail: "this peer does not know you", Hint: "ask its person for an invite"}
	case h == nil:
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
