package router

import (
	"context"
	"slices"
	"time"

	"stasis/router/place"
	"stasis/store"
	"stasis/store/ledger"
)

// Reconsider compares the places of a crate with a policy and plans the copies that it
// lacks: more are wanted now, nodes had no room, or one has been away past its grace. It
// gives the manifest as it is then. NoSpace or Quota if a copy is lacking and no node
// takes it.
func (r *Router) Reconsider(ctx context.Context, id store.CrateID, policy Policy) (Manifest, error) {
	m, err := r.Manifest(id)
	if err != nil {
		return m, err
	}
	copies := max(1, policy.Copies)
	lacks := copies - r.placesOf(&m)
	if m.Retired || lacks <= 0 && m.Wanted == copies {
		return m, nil
	}
	var plan Plan
	if room := MaxDestinations - len(m.Destinations); lacks > 0 && room > 0 {
		if plan, err = r.drawMore(ctx, &m, policy, min(lacks, room)); err != nil {
			return m, err
		}
	}
	m, err = r.replan(id, copies, plan)
	if err != nil {
		return m, err
	}
	if lacks > len(plan.Targets) {
		return m, &store.Error{Kind: store.NoSpace, Op: "place crate", Subject: id.String(), Detail: plan.Short, Hint: "add a node, or free some space"}
	}
	return m, nil
}

// drawMore draws the space of copies that a crate lacks.
func (r *Router) drawMore(ctx context.Context, m *Manifest, policy Policy, copies int) (Plan, error) {
	policy.Copies, policy.Least = copies, 1
	q := DrawRequest{Policy: policy, Bytes: store.Charge(m.Size)}
	q.Exclude = m.closed()
	return r.Draw(ctx, q)
}

// closed are the nodes at which a further copy is out of the question.
func (m *Manifest) closed() []store.NodeID {
	ids := slices.Clone(m.Barred)
	for _, d := range m.Destinations {
		ids = append(ids, d.Node)
	}
	return ids
}

// CanGain reports whether there is a node at which a crate could have a further copy.
func (r *Router) CanGain(m *Manifest) bool {
	closed := m.closed()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.nodes, func(n *node) bool {
		return n.configured && !n.leaving && !n.id.IsZero() && n.durable() && !slices.Contains(closed, n.id)
	})
}

// placesOf is how many places a crate has, or is going to have, that are not given up. Two
// ways to one leaf are one place; a node that passes crates on is as many as have it there.
func (r *Router) placesOf(m *Manifest) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	places := 0
	var seen []store.NodeID
	for i := range m.Destinations {
		d := &m.Destinations[i]
		n := r.byID[d.Node]
		if n == nil || d.State == Refused || d.State == Verified && !d.Durable {
			continue
		}
		switch n.health() {
		case place.Online, place.Silent:
		case place.Barred:
			if d.State != Verified {
				continue // what it has agrees with what this machine recorded
			}
		default:
			continue
		}
		if d.State != Verified {
			places++
			continue
		}
		d.eachLeaf(func(id store.NodeID) {
			if !slices.Contains(seen, id) {
				seen = append(seen, id)
				places++
			}
		})
	}
	return places
}

// replan adds a plan's targets to a crate's manifest and to their queues.
func (r *Router) replan(id store.CrateID, wanted int, plan Plan) (m Manifest, err error) {
	was := wanted
	var added Added
	_, err = r.shared.Update(func(tx *ledger.Tx) error {
		var ok bool
		if m, ok, err = manifestTx(tx, id); err != nil {
			return err
		}
		if !ok {
			return &store.Error{Kind: store.NotFound, Op: "find the manifest of crate", Subject: id.String()}
		}
		was = m.Wanted
		m.Wanted = wanted
		for _, t := range plan.Targets {
			if durable, known := r.knows(t.Node); known && m.Destination(t.Node) == nil {
				m.Destinations = append(m.Destinations, Destination{Node: t.Node, Durable: durable})
				tx.Delete(deadKey(t.Node, id)) // it may have been meant for the node before
			}
		}
		if wanted < was {
			r.changedTx(tx, &m) // what it has may be enough now
		} else {
			tx.Put(manifestKey(id), m.encode())
		}
		added, err = r.EnqueueTx(tx.In(ledger.Local), id, m.Size, plan)
		return err
	})
	if err != nil {
		r.Return(plan)
		return m, err
	}
	r.Handover(plan, added)
	if wanted < was {
		r.placed([]Manifest{m})
	}
	return m, nil
}

