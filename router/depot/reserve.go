package depot

import (
	"context"
	"slices"
	"sync"
	"time"

	"stasis/router"
	"stasis/store"
	"stasis/store/booking"
	"stasis/store/ledger"
)

const opReserve = "reserve space"

// hold is what stands behind one reservation.
type hold struct {
	mu    sync.Mutex // held while the router is asked
	ask   terms
	terms booking.Terms
	plan  router.Plan // of what is not taken yet
	taken int64       // by puts, those under way included
	drawn int64       // by those that succeeded
	ended bool        // released or lapsed: only what puts have taken is still held
}

// Reserve is store.Store's. There is a share for each node of the plan that has promised its
// part; a node that does not answer has none, and gets its copies when it is back.
func (s *Store) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	leave, err := s.enter(ctx, opReserve)
	if err != nil {
		return nil, err
	}
	defer leave()
	switch {
	case r.Copies < 0 || r.Zones < 0 || r.Hops < 0 || len(r.Exclude) > maxIDs || len(r.Path) > maxIDs:
		return nil, &store.Error{Kind: store.Invalid, Op: opReserve, Detail: "a number is out of bounds"}
	case slices.Contains(r.Exclude, s.o.ID):
		return nil, &store.Error{Kind: store.NoSpace, Op: opReserve, Detail: "the request excludes this depot"}
	case slices.Contains(r.Path, s.o.ID):
		return nil, &store.Error{Kind: store.NoSpace, Op: opReserve, Detail: "the request came through this depot before: the peers pass crates on in a circle"}
	}
	unlock, err := s.asking.Lock(ctx, r.ID)
	if err != nil {
		return nil, &store.Error{Kind: store.Unavailable, Op: opReserve, Err: err}
	}
	defer unlock()
	defer s.ask(r)()
	own := r
	own.Copies, own.Zones, own.Exclude = 0, 0, nil
	share, err := s.book.Reserve(ctx, own)
	if err != nil {
		return nil, err
	}
	h := s.hold(r.ID, false)
	if h == nil { // it lapsed meanwhile
		return nil, &store.Error{Kind: store.NotFound, Op: opReserve, Detail: "its lease is over", Hint: "reserve again"}
	}
	return s.shares(h, share), nil
}

// ask notes what a request asks for beside space, until the function it gives is called. One
// without any of it for a reservation that there is only wants that kept as it is.
func (s *Store) ask(r store.ReserveRequest) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := terms{copies: r.Copies, zones: r.Zones, hops: hopsOf(r), exclude: r.Exclude, path: r.Path}
	if was, there := s.given[r.ID]; there && t.hops == 0 && len(t.exclude)+len(t.path) == 0 {
		t = was
	}
	s.asked[r.ID] = t
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.asked, r.ID)
	}
}

// terms are what is asked for under an id now or, if nobody asks, was before.
func (s *Store) terms(id store.ReservationID) terms {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, asks := s.asked[id]; asks {
		return t
	}
	return s.given[id]
}

// shares tells of each node that has promised its part.
func (s *Store) shares(h *hold, of store.Share) []store.Share {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []store.Share
	for _, t := range h.plan.Targets {
		if t.Reserved {
			share := of
			share.Leaf, share.Zone = t.Node, s.router.Zone(t.Node)
			out = append(out, share)
		}
	}
	if len(out) == 0 { // all of it is drawn
		out = append(out, of)
	}
	return out
}

// hold gives what stands behind a reservation; nil if there is nothing and it is not to be made.
func (s *Store) hold(id store.ReservationID, create bool) *hold {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holds[id]
	if h == nil && create {
		h = &hold{}
		s.holds[id] = h
	}
	return h
}

