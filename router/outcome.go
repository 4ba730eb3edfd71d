package router

import (
	"context"
	"errors"
	"time"

	"stasis/store"
	"stasis/store/ledger"
)

// settle records what became of jobs that were sent, and tells the observer.
func (n *node) settle(ctx context.Context, k class, jobs []*job) {
	var done, failed []*job
	for _, j := range jobs {
		if j.err == nil {
			done = append(done, j)
		} else {
			failed = append(failed, j)
		}
	}
	recorded, err := n.recordAll(done)
	if err != nil {
		// The node has them: once the ledger works again the repeat costs a question.
		n.repay(done[len(recorded):])
		n.stumble(kind(k), err)
	}
	if len(recorded) > 0 {
		n.steady(kind(k))
		n.announcePlaced(recorded)
	}
	n.repay(failed)
	for _, j := range failed {
		n.fault(ctx, k, j)
	}
}

// announcePlaced tells the observer of receipts that were recorded.
func (n *node) announcePlaced(done []*job) {
	ms := make([]Manifest, 0, len(done))
	for _, j := range done {
		if !j.stale {
			ms = append(ms, j.m)
		}
	}
	o := n.r.o.Observer
	n.telling.Lock()
	defer n.telling.Unlock()
	for _, j := range done {
		if j.adopt && !j.stale && !j.mismatch {
			o.Adopted(j.crate, n.nodeID())
		}
	}
	if len(ms) > 0 {
		n.r.placed(ms)
	}
	for _, j := range done {
		if j.mismatch {
			n.r.log.WithField("node", n.name).WithField("crate", j.crate).Error("the bytes of a crate came out differently; it is retired")
			o.Retired(j.m)
		} else if !j.stale {
			n.r.offer(j.crate, j.size)
		}
		if j.elsewhere {
			n.stray(j.crate)
		}
		if j.repair {
			n.r.mu.Lock()
			n.repaired(j.crate)
			n.r.mu.Unlock()
		}
	}
}

// recordAll writes receipts into the manifests and takes the crates out of the queue. It gives
// those of which that is done, the first ones.
func (n *node) recordAll(done []*job) (recorded []*job, err error) {
	most := max(1, n.r.keys/receiptKeys)
	for at := 0; at < len(done); {
		to := at + 1
		if done[at].size > store.BlockSize {
			err = n.recordLong(done[at])
		} else {
			for to < len(done) && to-at < most && done[to].size <= store.BlockSize {
				to++
			}
			err = n.recordReceipts(done[at:to])
		}
		if err != nil {
			return done[:at], err
		}
		at = to
	}
	return done, nil
}

// recordReceipts records the receipts of jobs, whose checksums are in the ledger or go into the
// manifest, with all that goes with them: the entries of the queue, the position of the node, and
// what the observer makes of them.
func (n *node) recordReceipts(jobs []*job) error {
	r := n.r
	id, durable := n.whoDurable()
	var at store.Position
	var moved bool
	q := n.newUnqueuing(jobs)
	_, err := r.shared.Update(func(tx *ledger.Tx) error {
		local := tx.In(ledger.Local)
		at, moved = n.positionTx(local)
		for _, j := range jobs {
			if n.doubted(j.from) {
				return errDoubted
			}
			if err := n.receiptTx(tx, j, id, durable); err != nil {
				return err
			}
		}
		return q.tx(local)
	})
	if err != nil {
		return err
	}
	q.done()
	if moved {
		n.positioned(at)
	}
	return nil
}

// receiptTx records the receipt of one job.
func (n *node) receiptTx(tx *ledger.Tx, j *job, id store.NodeID, durable bool) error {
	r := n.r
	j.stale, j.mismatch = false, false
	m, ok, err := manifestTx(tx, j.crate)
	if err != nil {
		return err
	}
	if !ok {
		j.stale = true // it died, and DeadTx has noted it for this node
		return nil
	}
	d := m.Destination(id)
	if d == nil {
		// It was struck off while it was on its way: nothing else remembers this copy.
		j.stale = true
		tx.Put(deadKey(id, j.crate), encodeTime(deadVersion, r.clock.Now()))
		return nil
	}
	j.mismatch = !m.accept(d, j.receipts, durable) && m.Retired
	tx.Put(manifestKey(j.crate), m.encode())
	j.m = m
	r.mark(&j.m)
	owed, err := r.o.Observer.ReceivedTx(tx, &j.m, j.adopt && !j.mismatch)
	if owed || j.mismatch {
		tx.In(ledger.Local).Put(owedKey(j.crate), []byte{owedVersion})
	}
	return err
}

