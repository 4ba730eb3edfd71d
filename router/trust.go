package router

import (
	"context"
	"fmt"
	"slices"

	"stasis/store"
	"stasis/store/ledger"
)

// What a node on another machine may cause by what it says. It can retract its own copies,
// and keep new ones away from itself; it never retires a crate, has one made anew, or has
// another node's copy discarded. Whoever is caught at a lie twice gets nothing more until a
// person has looked at it.

// lied deals with a node that gave a receipt for other bytes than it was sent.
func (n *node) lied(err error) {
	r := n.r
	r.mu.Lock()
	n.lies++
	bar := n.lies >= LiesBar && !n.distrusted()
	r.mu.Unlock()
	r.log.WithField("node", n.name).WithError(err).Warn("a node gave a receipt for other bytes than it was sent; it does not count")
	if !bar {
		return
	}
	why := fmt.Sprintf("it gave receipts for other bytes than it was sent: nothing more is sent to it until somebody has looked at it and says `stasis resume` with its name; last: %s", err)
	if err := r.distrust(n, why); err != nil {
		r.log.WithField("node", n.name).WithError(err).Error("record that a node is not trusted")
	}
}

// distrust has nothing more sent to a node, durably, until Resume, and what was meant for it go
// elsewhere.
func (r *Router) distrust(n *node, why string) error {
	h := hold{why: why}
	_, err := r.local.Update(func(tx *ledger.Tx) error {
		tx.Put(holdKey(n.name), h.encode())
		return nil
	})
	if err != nil {
		return err
	}
	r.log.WithField("node", n.name).WithField("reason", why).Error("a node is not trusted any more")
	r.mu.Lock()
	r.holds[n.name] = h
	if n.revoke != nil {
		n.revoke()
	}
	r.background(func() { n.vacate(r.ctx) })
	r.mu.Unlock()
	r.o.Observer.NodesChanged()
	return nil
}

// distrusted reports whether the node was found lying. Called with mu held.
func (n *node) distrusted() bool {
	h, held := n.held()
	return held && h.why != ""
}

// vacate finds other places for what is queued for a node that gets nothing any more.
func (n *node) vacate(ctx context.Context) {
	r := n.r
	for k := range classes {
		err := r.scan(r.local, queuePrefix(n.nodeID(), k), func(p ledger.Pair) error {
			if err := r.replace(ctx, crateOf(p.Key)); err != nil && ctx.Err() == nil {
				r.log.WithField("crate", crateOf(p.Key)).WithError(err).Debug("no other place yet")
			}
			return ctx.Err()
		})
		if err != nil && ctx.Err() == nil {
			r.log.WithField("node", n.name).WithError(err).Error("find other places for what is queued")
		}
	}
}

// replace plans the copies that a crate lacks, and tells the observer how it stands.
func (r *Router) replace(ctx context.Context, c store.CrateID) error {
	m, ok, err := r.manifest(c)
	if err != nil || !ok {
		return err
	}
	m, err = r.Reconsider(ctx, c, Policy{Copies: m.Wanted})
	if store.KindOf(err) == store.NotFound {
		return nil // it died
	}
	r.placed([]Manifest{m})
	return err
}

// refuse deals with a node on another machine that says that it has other bytes under the id of a
// crate. It gets that crate no more, and the copy goes elsewhere.
func (n *node) refuse(ctx context.Context, j *job) {
	r := n.r
	r.log.WithField("node", n.name).WithField("crate", j.crate).WithError(j.err).Warn("a node says that it has other bytes under the id of a crate; the copy goes elsewhere")
	if d := j.m.Destination(n.nodeID()); d != nil && d.State == Damaged {
		n.fail(j, j.err) // it had it once: what it has of it is still read
		return
	}
	if err := n.setState(j.crate, Refused); err != nil {
		n.fail(j, err)
		return
	}
	if err := n.dequeue([]*job{j}); err != nil {
		r.log.WithField("node", n.name).WithError(err).Error("take a crate out of the queue")
	}
	if err := r.replace(ctx, j.crate); err != nil && ctx.Err() == nil {
		r.log.WithField("crate", j.crate).WithError(err).Debug("no other place yet")
	}
}

// setState writes a state of a crate's destination at the node, if it is one.
func (n *node) setState(c store.CrateID, s DestinationState) error {
	id := n.nodeID()
	_, err := n.r.shared.Update(func(tx *ledger.Tx) error {
		m, ok, err := manifestTx(tx, c)
		if err != nil || !ok {
			return err
		}
		if d := m.Destination(id); d != nil {
			d.State = s
			n.r.changedTx(tx, &m)
		}
		return nil
	})
	return err
}

// forgive has crates sent to a node again which it has refused: a person says that it is to be
// trusted.
func (n *node) forgive(ctx context.Context) {
	r := n.r
	id := n.nodeID()
	err := r.scan(r.shared, []byte{tableManifest}, func(p ledger.Pair) error {
		m, err := decodeManifest(crateOf(p.Key), p.Value)
		if err != nil {
			return err
		}
		if d := m.Destination(id); d == nil || d.State != Refused {
			return ctx.Err()
		}
		if err := n.setState(m.Crate, Planned); err != nil {
			return err
		}
		return r.enqueueRepair(n, &m, false)
	})
	if err != nil && ctx.Err() == nil {
		r.log.WithField("node", n.name).WithError(err).Error("send again what a node has refused")
	}
}

// stray notes that there is a receipt for a leaf which the node has not named when it promised
// space. It is asked again where it has, as it may have found other places since; what it names
// then counts, and what it never names does not.
func (n *node) stray(c store.CrateID) {
	n.r.mu.Lock()
	if !slices.Contains(n.strays, c) && len(n.strays) < MaxRecounts {
		n.strays = append(n.strays, c)
	}
	asks := n.wheres.take(n.r.clock.Boot(), RetryCap, CompareMost)
	if asks {
		n.grant.synced = false
	}
	n.r.mu.Unlock()
	if asks { // else it is asked with the next renewal
		n.rouse(wakeKeeper)
	}
}

// named takes note of an answer that names leaves: what strayed to new ones is asked after.
// Called with mu held.
func (n *node) named(before, now []store.NodeID) {
	ids := n.strays
	if n.strays = nil; len(ids) == 0 || n.handle == nil || !slices.ContainsFunc(now, func(id store.NodeID) bool { return !slices.Contains(before, id) }) {
		return
	}
	n.uncounted = append(n.uncounted, ids...)
	n.goOnCounting(n.handle)
}
