package router

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"stasis/store"
	"stasis/store/ledger"
)

// discardLoop is the loop that has the node discard what the ledger says is dead.
func (n *node) discardLoop(ctx context.Context) {
	for ctx.Err() == nil {
		if n.away() {
			n.sleep(ctx, wakeDiscard, IdlePause)
			continue
		}
		if rest := n.discardsRest(); rest > 0 {
			n.sleep(ctx, wakeDiscard, rest)
			continue
		}
		begun := n.r.clock.Boot()
		done, err := n.discardAll(ctx)
		if done > 0 {
			n.roomier()
			n.rouse(small, large) // one may have waited for its discard
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			n.r.log.WithField("node", n.name).WithError(err).Warn("discards are tried again")
			n.stumble(discards, err)
		case n.discardsRest() == 0:
			n.sleep(ctx, wakeDiscard, n.nextDiscard(begun))
		}
	}
}

// nextDiscard is after how long to look again for what is to be discarded, when all of it was gone
// through since begun. A look at many that are kept costs more, and comes less often.
func (n *node) nextDiscard(begun time.Duration) time.Duration {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	now, wait := n.r.clock.Boot(), IdlePause
	least := CrateRetryFirst * time.Duration(1+len(n.kept)/DiscardBatch)
	soon := func(until time.Duration) {
		if until > begun { // else it was tried since, or is in flight
			wait = min(wait, max(until-now, least))
		}
	}
	for c, f := range n.kept {
		if f.until+CrateRetryCap < begun {
			delete(n.kept, c) // it is to be discarded no more
		}
		soon(f.until)
	}
	if n.alsoKept.bits != nil {
		soon(n.alsoKept.pause.until)
	}
	return wait
}

// discardable is after how long a crate may be discarded that the node has kept; 0: now. Called
// with mu held.
func (n *node) discardable(c store.CrateID, now time.Duration) time.Duration {
	if f, is := n.kept[c]; is {
		return max(0, f.until-now)
	}
	return n.alsoKept.rests(c, now)
}

// discardsRest is for how long nothing is to be discarded, as that has failed.
func (n *node) discardsRest() time.Duration {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	return n.rests(discards, n.r.clock.Boot())
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

// discardAll goes once through what is to be discarded on the node, or until that fails as a
// whole.
func (n *node) discardAll(ctx context.Context) (done int, err error) {
	r := n.r
	from := deadPrefix(n.nodeID())
	to := after(from)
	for ctx.Err() == nil {
		pairs, err := r.shared.Scan(from, to, DiscardBatch)
		if err != nil || len(pairs) == 0 {
			return done, err
		}
		// What the scan saw must survive a power cut before any copy goes.
		if err := r.o.Ledger.Sync(ctx, r.o.Ledger.Position()); err != nil {
			return done, err
		}
		gone, failed := n.discardEach(ctx, pairs)
		done += len(gone)
		if err := r.forgetDead(gone); err != nil || failed || n.away() {
			return done, err
		}
		from = next(pairs[len(pairs)-1].Key)
		if len(pairs) < DiscardBatch {
			break
		}
	}
	return done, nil
}

// unchanged reports whether a record is there as it was read.
func (r *Router) unchanged(p ledger.Pair) (bool, error) {
	v, ok, err := r.shared.Get(p.Key)
	return ok && bytes.Equal(v, p.Value), err
}

// forgetDead deletes records of what has been discarded, as they were read: a crate
// may have been planned for the node again, and have died again.
func (r *Router) forgetDead(gone []ledger.Pair) error {
	for at := 0; at < len(gone); at += r.keys {
		_, err := r.shared.Update(func(tx *ledger.Tx) error {
			for _, p := range gone[at:min(at+r.keys, len(gone))] {
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

// discardEach has the node discard crates and gives the records of those that are gone. It ends
// early when the node fails as a whole.
func (n *node) discardEach(ctx context.Context, pairs []ledger.Pair) (gone []ledger.Pair, failed bool) {
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
				is, err := n.discardOne(ctx, crateOf(p.Key), func() (bool, error) { return n.r.unchanged(p) })
				mu.Lock()
				if is {
					gone = append(gone, p)
				}
				failed = failed || wholeError(err)
				over := failed
				mu.Unlock()
				if over {
					return
				}
			}
		})
	}
	wg.Wait()
	return gone, failed
}

// discardOne reports whether the node does not have the crate any more. It flies like
// a crate that is sent: neither happens beside the other. dead says, once it is in
// flight, whether it is to be discarded still. The error is the node's.
func (n *node) discardOne(ctx context.Context, c store.CrateID, dead func() (bool, error)) (gone bool, err error) {
	r := n.r
	r.mu.Lock()
	h := n.online()
	_, under := n.inFlight[c]
	now := r.clock.Boot()
	rests := n.discardable(c, now) > 0 || n.rests(discards, now) > 0
	if h != nil && !under && !rests {
		n.inFlight[c] = struct{}{}
	}
	r.mu.Unlock()
	if h == nil || under || rests {
		// Who lands wakes this loop. Whoever takes off later sees that it is dead.
		return false, nil
	}
	landed := func() {
		r.mu.Lock()
		delete(n.inFlight, c)
		r.mu.Unlock()
	}
	if still, err := dead(); err != nil || !still {
		landed()
		return err == nil, nil // it was planned for this node again
	}
	_, err = call(ctx, n, h, DiscardLimit, "discard crate", func(ctx context.Context, st store.Store) (struct{}, error) {
		over := n.changing()
		err := st.Discard(ctx, store.DiscardRequest{Crate: c, Holder: r.o.Owner})
		over(err)
		return struct{}{}, err
	}, func(struct{}, error) { landed() })
	if !errors.Is(err, errNoAnswer) {
		landed()
	}
	r.blocks.drop(c)
	switch {
	case ctx.Err() != nil:
	case wholeError(err):
		n.stumble(discards, err)
	case err != nil:
		r.mu.Lock()
		f := n.kept[c]
		f.tries++
		now = r.clock.Boot()
		f.until, f.err = now+backoff(CrateRetryFirst, CrateRetryCap, f.tries), err.Error()
		if !noteFailure(n.kept, c, f) {
			n.alsoKept.add(c, now, CrowdFirst, CrowdMost)
		}
		r.mu.Unlock()
	default:
		n.steady(discards)
		r.mu.Lock()
		delete(n.kept, c)
		r.mu.Unlock()
	}
	return err == nil, err
}
