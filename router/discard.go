package router

import (
	"context"
	"sync"

	"stasis/store"
	"stasis/store/ledger"
)

// discardLoop is the loop that has the node discard what the ledger says is dead.
func (n *node) discardLoop(ctx context.Context) {
	pause := RetryFirst
	for ctx.Err() == nil {
		if n.away() {
			n.sleep(ctx, wakeDiscard, IdlePause)
			continue
		}
		done, failed, err := n.discardAll(ctx)
		if done > 0 {
			n.roomier()
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			n.r.log.WithField("node", n.name).WithError(err).Warn("discards are tried again")
			n.sleep(ctx, wakeDiscard, jitter(pause))
			pause = min(2*pause, RetryCap)
		case failed:
			n.suspect()
			n.sleep(ctx, wakeDiscard, jitter(pause))
			pause = min(2*pause, RetryCap)
		default:
			pause = RetryFirst
			n.sleep(ctx, wakeDiscard, IdlePause)
		}
	}
}

func (n *node) away() bool {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	return n.online() == nil || n.leaving
}

// roomier has the node looked at soon, as it has more room now.
func (n *node) roomier() {
	n.r.mu.Lock()
	n.fullUntil = 0
	short := n.wantRoom > 0
	n.r.mu.Unlock()
	if short {
		n.rouse(wakeKeeper, small, large)
	}
}

// discardAll goes once through what is to be discarded on the node. failed: something
// was not done and is to be tried again.
func (n *node) discardAll(ctx context.Context) (done int, failed bool, err error) {
	r := n.r
	from := deadPrefix(n.nodeID())
	to := after(from)
	for ctx.Err() == nil {
		pairs, err := r.shared.Scan(from, to, DiscardBatch)
		if err != nil || len(pairs) == 0 {
			return done, failed, err
		}
		// What the scan saw must survive a power cut before any copy goes.
		if err := r.o.Ledger.Sync(ctx, r.o.Ledger.Position()); err != nil {
			return done, failed, err
		}
		gone := n.discardEach(ctx, pairs)
		failed = failed || len(gone) < len(pairs)
		done += len(gone)
		if err := r.forgetDead(gone); err != nil {
			return done, failed, err
		}
		if len(gone) == 0 && n.away() {
			return done, true, nil
		}
		from = next(pairs[len(pairs)-1].Key)
		if len(pairs) < DiscardBatch {
			break
		}
	}
	return done, failed, nil
}

// forgetDead deletes records of what has been discarded.
func (r *Router) forgetDead(keys [][]byte) error {
	for at := 0; at < len(keys); at += UpdateKeys {
		_, err := r.shared.Update(func(tx *ledger.Tx) error {
			for _, k := range keys[at:min(at+UpdateKeys, len(keys))] {
				tx.Delete(k)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// discardEach has the node discard crates and gives the keys of those that are gone.
func (n *node) discardEach(ctx context.Context, pairs []ledger.Pair) (gone [][]byte) {
	todo := make(chan ledger.Pair, len(pairs))
	for _, p := range pairs {
		todo <- p
	}
	close(todo)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range min(DiscardInFlight, len(pairs)) {
		wg.Go(func() {
			for p := range todo {
				if n.discardOne(ctx, crateOf(p.Key)) {
					mu.Lock()
					gone = append(gone, p.Key)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return gone
}

// discardOne reports whether the node does not have the crate any more.
func (n *node) discardOne(ctx context.Context, c store.CrateID) bool {
	r := n.r
	r.mu.Lock()
	h := n.online()
	_, under := n.inFlight[c]
	r.mu.Unlock()
	if h == nil || under {
		// Who lands wakes this loop. Whoever takes off later sees that it is dead.
		return false
	}
	_, err := call(ctx, n, h, DiscardLimit, "discard crate", func(ctx context.Context, st store.Store) (struct{}, error) {
		return struct{}{}, st.Discard(ctx, store.DiscardRequest{Crate: c, Holder: r.o.Owner})
	}, nil)
	if err != nil && ctx.Err() == nil {
		r.log.WithField("node", n.name).WithField("crate", c).WithError(err).Debug("discard is tried again")
	}
	return err == nil
}