func (n *node) whoDurable() (store.NodeID, bool) {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	return n.id, n.durable()
}

// accept takes a node's receipts for one crate, which agree, into a manifest. false: a store on
// this machine has other bytes than were recorded; where no other has the right ones the crate is
// retired.
func (m *Manifest) accept(d *Destination, rcs []store.Receipt, durable bool) bool {
	rc := &rcs[0]
	if !m.know(d.Form, rc.Sums) && m.form(d.Form).Root != rc.Sums.Root() {
		d.State = Damaged
		m.Retired = m.Retired || !m.verifiedBut(d.Node)
		return false
	}
	d.State, d.Durable, d.Time = Verified, durable, rc.Time
	d.Address, d.Fingerprint = rc.Address, rc.Fingerprint
	d.Leaves = nil
	if len(rcs) == 1 && rc.Leaf == d.Node {
		return true
	}
	for i := range rcs {
		l := Leaf{ID: rcs[i].Leaf, Time: rcs[i].Time, Address: rcs[i].Address, Fingerprint: rcs[i].Fingerprint}
		d.Leaves = append(d.Leaves, l)
		if l.Time.Before(d.Time) {
			d.Time = l.Time
		}
	}
	return true
}

// recordLong records the receipt of a crate of several blocks: its checksums first,
// unless they are known.
func (n *node) recordLong(j *job) error {
	r := n.r
	r.sealing <- struct{}{}
	defer func() { <-r.sealing }()
	m, ok, err := r.manifest(j.crate)
	if err != nil {
		return err
	}
	if ok && !m.Known(store.Plain) {
		if err := r.recordSums(j.crate, j.receipts[0].Sums); err != nil {
			return err
		}
	}
	if err := n.recordReceipts([]*job{j}); err != nil || !j.stale {
		return err
	}
	// Dead meanwhile: the checksums go too.
	return r.sweepLater(j.crate)
}

// fault decides what a job that failed means: for the crate, or for the node.
func (n *node) fault(ctx context.Context, k class, j *job) {
	n.r.mu.Lock()
	_, held := n.held()
	n.r.mu.Unlock()
	if ctx.Err() != nil || held {
		return // it was broken off here, and goes on later
	}
	body, differs, ours := j.src.failure()
	switch what := store.KindOf(j.err); {
	case differs:
		n.r.bodyDiffers(j.crate, n.nodeID())
		n.fail(j, ours)
	case ours != nil:
		if body && !errors.Is(ours, context.Canceled) && !errors.Is(ours, context.DeadlineExceeded) {
			n.r.markRotten(j.crate, false) // it can't be read: the copies are asked instead, if there are any
		}
		n.fail(j, ours)
	case j.lied:
		n.lied(j.err)
		n.fail(j, j.err)
	case j.elsewhere:
		n.stray(j.crate)
		n.fail(j, j.err)
	case what == store.Unavailable, what == store.Denied:
		n.stumble(kind(k), j.err)
	case spaceError(j.err) && j.cramped:
		n.full(j, j.err)
		n.reroute(ctx, j)
	case spaceError(j.err):
		// The grant is less than was thought, or the disk is.
		n.r.mu.Lock()
		n.grant.synced = false
		n.refused("it has promised the space, and has no room: " + j.err.Error())
		n.stuck, n.stuckFree = true, n.status.Free
		n.r.mu.Unlock()
		n.stumble(kind(k), j.err)
	case what == store.NotFound:
		// The reservation lapsed.
		n.r.mu.Lock()
		n.grant.restart(store.ReservationID{})
		n.r.mu.Unlock()
		n.rouse(wakeKeeper)
		n.stumble(kind(k), j.err)
	case what == store.Conflict && !n.near():
		n.refuse(ctx, j)
	case what == store.Conflict:
		n.conflict(j)
	case what == store.Corrupt && body && n.near() && j.m.Known(store.Plain):
		// What goes to another machine was compared on its way.
		n.r.checkBody(ctx, n, j)
		n.fail(j, j.err)
	default:
		n.fail(j, j.err)
	}
}

// conflict deals with a store on this machine that has other bytes under the id of a crate.
func (n *node) conflict(j *job) {
	if m, ok, err := n.r.manifest(j.crate); err == nil && ok {
		j.m = m // its digests may have been recorded since
	}
	if !j.m.Known(store.Plain) {
		// The body was not the same at two times, and nobody knows which was right.
		n.r.retireCrate(j.crate)
		return
	}
	// The recorded bytes are those that this machine has hashed: the copy is wrong.
	e := j.entry
	e.repair = true
	_, err := n.r.local.Update(func(tx *ledger.Tx) error {
		k := queueKey(n.nodeID(), classOf(j.size), j.crate)
		if _, ok, err := tx.Get(k); err != nil || !ok {
			return err
		}
		tx.Put(k, e.encode())
		return nil
	})
	n.fail(j, errors.Join(j.err, err))
}

