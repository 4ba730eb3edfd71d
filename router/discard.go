package router

import (
	"bytes"
	"context"
	"errors"
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
			n.rouse(small, large) // one may have waited for its discard
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
	short := n.wantRoom > 0
	if short {
		n.room()
	}
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

// unchanged reports whether a record is there as it was read.
func (r *Router) unchanged(p ledger.Pair) (bool, error) {
	v, ok, err := r.shared.Get(p.Key)
	return ok && bytes.Equal(v, p.Value), err
}

// forgetDead deletes records of what has been discarded, as they were read: a crate
// may have been planned for the node again, and have died again.
func (r *Router) forgetDead(gone []ledger.Pair) error {
	for at := 0; at < len(gone); at += UpdateKeys {
		_, err := r.shared.Update(func(tx *ledger.Tx) error {
			for _, p := range gone[at:min(at+UpdateKeys, len(gone))] {
				v, ok, err := tx.Get(p.Key)
				if err != nil {
					return err
				}
				if ok && bytes.Equal(v, p.Value) {
					tx.Delete(p.Key)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// discardEach has the node discard crates and gives the records of those that are gone.
func (n *node) discardEach(ctx context.Context, pairs []ledger.Pair) (gone []ledger.Pair) {
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
				if n.discardOne(ctx, crateOf(p.Key), func() (bool, error) { return n.r.unchanged(p) }) {
					mu.Lock()
					gone = append(gone, p)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return gone
}

// discardOne reports whether the node does not have the crate any more. It flies like
// a crate that is sent: neither happens beside the other. dead says, once it is in
// flight, whether it is to be discarded still.
func (n *node) discardOne(ctx context.Context, c store.CrateID, dead func() (bool, error)) bool {
	r := n.r
	r.mu.Lock()
	h := n.online()
	_, under := n.inFlight[c]
	if h != nil && !under {
		n.inFlight[c] = struct{}{}
	}
	r.mu.Unlock()
	if h == nil || under {
		// Who lands wakes this loop. Whoever takes off later sees that it is dead.
		return false
	}
	landed := func() {
		r.mu.Lock()
		delete(n.inFlight, c)
		r.mu.Unlock()
	}
	if still, err := dead(); err != nil || !still {
		landed()
		return err == nil // it was planned for this node again
	}
	_, err := call(ctx, n, h, DiscardLimit, "discard crate", func(ctx context.Context, st store.Store) (struct{}, error) {
		return struct{}{}, st.Discard(ctx, store.DiscardRequest{Crate: c, Holder: r.o.Owner})
	}, func(struct{}, error) { landed() })
	if !errors.Is(err, errNoAnswer) {
		landed()
	}
	if err != nil && ctx.Err() == nil {
		r.log.WithField("node", n.name).WithField("crate", c).WithError(err).Debug("discard is tried again")
	}
	r.blocks.drop(c)
	return err == nil
}