// Renew is store.Store's.
func (s *Store) Renew(ctx context.Context, id store.ReservationID) (time.Time, error) {
	leave, err := s.enter(ctx, "renew reservation")
	if err != nil {
		return time.Time{}, err
	}
	defer leave()
	unlock, err := s.asking.Lock(ctx, id)
	if err != nil {
		return time.Time{}, &store.Error{Kind: store.Unavailable, Op: "renew reservation", Err: err}
	}
	defer unlock()
	return s.book.Renew(ctx, id)
}

// Release is store.Store's.
func (s *Store) Release(ctx context.Context, id store.ReservationID) error {
	leave, err := s.enter(ctx, "release reservation")
	if err != nil {
		return err
	}
	defer leave()
	return s.book.Release(ctx, id)
}

// journal persists the terms of reservations, and has the router hold what they promise.
type journal Store

// SaveTerms is booking.Journal's.
func (j *journal) SaveTerms(ctx context.Context, t booking.Terms) error {
	s := (*Store)(j)
	h := s.hold(t.ID, true)
	ask := s.terms(t.ID)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := s.cover(ctx, h, ask, t.Bytes); err != nil {
		return err
	}
	h.ask, h.terms = ask, t
	s.mu.Lock()
	s.given[t.ID] = ask
	s.mu.Unlock()
	p, err := s.local.Update(func(tx *ledger.Tx) error {
		tx.Put(reservationKey(t.ID), h.record().encode())
		return nil
	})
	if err != nil {
		return err
	}
	return s.o.Ledger.Sync(ctx, p)
}

func (h *hold) record() record {
	return record{ask: h.ask, drawn: h.drawn, terms: h.terms, plan: h.plan}
}

// cover has the router hold what of so many bytes is not taken yet. On an error it holds what
// it held before. Called with h.mu held.
func (s *Store) cover(ctx context.Context, h *hold, ask terms, bytes int64) error {
	want := bytes - h.taken
	if want <= 0 {
		s.router.Return(h.plan)
		for i := range h.plan.Targets {
			h.plan.Targets[i].Bytes = 0
		}
		return nil
	}
	policy := s.policyOf(ask)
	plan, err := s.router.Draw(ctx, router.DrawRequest{Policy: policy, Bytes: want, Held: h.plan, Keep: true, Places: max(1, ask.copies), Exclude: s.excluded(ask)})
	if err != nil {
		return err
	}
	plan.Wanted = policy.Copies // what was excluded is no copy
	h.plan = plan
	return nil
}

// policyOf is the store's policy and what a request wants beyond it.
func (s *Store) policyOf(ask terms) router.Policy {
	s.mu.Lock()
	p := s.policy
	s.mu.Unlock()
	p.Copies = max(1, p.Copies, ask.copies)
	p.Least = max(1, p.Least, ask.copies)
	p.Zones = max(p.Zones, ask.zones)
	return p
}

// excluded are the nodes that a request must not go to, those that it came through first.
func (s *Store) excluded(ask terms) []store.NodeID {
	out := append(slices.Clone(ask.path), ask.exclude...)
	if ask.hops == 0 {
		out = append(out, s.router.Peers()...)
	}
	return out
}

