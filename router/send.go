package router

import (
	"context"
	"slices"
	"sync"
	"time"

	"stasis/store"
	"stasis/store/ledger"
)

// job is one crate on its way to one node.
type job struct {
	crate store.CrateID
	entry
	m        Manifest
	src      *source
	borrowed bool // space was drawn for it, as its entry had none
	adopt    bool
	cramped  bool            // a repair for which there is no space: it can only turn out to be needless
	sums     store.Checksums // of its bytes, where they were hashed for this flight
	from     vantage         // what was known of the node's position before it was put

	receipts  []store.Receipt // at least one unless err, of the same bytes, a leaf each
	err       error
	lied      bool // a receipt was for other bytes than were sent
	elsewhere bool // a receipt was for a leaf that was not named
	// What became of it, when the ledger was told.
	stale    bool // nothing is left to be sent: dead, retired or there already
	mismatch bool // the bytes were others than those recorded
}

// send is the loop that sends one class of crates to the node: oldest first, in
// flights of which a bounded number is under way.
func (n *node) send(ctx context.Context, k class) {
	slots := make(chan struct{}, LargeInFlight)
	if k == small {
		slots = make(chan struct{}, BatchesInFlight)
	}
	var flights sync.WaitGroup
	defer flights.Wait()
	start := queuePrefix(n.nodeID(), k)
	from := start
	for ctx.Err() == nil {
		if wait := n.blocked(k); wait > 0 {
			n.sleep(ctx, k, wait)
			// The identity may have become known meanwhile.
			start = queuePrefix(n.nodeID(), k)
			from = start
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		jobs, rest, wait, err := n.pick(k, from)
		if err != nil {
			n.r.log.WithField("node", n.name).WithError(err).Error("read the queue")
			wait = RetryCap
		}
		if len(jobs) == 0 {
			<-slots
		} else {
			flights.Go(func() {
				defer func() { <-slots }()
				n.fly(ctx, k, jobs)
			})
		}
		if from = rest; from == nil {
			from = start
			n.sleep(ctx, k, wait)
		}
	}
}

func (n *node) nodeID() store.NodeID {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	return n.id
}

// blocked says for how long nothing of a class can be sent; 0: it can.
func (n *node) blocked(k class) time.Duration {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	now := n.r.clock.Boot()
	h, held := n.held()
	switch {
	case n.online() == nil || n.leaving || n.queue[k].crates <= 0:
		return IdlePause // somebody wakes the loop
	case held && h.until.IsZero():
		return IdlePause
	case held:
		return min(IdlePause, max(h.until.Sub(n.r.clock.Now()), time.Millisecond))
	case n.fullUntil > now:
		return n.fullUntil - now
	}
	return n.rests(kind(k), now)
}

// pick takes the next crates of a queue into flight. rest is where to go on; nil: that
// was the end of the queue, and wait is when to look again.
func (n *node) pick(k class, from []byte) (jobs []*job, rest []byte, wait time.Duration, err error) {
	r := n.r
	wait = IdlePause
	pairs, err := r.local.Scan(from, after(queuePrefix(n.nodeID(), k)), ScanPairs)
	if err != nil {
		return nil, nil, wait, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now, bytes, most := r.clock.Boot(), int64(0), int64(BatchBytes)
	if rate := n.spec.Rate; rate > 0 {
		most = min(most, max(SmallCrate, rate)) // a batch goes out in one burst
	}
	for _, p := range pairs {
		e, err := decodeEntry(p.Value)
		if err != nil {
			return jobs, nil, wait, err
		}
		c := crateOf(p.Key)
		if _, under := n.inFlight[c]; under {
			continue
		}
		if rest := n.sendable(c, now); rest > 0 {
			wait = min(wait, rest)
			continue
		}
		if rest := n.repairable(c, now); e.repair && rest > 0 {
			wait = min(wait, rest)
			continue
		}
		if len(jobs) > 0 && (k == large || len(jobs) == BatchCrates || bytes+e.size > most) {
			return jobs, p.Key, 0, nil
		}
		n.inFlight[c] = struct{}{}
		jobs = append(jobs, &job{crate: c, entry: e})
		bytes += e.size
	}
	if len(pairs) == ScanPairs {
		return jobs, next(pairs[len(pairs)-1].Key), 0, nil
	}
	return jobs, nil, wait, nil
}

// fly sends some crates of one class.
func (n *node) fly(ctx context.Context, k class, jobs []*job) {
	held := true // jobs are in flight until nothing can come of them any more
	defer func() {
		if held {
			n.landed(jobs)
		}
		n.rouse(k) // what failed has a time at which it is tried again
	}()
	ready, err := n.prepare(ctx, k, jobs)
	if err != nil {
		n.stumble(kind(k), err)
		return
	}
	if ready, err = n.makeSpace(ctx, ready); err != nil {
		n.stumble(kind(k), err)
	}
	if len(ready) == 0 {
		return
	}
	if n.put(ctx, k, ready, func() { n.landed(jobs) }) {
		held = false
	}
	n.settle(ctx, k, ready)
}

// landed ends the flight of crates.
func (n *node) landed(jobs []*job) {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	for _, j := range jobs {
		delete(n.inFlight, j.crate)
	}
	n.rouse(wakeDiscard) // it may have waited for them
}

// prepare reads the manifests, drops what need not be sent any more and makes sure
// that the ledger durably knows of the rest: that it may lie on the node and, if that is on
// another machine, which bytes it has.
func (n *node) prepare(ctx context.Context, k class, jobs []*job) (ready []*job, err error) {
	r := n.r
	far := !n.near()
	var stale []*job
	for _, j := range jobs {
		m, ok, err := r.manifest(j.crate)
		if err != nil {
			n.fail(j, err)
			continue
		}
		d := m.Destination(n.nodeID())
		if !ok || m.Retired || d == nil || d.State == Verified || d.State == Refused {
			stale = append(stale, j)
			continue
		}
		j.m = m
		j.src = &source{r: r, n: n, crate: j.crate, size: j.size, far: far}
		ready = append(ready, j)
	}
	if err := n.dequeue(stale); err != nil {
		return nil, err
	}
	if far {
		if ready, err = n.expect(ctx, k, ready); err != nil {
			return nil, err
		}
	}
	if len(ready) == 0 {
		return nil, nil
	}
	return ready, r.o.Ledger.Sync(ctx, r.o.Ledger.Position())
}

// makeSpace sees to it that there is space for the jobs: what was drawn for them is
// confirmed by the node, and the others draw now. It gives those that have it.
func (n *node) makeSpace(ctx context.Context, jobs []*job) ([]*job, error) {
	if len(jobs) == 0 {
		return nil, nil
	}
	if !n.granted() {
		_ = n.tend(ctx) // it is logged, and tended again soon
	}
	var without []*job
	need := int64(0)
	ready := jobs[:0:0]
	for _, j := range jobs {
		if j.reserved {
			ready = append(ready, j)
		} else {
			without = append(without, j)
			need += j.charge
		}
	}
	if len(without) > 0 {
		got, err := n.borrow(ctx, without, need)
		if ready = append(ready, got...); err != nil {
			return ready, err
		}
	}
	if len(ready) == 0 || n.granted() {
		return ready, nil
	}
	// A repair without space may be needless, and needs no grant then.
	n.repay(ready)
	ready = slices.DeleteFunc(ready, func(j *job) bool { return !j.cramped })
	if len(ready) > 0 {
		return ready, nil
	}
	return nil, n.unavailable("reserve space", "the grant could not be confirmed", nil)
}

// reroute finds another place for a crate that the node has no room for.
func (n *node) reroute(ctx context.Context, j *job) {
	if !n.r.reroute(ctx, n, j) {
		return
	}
	if err := n.dequeue([]*job{j}); err != nil {
		n.r.log.WithField("node", n.name).WithError(err).Error("take a crate out of the queue")
	}
}

// borrow draws space for jobs that have none, for as many as there is space for. The
// others are left to wait, or go elsewhere; a repair goes on, as it may be needless.
func (n *node) borrow(ctx context.Context, jobs []*job, need int64) (got []*job, err error) {
	if _, err = n.grow(ctx, GrantLimit, need); err == nil {
		for _, j := range jobs {
			j.borrowed = true
		}
		return jobs, nil
	}
	refused := 0
	for _, j := range jobs {
		if len(jobs) > 1 && refused < MaxRefusals {
			_, err = n.grow(ctx, GrantLimit, j.charge)
		}
		switch {
		case err == nil:
			j.borrowed = true
			got = append(got, j)
		case !spaceError(err):
			return got, err
		case j.repair:
			j.cramped = true
			got = append(got, j)
		default:
			refused++
			n.full(j, err)
			n.reroute(ctx, j)
		}
	}
	return got, nil
}

// repay gives back what jobs borrowed that were not stored.
func (n *node) repay(jobs []*job) {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	for _, j := range jobs {
		if j.borrowed {
			n.grant.promised -= j.charge
			j.borrowed = false
		}
	}
}

func spaceError(err error) bool {
	k := store.KindOf(err)
	return k == store.NoSpace || k == store.Quota
}

// granted reports whether the node has confirmed a grant that lasts.
func (n *node) granted() bool {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	g := &n.grant
	return g.id != (store.ReservationID{}) && g.synced && n.r.clock.Boot() < g.deadline
}

// dequeue takes jobs out of the queue that need not be sent any more; their space goes back.
func (n *node) dequeue(stale []*job) error {
	for len(stale) > 0 {
		q := n.newUnqueuing(stale[:min(len(stale), n.r.keys)])
		if _, err := n.r.local.Update(q.tx); err != nil {
			return err
		}
		q.done()
		stale = stale[len(q.jobs):]
	}
	return nil
}

// unqueuing takes jobs out of a node's queue: tx in an update of the ledger, and done in memory
// when that is made.
type unqueuing struct {
	n       *node
	id      store.NodeID
	jobs    []*job
	there   []bool
	entries []entry
}

func (n *node) newUnqueuing(jobs []*job) *unqueuing {
	return &unqueuing{n: n, id: n.nodeID(), jobs: jobs}
}

func (q *unqueuing) tx(tx *ledger.Tx) error {
	q.there, q.entries = make([]bool, len(q.jobs)), make([]entry, len(q.jobs))
	for i, j := range q.jobs {
		k := queueKey(q.id, classOf(j.size), j.crate)
		// A crate may be picked again from a scan that was made before it was dequeued:
		// it must not be counted out twice. It may have been queued anew since.
		v, ok, err := tx.Get(k)
		if err == nil && ok {
			q.entries[i], err = decodeEntry(v)
		}
		if err != nil {
			return err
		}
		if q.there[i] = ok && q.entries[i].queued.Equal(j.queued); q.there[i] {
			tx.Delete(k)
		}
	}
	return nil
}

// done counts what was taken out: the space of stored crates is spent, that of others goes back.
func (q *unqueuing) done() {
	n := q.n
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	for i, j := range q.jobs {
		if q.there[i] {
			n.count(classOf(j.size), q.entries[i], -1)
		}
		if j.borrowed {
			n.grant.promised -= j.charge
			j.borrowed = false
		}
		delete(n.failing, j.crate)
	}
}