// checkBody finds out whether it is the body that has other bytes than were recorded.
func (r *Router) checkBody(ctx context.Context, n *node, j *job) {
	rc, err := j.src.openBody(0)
	if err != nil {
		return
	}
	_ = rc.Close() // it was only opened to see that it can be
	sums, err := r.hash(ctx, bodySource{j.src}, j.size)
	if err != nil || sums.Root() == j.m.form(store.Plain).Root {
		return
	}
	r.bodyDiffers(j.crate, n.nodeID())
}

// bodyDiffers has a body not used any more that has other bytes than were recorded of it. Where
// another node than the one it was read for has the right ones, the copies come from there. Where
// none has, the crate can't have its bytes any more: it is retired, and its content, as it is
// now, gets a new one. Nothing else retires a crate.
func (r *Router) bodyDiffers(c store.CrateID, reader store.NodeID) {
	r.markRotten(c, true)
	m, ok, err := r.manifest(c)
	if err != nil || !ok {
		return // the next attempt finds out
	}
	if m.verifiedBut(reader) {
		r.log.WithField("crate", c).Error("the body of a crate has changed; it is read from its copies")
		r.o.Observer.Rotten(c)
		return
	}
	r.retireCrate(c)
}

// retireCrate has a crate never sent again under its id.
func (r *Router) retireCrate(c store.CrateID) {
	var m Manifest
	var was bool
	_, err := r.shared.Update(func(tx *ledger.Tx) error {
		var ok bool
		var err error
		if m, ok, err = manifestTx(tx, c); err != nil || !ok {
			was = true
			return err
		}
		if was = m.Retired; !was {
			m.Retired = true
			r.changedTx(tx, &m)
		}
		return nil
	})
	if err != nil {
		r.log.WithField("crate", c).WithError(err).Error("retire a crate")
		return
	}
	if !was {
		r.log.WithField("crate", c).Error("the bytes of a crate came out differently; it is retired")
		r.o.Observer.Retired(m)
	}
}

// fail notes that a crate does not go to this node for a reason of its own.
func (n *node) fail(j *job, err error) {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	now := n.r.clock.Boot()
	f := n.failing[j.crate]
	f.tries++
	f.until = now + jitter(backoff(CrateRetryFirst, CrateRetryCap, f.tries))
	f.err = err.Error()
	if len(n.failing) == 0 {
		// The first of what may be many speaks for all.
		n.r.log.WithField("node", n.name).WithField("crate", j.crate).WithError(err).Warn("a crate could not be sent; it is tried again")
	}
	if !noteFailure(n.failing, j.crate, f) {
		n.alsoFailing.add(j.crate, now, CrowdFirst, CrowdMost)
	}
}

// noteFailure remembers how a crate fails, unless there are too many others.
func noteFailure(of map[store.CrateID]failure, c store.CrateID, f failure) bool {
	if f.tries == 1 && len(of) >= MaxFailing {
		return false
	}
	of[c] = f
	return true
}

// sendable is after how long a crate may be sent that has failed; 0: now. Called with mu held.
func (n *node) sendable(c store.CrateID, now time.Duration) time.Duration {
	if f, is := n.failing[c]; is {
		return max(0, f.until-now)
	}
	return n.alsoFailing.rests(c, now)
}

// full notes that the node refused space for a queued crate, which waits for a while;
// smaller ones may fit. After some refusals the whole node waits, unless it is seen to have
// more room before.
func (n *node) full(j *job, err error) {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	now := n.r.clock.Boot()
	n.refused("has too little room for what waits for it")
	f := n.failing[j.crate]
	f.tries++
	f.until, f.err, f.room = now+jitter(backoff(FullRetry, CrateRetryCap, f.tries)), err.Error(), true
	n.refusals++
	if !noteFailure(n.failing, j.crate, f) || n.refusals >= MaxRefusals {
		n.refusals, n.fullUntil = 0, now+FullRetry
	}
}

// room forgets what was refused for space, as there is more now. Called with mu held.
func (n *node) room() {
	n.fullUntil, n.refusals, n.stuck = 0, 0, false
	for c, f := range n.failing {
		if f.room { // the others have reasons of their own
			f.until = 0
			n.failing[c] = f
		}
	}
}

// bar notes that a node which answers refuses this mount. Called with mu held.
func (n *node) bar(err error) {
	if store.KindOf(err) == store.Denied {
		n.barred = err.Error()
	}
}