// DeleteTerms is booking.Journal's.
func (j *journal) DeleteTerms(ctx context.Context, id store.ReservationID) error {
	s := (*Store)(j)
	p, err := s.local.Update(func(tx *ledger.Tx) error {
		tx.Delete(reservationKey(id))
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.o.Ledger.Sync(ctx, p); err != nil {
		return err
	}
	s.mu.Lock()
	h := s.holds[id]
	delete(s.holds, id)
	delete(s.given, id)
	s.mu.Unlock()
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.router.Return(h.plan)
	h.plan, h.ended = router.Plan{}, true
	return nil
}

// loadHolds reads the reservations, and has the router hold what they promise.
func (s *Store) loadHolds() ([]booking.Record, error) {
	prefix := []byte{tableDepot, tableReservations}
	var out []booking.Record
	for from := prefix; ; {
		pairs, err := s.local.Scan(from, []byte{tableDepot, tableReservations + 1}, pageCrates)
		if err != nil {
			return nil, err
		}
		for _, p := range pairs {
			r, err := decodeRecord(p.Value)
			if err != nil {
				return nil, err
			}
			for i := range r.plan.Targets {
				r.plan.Targets[i].Bytes, r.plan.Targets[i].Resident = max(0, r.terms.Bytes-r.drawn), 0
			}
			s.router.Restore(r.plan)
			s.given[r.terms.ID] = r.ask
			s.holds[r.terms.ID] = &hold{ask: r.ask, terms: r.terms, plan: r.plan, taken: r.drawn, drawn: r.drawn}
			out = append(out, booking.Record{Terms: r.terms, Drawn: r.drawn})
		}
		if len(pairs) < pageCrates {
			return out, nil
		}
		from = append(slices.Clone(pairs[len(pairs)-1].Key), 0)
	}
}

// take gives the plan of one crate: its part of what is held under a reservation, whose space
// in the book the caller has drawn. The reservation may have ended since.
func (s *Store) take(ctx context.Context, id store.ReservationID, charge int64) (*hold, router.Plan, error) {
	h := s.hold(id, false)
	if h == nil {
		h = &hold{ended: true}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		policy := s.policyOf(h.ask)
		plan, err := s.router.Draw(ctx, router.DrawRequest{Policy: policy, Bytes: charge, Exclude: s.excluded(h.ask)})
		plan.Wanted = policy.Copies
		return h, plan, err
	}
	if !covers(h.plan, charge) {
		// An earlier put under it failed when it had left already, or nodes have changed.
		if err := s.cover(ctx, h, h.ask, h.terms.Bytes); err != nil {
			return nil, router.Plan{}, err
		}
		if !covers(h.plan, charge) {
			return nil, router.Plan{}, &store.Error{Kind: store.NoSpace, Op: opPut, Detail: "its reservation is drawn"}
		}
	}
	plan := router.Plan{Wanted: h.plan.Wanted, Short: h.plan.Short, Waiting: h.plan.Waiting}
	for i := range h.plan.Targets {
		t := &h.plan.Targets[i]
		part := *t
		part.Bytes, part.Resident = charge, 0
		t.Bytes -= charge
		plan.Targets = append(plan.Targets, part)
	}
	h.taken += charge
	return h, plan, nil
}

func (h *hold) asked() terms {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ask
}

func covers(p router.Plan, charge int64) bool {
	return len(p.Targets) > 0 && !slices.ContainsFunc(p.Targets, func(t router.Target) bool { return t.Bytes < charge })
}

// putBack gives back what take gave, of a crate that never left.
func (s *Store) putBack(h *hold, plan router.Plan, charge int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		s.router.Return(plan)
		return
	}
	h.taken -= charge
	same := slices.EqualFunc(h.plan.Targets, plan.Targets, func(a, b router.Target) bool {
		return a.Node == b.Node && a.Reserved == b.Reserved && b.Resident == 0
	})
	if !same {
		s.router.Return(plan) // it is drawn anew when it is needed
		return
	}
	for i := range h.plan.Targets {
		h.plan.Targets[i].Bytes += charge
	}
}

// spent notes that a crate was stored under a reservation, which may have ended.
func (s *Store) spent(h *hold, charge int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return
	}
	h.drawn += charge
	_, err := s.local.Update(func(tx *ledger.Tx) error {
		k := reservationKey(h.terms.ID)
		if _, alive, err := tx.Get(k); err != nil || !alive {
			return err
		}
		tx.Put(k, h.record().encode())
		return nil
	})
	if err != nil {
		s.log.WithError(err).Warn("what a reservation has drawn is not noted; after a restart more is held for it")
	}
}

// unspent gives back what a crate had taken that had left and was not stored: the router gives
// the nodes' part back, and it is drawn anew when it is needed.
func (h *hold) unspent(charge int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken -= charge
}
