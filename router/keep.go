package router

import (
	"context"
	"fmt"
	"time"

	"stasis/store"
)

// opened is the outcome of opening a store.
type opened struct {
	st     store.Store
	s      store.Status
	before store.Position // that of its crates before it was fenced
	err    error
}

// answer is the outcome of a probe.
type answer struct {
	s    store.Status
	from vantage // what was known of its position when it was asked
	err  error
}

// keep is the loop that opens the node's store, watches it, and tends the grant.
func (n *node) keep(ctx context.Context) {
	pause := RetryFirst
	for ctx.Err() == nil {
		if rest := n.restsBeforeOpening(); rest > 0 {
			n.sleep(ctx, wakeKeeper, rest)
			continue
		}
		n.r.mu.Lock()
		was := n.online() != nil
		n.r.mu.Unlock()
		err := n.look(ctx)
		if ctx.Err() != nil {
			break
		}
		wait := ProbeEvery
		if err != nil {
			wait = jitter(pause)
			pause = min(2*pause, RetryCap)
		} else {
			pause = RetryFirst
			n.tended(ctx)
		}
		n.announce(was, err)
		n.sleep(ctx, wakeKeeper, wait)
	}
	n.abandonOpening()
}

// tended has the grant tended, and waits for a little: the node is looked at again in time,
// whatever becomes of questions about space.
func (n *node) tended(ctx context.Context) {
	n.r.mu.Lock()
	done := n.tendSoon()
	n.r.mu.Unlock()
	if done == nil {
		return
	}
	t := time.NewTimer(TendWait)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-ctx.Done():
	}
}

// announce tells the log, the loops and the observer what a look has changed.
func (n *node) announce(was bool, err error) {
	r := n.r
	r.mu.Lock()
	is := n.online() != nil
	select {
	case <-n.tried:
	default:
		close(n.tried)
	}
	room := false
	if is && n.roomAgain() {
		n.wantRoom, n.short, room = 0, "", true
		n.room()
	}
	if is && !was {
		n.permit1()
	}
	r.mu.Unlock()
	switch {
	case is && !was:
		r.log.WithField("node", n.name).Info("node is online")
		n.rouse(small, large, wakeDiscard)
		r.o.Observer.NodesChanged()
	case was && !is:
		r.log.WithField("node", n.name).WithError(err).Warn("node is silent")
	case room:
		n.rouse(small, large)
		r.o.Observer.NodesChanged()
	}
}

// roomAgain reports whether a node that had no room has some now. A grant is none where the node
// could not keep what it has promised. Called with mu held.
func (n *node) roomAgain() bool {
	if n.stuck {
		return n.status.Free > n.stuckFree
	}
	return n.wantRoom > 0 && n.drawable() > n.wantRoom
}

// look opens the store, or asks the open one for its status. nil: it is online.
func (n *node) look(ctx context.Context) error {
	r := n.r
	r.mu.Lock()
	h := n.handle
	r.mu.Unlock()
	var s store.Status
	var from vantage
	var err error
	if h == nil {
		s, err = n.open(ctx)
		from = n.vantage() // it was compared at the opening
	} else {
		s, from, err = n.probe(ctx, h)
	}
	if err == nil {
		err = n.heard(s, from)
	}
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		n.silent = true
		n.lastErr = err.Error()
	}
	return err
}

// plausible cuts what a store says of itself to what can be, so that nothing that one node says
// upsets the sums over all. Conflict if it says that it is another one.
func (n *node) plausible(s store.Status) (store.Status, error) {
	if id := n.nodeID(); s.Leaf != id {
		return s, n.another(id, s.Leaf)
	}
	for _, f := range []*int64{&s.Capacity, &s.Used, &s.Reserved, &s.Free, &s.Crates, &s.Damage} {
		*f = figure(*f)
	}
	s.Leaves = min(max(s.Leaves, 0), MaxLeaves)
	return s, nil
}