// reroute finds another place for a copy whose node refused it for space. It reports
// whether it did.
func (r *Router) reroute(ctx context.Context, n *node, j *job) bool {
	if !j.m.movable(n.nodeID()) {
		return false
	}
	q := DrawRequest{Policy: Policy{Copies: 1}, Bytes: j.charge}
	q.Exclude = j.m.closed()
	plan, err := r.Draw(ctx, q)
	if err != nil {
		return false
	}
	if len(plan.Targets) == 0 || !plan.Targets[0].Reserved {
		r.Return(plan)
		return false
	}
	added, moved, err := r.move(n.nodeID(), j.crate, plan)
	if err != nil || !moved {
		r.Return(plan)
		return false
	}
	r.Handover(plan, added)
	r.log.WithField("node", n.name).WithField("crate", j.crate).Debug("a copy goes elsewhere, as its node has no room")
	return true
}

// movable reports whether a place can be given up for another: nothing is lost with it.
func (m *Manifest) movable(id store.NodeID) bool {
	d := m.Destination(id)
	return d != nil && (d.State == Planned || d.State == Damaged && m.Copies() > 0)
}

// move plans a copy for the node of a plan instead of another, and queues it there. Bytes may have
// come to the one before without an answer: it discards them.
func (r *Router) move(from store.NodeID, c store.CrateID, plan Plan) (added Added, moved bool, err error) {
	to := plan.Targets[0].Node
	durable, known := r.knows(to)
	_, err = r.shared.Update(func(tx *ledger.Tx) error {
		moved = false
		m, ok, err := manifestTx(tx, c)
		if err != nil || !ok || !known {
			return err
		}
		if r.mark(&m); !m.movable(from) || m.Destination(to) != nil {
			return nil
		}
		d := m.Destination(from)
		*d = Destination{Node: to, Form: d.Form, Durable: durable}
		tx.Put(manifestKey(c), m.encode())
		tx.Put(deadKey(from, c), encodeTime(deadVersion, r.clock.Now()))
		tx.Delete(deadKey(to, c))
		moved = true
		added, err = r.EnqueueTx(tx.In(ledger.Local), c, m.Size, plan)
		return err
	})
	return added, moved, err
}

// audit looks through all manifests, soon after the start and then from time to time,
// for copies that nobody is going to make.
func (r *Router) audit(ctx context.Context) {
	wait := AuditFirst
	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		case <-r.again:
			t.Stop()
		}
		wait = AuditEvery
		if err := r.auditAll(ctx); err != nil && ctx.Err() == nil {
			r.log.WithError(err).Error("look through the manifests")
		}
	}
}

func (r *Router) auditAll(ctx context.Context) error {
	from := []byte{tableManifest}
	// What was registered lately may be about to be queued.
	before := r.begun
	if late := r.clock.Now().Add(-AuditEvery / 2); late.After(before) {
		before = late
	}
	for {
		pairs, err := r.shared.Scan(from, after([]byte{tableManifest}), ScanPairs)
		if err != nil {
			return err
		}
		for _, p := range pairs {
			m, err := decodeManifest(crateOf(p.Key), p.Value)
			if err == nil && !m.Retired && m.Created.Before(before) {
				err = r.auditOne(ctx, &m)
			}
			if err != nil && ctx.Err() == nil {
				r.log.WithField("crate", m.Crate).WithError(err).Debug("audit")
			}
		}
		if len(pairs) < ScanPairs {
			return ctx.Err()
		}
		from = next(pairs[len(pairs)-1].Key)
		t := time.NewTimer(AuditPause)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// auditOne queues copies that were planned and are in no queue, and replaces those on nodes that
// are away past their grace, or of which there is no record.
func (r *Router) auditOne(ctx context.Context, m *Manifest) error {
	lost := false
	for i := range m.Destinations {
		d := &m.Destinations[i]
		r.mu.Lock()
		n := r.byID[d.Node]
		lost = lost || n == nil || d.State == Refused || n.health() == place.Gone || n.health() == place.Barred
		r.mu.Unlock()
		if n == nil || d.State == Verified || d.State == Refused {
			continue // a node of which there is no record may be one still; only removing it strikes its copies
		}
		if err := r.enqueueRepair(n, m, d.State == Damaged); err != nil {
			return err
		}
	}
	if !lost || r.placesOf(m) >= m.Wanted {
		return nil
	}
	_, err := r.Reconsider(ctx, m.Crate, Policy{Copies: m.Wanted})
	return err
}

// without takes a node off the destinations and reports whether it was there.
func (m *Manifest) without(id store.NodeID) bool {
	for i := range m.Destinations {
		if m.Destinations[i].Node == id {
			m.Destinations = append(m.Destinations[:i], m.Destinations[i+1:]...)
			return true
		}
	}
	return false
}
