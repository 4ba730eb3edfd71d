package router

import (
	"context"
	"fmt"
	"slices"
	"time"

	"stasis/store"
)

// lockGrant lets one question about the grant be asked at a time. It is no lock on
// any state: draws that the grant covers go on meanwhile. The wait is bounded by ctx.
func (n *node) lockGrant(ctx context.Context) error {
	select {
	case <-n.reserving:
		return nil
	case <-ctx.Done():
		return n.unavailable("reserve space", "it is still busy with an earlier question", ctx.Err())
	}
}

func (n *node) unlockGrant() { n.reserving <- struct{}{} }

// resize asks the node to keep so much room for us, in bytes. Called between
// lockGrant and unlockGrant.
func (n *node) resize(ctx context.Context, limit time.Duration, room int64) error {
	r := n.r
	r.mu.Lock()
	h := n.online()
	now := r.clock.Boot()
	g := &n.grant
	if g.id == (store.ReservationID{}) || g.synced && now >= g.deadline {
		g.restart(store.NewReservationID())
	}
	was, bytes, id, noted := g.bytes, g.ask(room), g.id, g.noted
	r.mu.Unlock()
	if bytes <= 0 {
		return n.giveUp(ctx, limit, h, id)
	}
	// The ledger knows of a reservation before the node does, so that none is left behind.
	if bytes > noted || bytes < noted/2 {
		if err := n.noteGrant(grantRecord{id: id, bytes: bytes + room/4}); err != nil {
			return err
		}
	}
	share, err := n.reserve(ctx, limit, h, id, bytes)
	if spaceError(err) && was > 0 {
		// A restart is to ask for what there is.
		if err := n.noteGrant(grantRecord{id: id, bytes: was}); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n.status.Free += was - share.bytes
	n.mute, n.mutes = 0, 0
	n.named(g.leaves, share.leaves)
	g.answer(share, now)
	return nil
}

// noteGrant records a grant, and that it did. Called between lockGrant and unlockGrant.
func (n *node) noteGrant(g grantRecord) error {
	if err := n.r.recordGrant(n.nodeID(), g); err != nil {
		return err
	}
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	if n.grant.id == g.id {
		n.grant.noted = g.bytes
	}
	return nil
}

// promise is what a node answered when it was asked for space.
type promise struct {
	bytes, drawn int64
	leaves       []store.NodeID // on which it lies
}

// reserve makes the call. The store is told first what lies in bodies that it will
// adopt, lest it count them twice.
func (n *node) reserve(ctx context.Context, limit time.Duration, h *handle, id store.ReservationID, bytes int64) (promise, error) {
	rq := n.terms(id, bytes)
	n.asks(true)
	defer n.asks(false)
	shares, err := call(ctx, n, h, limit, "reserve space", func(ctx context.Context, st store.Store) ([]store.Share, error) {
		n.tellResident(h)
		return st.Reserve(ctx, rq)
	}, nil)
	if err != nil {
		return promise{}, err
	}
	return n.promised(shares, bytes)
}

// promised makes one promise of the shares that a node answered with. One that delegates
// answers for each leaf: what all of them have promised counts, and no more than was asked for.
func (n *node) promised(shares []store.Share, asked int64) (promise, error) {
	if len(shares) == 0 || n.near() && (len(shares) > 1 || shares[0].Leaf != n.nodeID()) {
		return promise{}, &store.Error{Kind: store.Invalid, Op: "reserve space", Subject: fmt.Sprintf("on node %q", n.name),
			Detail: fmt.Sprintf("it answered with %d shares", len(shares))}
	}
	out := promise{bytes: MaxFigure}
	for _, s := range shares {
		out.bytes, out.drawn = min(out.bytes, figure(s.Bytes)), max(out.drawn, figure(s.Drawn))
		if !s.Leaf.IsZero() && len(out.leaves) < MaxLeaves && !slices.Contains(out.leaves, s.Leaf) {
			out.leaves = append(out.leaves, s.Leaf)
		}
	}
	out.bytes = min(out.bytes, max(asked, out.drawn))
	return out, nil
}

// figure is a number of bytes, or of crates, as far as it can be meant.
func figure(v int64) int64 { return min(max(v, 0), MaxFigure) }

// terms is the request for a grant. A peer may pass on what it gets: not to a place that
// this router sends to itself, which would be no further copy, and not in a circle.
func (n *node) terms(id store.ReservationID, bytes int64) store.ReserveRequest {
	r := n.r
	rq := store.ReserveRequest{ID: id, Holder: r.o.Owner, Bytes: bytes, Lease: GrantLease}
	r.mu.Lock()
	defer r.mu.Unlock()
	if local(n.spec.Kind) {
		return rq
	}
	for _, o := range r.nodes {
		if o != n && !o.id.IsZero() && o.id != n.id && o.configured && len(rq.Exclude) < MaxDestinations {
			rq.Exclude = append(rq.Exclude, o.id)
		}
	}
	if rq.Hops = MaxHops; !r.self.IsZero() {
		rq.Path, rq.Hops = []store.NodeID{r.self}, MaxHops-1
	}
	return rq
}

// asks notes that a question about space is under way, or no more.
func (n *node) asks(is bool) {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	if n.question = 0; is {
		n.question = max(n.r.clock.Boot(), 1)
	}
}

// tellResident passes on what lies in bodies to be adopted.
func (n *node) tellResident(h *handle) {
	a, ok := h.st.(store.Adopter)
	if !ok || !h.adopts {
		return
	}
	n.r.mu.Lock()
	bytes := n.grant.resident
	n.r.mu.Unlock()
	a.Resident(bytes)
}

// giveUp ends a reservation of which nothing was drawn and nothing is wanted.
func (n *node) giveUp(ctx context.Context, limit time.Duration, h *handle, id store.ReservationID) error {
	_, err := call(ctx, n, h, limit, "release space", func(ctx context.Context, st store.Store) (struct{}, error) {
		return struct{}{}, st.Release(ctx, id)
	}, nil)
	if err != nil {
		return err
	}
	if err := n.r.forgetGrant(n.id); err != nil {
		return err
	}
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	n.grant.restart(store.ReservationID{})
	n.grant.synced = true
	return nil
}

// sync asks a freshly opened store for the truth about the grant. Called between
// lockGrant and unlockGrant.
func (n *node) sync(ctx context.Context) error {
	r := n.r
	r.mu.Lock()
	h, g := n.online(), &n.grant
	id, bytes, synced := g.id, g.bytes, g.synced
	r.mu.Unlock()
	if synced || id == (store.ReservationID{}) {
		return nil
	}
	// A reservation that lapsed must not be made anew under its old figure, which
	// includes all that was ever drawn.
	_, err := call(ctx, n, h, GrantLimit, "renew the reservation", func(ctx context.Context, st store.Store) (time.Time, error) {
		return st.Renew(ctx, id)
	}, nil)
	switch store.KindOf(err) {
	case 0:
		if err != nil {
			return err
		}
	case store.NotFound:
		r.mu.Lock()
		g.restart(store.ReservationID{})
		r.mu.Unlock()
		return nil
	default:
		return err
	}
	r.mu.Lock()
	asked := r.clock.Boot()
	g.acked = 0
	r.mu.Unlock()
	share, err := n.reserve(ctx, GrantLimit, h, id, max(bytes, 1))
	if spaceError(err) {
		// The figure was asked for and refused before a restart. The least tells what was
		// drawn; what is promised beside is asked for next.
		share, err = n.reserve(ctx, GrantLimit, h, id, 1)
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	n.named(g.leaves, share.leaves)
	g.answer(share, asked)
	r.mu.Unlock()
	return nil
}

// tendSoon has the grant tended in the background, once at a time; what it gives is closed
// when that has ended, and nil if the node is not in use. Called with mu held.
func (n *node) tendSoon() <-chan struct{} {
	if n.filling != nil || n.stop == nil {
		return n.filling
	}
	done, ctx := make(chan struct{}), n.ctx
	n.filling = done
	n.loops.Add(1)
	go func() {
		defer n.loops.Done()
		err := n.tend(ctx)
		n.r.mu.Lock()
		defer n.r.mu.Unlock()
		n.filling = nil
		close(done)
		if silentError(err) && ctx.Err() == nil {
			n.hush()
		}
	}()
	return done
}

// tend keeps the grant as it should be: confirmed, renewed, with room for all that
// is promised and a little ahead of need. Its error is logged already.
func (n *node) tend(ctx context.Context) error {
	r := n.r
	if n.lockGrant(ctx) != nil {
		return nil
	}
	defer n.unlockGrant()
	r.mu.Lock()
	idle := n.online() == nil || !n.handle.durable || r.o.ReadOnly || n.leaving || n.rests(reserves, r.clock.Boot()) > 0
	r.mu.Unlock()
	if idle {
		return nil
	}
	err := n.tendGrant(ctx)
	switch {
	case ctx.Err() != nil:
	case err == nil || spaceError(err):
		n.steady(reserves)
	default:
		n.stumble(reserves, err)
	}
	return err
}

func (n *node) tendGrant(ctx context.Context) error {
	r := n.r
	if err := n.sync(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	g, now := &n.grant, r.clock.Boot()
	if g.id != (store.ReservationID{}) && g.synced && now >= g.deadline {
		g.restart(store.ReservationID{})
	}
	want := target(n.status.Free + max(0, g.room()-g.promised))
	spare := g.room() - g.promised
	due := now-g.renewed >= GrantRenew && g.id != (store.ReservationID{})
	doubtful := g.unsure && now-g.stirred >= GrantSure
	promised := g.promised
	r.mu.Unlock()
	switch {
	case spare < 0, spare < want/2, spare > 2*want, due, doubtful:
		err := n.resize(ctx, GrantLimit, promised+want)
		if store.KindOf(err) != store.NoSpace && store.KindOf(err) != store.Quota {
			return err
		}
		if spare < 0 && want > 0 {
			err = n.resize(ctx, GrantLimit, promised)
		}
		if due && err != nil {
			err = n.renew(ctx)
		}
		return err
	}
	return nil
}

// renew starts the lease anew without another figure.
func (n *node) renew(ctx context.Context) error {
	r := n.r
	r.mu.Lock()
	h, id, asked := n.online(), n.grant.id, r.clock.Boot()
	r.mu.Unlock()
	_, err := call(ctx, n, h, GrantLimit, "renew the reservation", func(ctx context.Context, st store.Store) (time.Time, error) {
		return st.Renew(ctx, id)
	}, nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil && n.grant.id == id:
		n.grant.deadline, n.grant.renewed = asked+GrantLease, asked
	case store.KindOf(err) == store.NotFound && n.grant.id == id:
		n.grant.restart(store.ReservationID{})
	}
	return err
}

// grow takes delta bytes from the grant, for which it asks the node as often as
// others are faster. nil: they are promised to the caller. asked is by how much the
// grant grew for it.
func (n *node) grow(ctx context.Context, limit time.Duration, delta int64) (asked int64, err error) {
	r := n.r
	if err := n.lockGrant(ctx); err != nil {
		return 0, err
	}
	defer n.unlockGrant()
	for range growTries {
		if err := n.sync(ctx); err != nil {
			return asked, err
		}
		r.mu.Lock()
		g := &n.grant
		if g.available(r.clock.Boot()) >= delta {
			g.promised += delta
			r.mu.Unlock()
			return asked, nil
		}
		room := g.promised + delta
		more := room - g.room()
		unsure := g.unsure
		r.mu.Unlock()
		err := n.resize(ctx, limit, room)
		if spaceError(err) && unsure {
			// More may be left of the grant than was thought.
			r.mu.Lock()
			g.synced = false
			r.mu.Unlock()
			continue
		}
		if err != nil {
			return asked, err
		}
		asked += max(more, 0)
	}
	return asked, n.unavailable("reserve space", "others were faster", nil)
}

// growTries is how often a draw asks for room that other draws then take.
const growTries = 8

// shrink gives back what a failed draw had made the grant grow by.
func (n *node) shrink(ctx context.Context, by int64) error {
	if err := n.lockGrant(ctx); err != nil {
		return err
	}
	defer n.unlockGrant()
	n.r.mu.Lock()
	room := n.grant.room() - min(by, n.grant.available(n.r.clock.Boot()))
	n.r.mu.Unlock()
	return n.resize(ctx, ReserveLimit, room)
}