func (n *node) another(was, is store.NodeID) error {
	return &store.Error{Kind: store.Conflict, Op: "open node", Subject: fmt.Sprintf("%q", n.name),
		Detail: fmt.Sprintf("it was %s and now is %s, an empty one or another's", was, is),
		Hint:   "put the right store back; if it was replaced on purpose, `stasis node remove --force` this one, then `stasis node add` the new one"}
}

// heard takes what an open store says of itself. The node is online only once the
// ledger knows it: nothing is meant for a node that a restart would not know. from is what was
// known of its position when it was asked.
func (n *node) heard(s store.Status, from vantage) error {
	r := n.r
	s, err := n.plausible(s)
	if err != nil {
		r.mu.Lock()
		n.retire()
		r.mu.Unlock()
		return err
	}
	r.mu.Lock()
	n.stands(s.Position, from)
	n.status, n.seen = s, r.clock.Now()
	rec, changed := n.remember(s)
	h := n.handle
	r.mu.Unlock()
	if changed && !r.o.ReadOnly {
		if err := r.recordNode(n.name, rec); err != nil {
			return err
		}
	}
	if err := n.recordPosition(); err != nil {
		return err
	}
	if h != nil {
		n.countAnew(h)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n.silent, n.missing = false, false
	n.lastErr, n.formerly = "", nil
	if changed {
		n.recorded = rec.seen
	}
	return nil
}

// remember notes what is known of the node, for the time when it is away, and says
// whether it is worth a record. Called with mu held.
func (n *node) remember(s store.Status) (nodeRecord, bool) {
	rec := nodeRecord{id: s.Leaf, kind: n.spec.Kind, zone: n.spec.Zone, durable: s.Durable,
		seen: n.seen, crates: s.Crates, used: s.Used, cap: s.Capacity, free: s.Free}
	old := n.record
	n.record = rec
	changed := n.recorded.IsZero() || rec.id != old.id || rec.kind != old.kind || rec.zone != old.zone || rec.durable != old.durable ||
		rec.seen.Sub(n.recorded) >= SeenEvery
	return rec, changed
}

// probe asks an open store for its status. A store that answers that it is not
// there is closed, to be opened anew; one that does not answer is only waited for.
func (n *node) probe(ctx context.Context, h *handle) (store.Status, vantage, error) {
	if n.asking == nil {
		n.asking = make(chan answer, 1)
		go n.ask(h, n.asking)
	}
	t := time.NewTimer(ProbeLimit)
	defer t.Stop()
	select {
	case a := <-n.asking:
		n.asking = nil
		if a.err != nil {
			n.r.mu.Lock()
			n.retire()
			n.r.mu.Unlock()
			n.rouse(wakeKeeper)
		}
		return a.s, a.from, a.err
	case <-t.C:
		return store.Status{}, vantage{}, n.unavailable("ask for the status", "no answer within "+ProbeLimit.String(), errNoAnswer)
	case <-ctx.Done():
		return store.Status{}, vantage{}, ctx.Err()
	}
}

func (n *node) ask(h *handle, into chan<- answer) {
	begun := time.Now()
	// The bound is the prober's, which goes on waiting for this same answer.
	s, from, err := n.askStatus(h.ctx, h, forever)
	if err == nil {
		n.pinged(time.Since(begun))
	}
	into <- answer{s, from, err}
}

// forever is the bound of calls that somebody else bounds.
const forever = 365 * 24 * time.Hour

// retire gives up the handle: its calls are cancelled and its store is closed in the
// background. Called with mu held.
func (n *node) retire() {
	h := n.handle
	if h == nil {
		return
	}
	n.handle, n.silent = nil, true
	n.grant.synced = false
	h.cancel()
	closed := make(chan struct{})
	n.retired = closed
	n.r.background(func() {
		n.shut(h.st)
		close(closed)
	})
}

// open opens the store, one attempt at a time: one that has not come back is waited
// for again instead of made again.
func (n *node) open(ctx context.Context) (store.Status, error) {
	if err := n.closedBefore(ctx); err != nil {
		return store.Status{}, err
	}
	n.r.mu.Lock()
	spec, want := n.spec, n.id
	n.r.mu.Unlock()
	if n.opening == nil {
		into := make(chan opened, 1)
		n.opening = into
		n.r.mu.Lock()
		n.r.background(func() { into <- n.tryOpen(ctx, spec, want) })
		n.r.mu.Unlock()
	}
	t := time.NewTimer(OpenLimit)
	defer t.Stop()
	select {
	case o := <-n.opening:
		n.opening = nil
		if o.err != nil {
			n.r.mu.Lock()
			n.missing = silentError(o.err) && local(spec.Kind)
			n.r.mu.Unlock()
			return o.s, o.err
		}
		n.accept(o)
		return o.s, nil
	case <-t.C:
		return store.Status{}, n.unavailable("open", "no answer within "+OpenLimit.String(), errNoAnswer)
	case <-ctx.Done():
		return store.Status{}, ctx.Err()
	}
}

func local(kind string) bool { return kind == "directory" || kind == "container" || kind == "memory" }

// near reports whether the node's store is this program's own.
func (n *node) near() bool {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	return local(n.spec.Kind)
}

// closedBefore waits until the store opened before is closed, as it holds the lock.
func (n *node) closedBefore(ctx context.Context) error {
	n.r.mu.Lock()
	c := n.retired
	n.r.mu.Unlock()
	if c == nil {
		return nil
	}
	t := time.NewTimer(CloseLimit)
	defer t.Stop()
	select {
	case <-c:
		return nil
	case <-t.C:
		return n.unavailable("open", "an earlier call to it has not come back", errNoAnswer)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tryOpen opens and fences the store and asks it who it is.
func (n *node) tryOpen(ctx context.Context, spec NodeSpec, want store.NodeID) opened {
	st, err := spec.Open(ctx, want)
	if err != nil {
		return opened{err: err}
	}
	s, err := st.Status(ctx)
	if err == nil && !want.IsZero() && s.Leaf != want {
		err = n.another(want, s.Leaf)
	}
	if err == nil {
		err = n.r.claim(n, s.Leaf)
	}
	before := s.Position
	if f, ok := st.(store.Fencer); ok && err == nil && !n.r.o.ReadOnly {
		if err = f.Fence(ctx, n.r.tokens, n.r.token, n.r.o.TakeOver); err == nil {
			s, err = st.Status(ctx) // the fence has moved its position
		}
	}
	if err != nil {
		n.shut(st)
		return opened{err: err}
	}
	return opened{st: st, s: s, before: before}
}

func (n *node) shut(st store.Store) {
	if err := st.Close(); err != nil {
		n.r.log.WithField("node", n.name).WithError(err).Warn("node closed with an error")
	}
}

// abandonOpening closes what an attempt brings after the keeper has ended.
func (n *node) abandonOpening() {
	c := n.opening
	if c == nil {
		return
	}
	n.opening = nil
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	n.r.background(func() {
		if o := <-c; o.st != nil {
			n.shut(o.st)
		}
	})
}

// accept makes an opened store the node's.
func (n *node) accept(o opened) {
	r := n.r
	h := &handle{st: o.st, durable: o.s.Durable, reads: make(chan struct{}, MaxReads)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if a, ok := o.st.(store.Adopter); ok && r.o.BodyDir != "" {
		h.adopts = a.AdoptsFrom(r.o.BodyDir)
	}
	n.standsAtOpening(o.before, o.s.Position)
	r.mu.Lock()
	defer r.mu.Unlock()
	n.handle, n.silent, n.barred = h, true, "" // until heard
	n.grant.synced = false
	if t, ok := o.st.(store.Teller); ok && !r.o.ReadOnly {
		r.background(func() { n.listen(h, t) })
		n.goOnCounting(h)
	}
}
