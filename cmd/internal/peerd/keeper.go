package peerd

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"stasis/cmd/internal/config"
	"stasis/cmd/internal/nodes"
	"stasis/peer/host"
	"stasis/router/depot"
	"stasis/store"
)

// keeper opens the node, watches it, and opens it anew when it was away or its settings
// have changed.
type keeper struct {
	p    *Peer
	gate gate
	wake chan struct{}

	mu      sync.Mutex // held while the node is opened or closed
	store   store.Store
	several atomic.Pointer[depot.Store] // the store, where it is a router over several nodes
	stale   atomic.Bool                 // opened by settings that hold no more
	closed  bool
	telling sync.Mutex
	node    NodeState // guarded by telling
}

// NodeState is how the peer's node stands.
type NodeState struct {
	Status store.Status // as last heard
	Err    error        // why it is away; nil: it is there
	// Trouble is what the last writing failed with; nil: it went well, or nothing was written.
	Trouble error
}

func newKeeper(p *Peer) *keeper {
	return &keeper{p: p, wake: make(chan struct{}, 1), node: NodeState{Err: &store.Error{Kind: store.Unavailable, Op: "open the node", Detail: "it is not open yet"}}}
}

// reopen has the node opened anew soon.
func (k *keeper) reopen() {
	k.stale.Store(true)
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run looks after the node until the peer closes.
func (k *keeper) run() {
	pause := probeEvery
	for {
		t := time.NewTimer(pause)
		select {
		case <-k.p.ctx.Done():
			t.Stop()
			return
		case <-k.wake:
			t.Stop()
		case <-t.C:
		}
		pause = probeEvery
		before := k.state().Err
		err := k.look(k.p.ctx)
		switch {
		case err != nil && k.p.ctx.Err() == nil && before == nil:
			k.p.log.WithError(err).Warn("the node is away; vaults are told to come back later")
		case err == nil && before != nil:
			k.p.log.Info("the node is there")
		}
		if err != nil {
			pause = retryEvery
		}
	}
}

// glance is a look that does not take long: whoever waits for an answer gets what is
// known.
func (k *keeper) glance(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, glanceLimit)
	defer cancel()
	for !k.mu.TryLock() { // it is looked at, or opened anew, at this moment
		select {
		case <-ctx.Done():
			return
		case <-time.After(glancePoll):
		}
	}
	defer k.mu.Unlock()
	if err := k.lookLocked(ctx); err != nil {
		k.p.log.WithError(err).Debug("look at the node")
	}
}

// look opens the node, or asks the open one whether it is there. The error says why it
// is not.
func (k *keeper) look(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lookLocked(ctx)
}

// lookLocked is look, called with mu held.
func (k *keeper) lookLocked(ctx context.Context) (err error) {
	if k.closed {
		return away("open the node")
	}
	var s store.Status
	defer func() { k.tell(s, err) }()
	if k.store != nil && k.stale.Load() {
		k.shut(ctx, swapLimit)
	}
	if k.store == nil {
		if err := k.open(ctx); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	s, err = k.store.Status(limited)
	if k.depot() == nil && err != nil && limited.Err() == nil {
		k.shut(ctx, 0) // a router looks for its nodes itself
	}
	return err
}

// open opens the store and the host over it. Called with mu held.
func (k *keeper) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	p := k.p
	c := p.settings.Load()
	k.stale.Store(false)
	s, err := k.openStore(ctx, c)
	if err != nil {
		return err
	}
	o := host.Options{Ledger: p.ledger, Store: s, Spool: p.spool(c), Identity: p.identity, Log: p.log, TakeOver: p.o.TakeOver}
	if _, several := s.(*depot.Store); several {
		o.Leaf = p.leaf // it opens without its nodes, too
	}
	h, err := host.Open(ctx, o)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	if err := k.gate.let(ctx, h); err != nil {
		return errors.Join(err, h.Close(ctx), s.Close())
	}
	k.store = s
	if d, several := s.(*depot.Store); several {
		k.several.Store(d)
	}
	return nil
}

// openStore opens the node, or the router over several.
func (k *keeper) openStore(ctx context.Context, c *config.Config) (store.Store, error) {
	several, err := k.p.delegates(c)
	if err != nil {
		return nil, err
	}
	if !several {
		return nodes.Open(ctx, c.Nodes[0], k.p.leaf, k.p.identity, k.p.log)
	}
	d, err := k.p.openDepot(ctx, c)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// depot gives the router over several nodes, while it is open; nil if there is none.
func (k *keeper) depot() *depot.Store { return k.several.Load() }

// shut closes host and store, after what is under way or after limit. Called with mu
// held.
func (k *keeper) shut(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	h := k.gate.get()
	k.gate.set(nil)
	k.several.Store(nil)
	err := h.Close(ctx)
	if err = errors.Join(err, k.store.Close()); err != nil {
		k.p.log.WithError(err).Warn("the node was closed, but not cleanly")
	}
	k.store = nil
}

// close closes the node for good.
func (k *keeper) close(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.store == nil {
		return nil
	}
	h := k.gate.get()
	k.gate.set(nil)
	k.several.Store(nil)
	err := errors.Join(h.Close(ctx), k.store.Close())
	k.store = nil
	return err
}

func (k *keeper) tell(s store.Status, err error) {
	k.telling.Lock()
	defer k.telling.Unlock()
	if err == nil {
		k.node.Status = s
	}
	k.node.Err = err
}

// state is how the node stood when it was looked at last.
func (k *keeper) state() NodeState {
	k.telling.Lock()
	defer k.telling.Unlock()
	now := k.node
	if h := k.gate.get(); h != nil {
		now.Trouble = h.Trouble()
	}
	return now
}
