package router

import (
	"context"
	"fmt"
	"slices"

	"stasis/store"
	"stasis/store/ledger"
)

// RemoveNode says what removing a node would mean and, unless dryRun, does it: its
// crates stay where they are, and the vault forgets about them. It is refused, with
// Refused set and nothing changed, if crates would fall below their wanted copies,
// unless force; and always if an only copy is there. NotFound if there is no such node.
func (r *Router) RemoveNode(ctx context.Context, name string, force, dryRun bool) (Removal, error) {
	r.mu.Lock()
	n := r.named(name)
	if n == nil || r.closed || r.o.ReadOnly && !dryRun {
		closed := r.closed
		r.mu.Unlock()
		switch {
		case closed:
			return Removal{}, errClosed("remove node")
		case n == nil:
			return Removal{}, &store.Error{Kind: store.NotFound, Op: "remove node", Subject: fmt.Sprintf("%q", name), Hint: "`stasis node list` shows the nodes"}
		}
		return Removal{}, &store.Error{Kind: store.Denied, Op: "remove node", Detail: "the vault is open for reading only"}
	}
	// From now on nothing new is meant for it.
	was := n.leaving
	n.leaving = !dryRun || was
	r.mu.Unlock()
	m, err := r.weigh(ctx, n)
	m.Refused = m.Only > 0 || m.Below > 0 && !force
	if err != nil || m.Refused || dryRun {
		r.mu.Lock()
		n.leaving = was
		n.rouseAll()
		r.mu.Unlock()
		return m, err
	}
	if err := r.remove(ctx, n); err != nil {
		return m, err
	}
	m.Removed = true
	select {
	case r.again <- struct{}{}:
	default:
	}
	r.o.Observer.NodesChanged()
	return m, nil
}

// weigh counts what lies on a node.
func (r *Router) weigh(ctx context.Context, n *node) (Removal, error) {
	var out Removal
	id := n.nodeID()
	below, only := make(map[uint64]struct{}), make(map[uint64]struct{})
	err := r.scan(r.shared, []byte{tableManifest}, func(p ledger.Pair) error {
		if err := ctx.Err(); err != nil {
			return &store.Error{Kind: store.Unavailable, Op: "count what lies on node", Subject: fmt.Sprintf("%q", n.name), Err: err}
		}
		m, err := decodeManifest(crateOf(p.Key), p.Value)
		if err != nil {
			return err
		}
		d := m.Destination(id)
		if d == nil {
			return nil
		}
		r.mark(&m)
		has := d.State == Verified
		m2 := m
		m2.Destinations = slices.Clone(m.Destinations)
		m2.without(id)
		elsewhere := m2.Copies()
		out.Crates++
		out.Bytes += m.Size
		if elsewhere < m.Wanted {
			out.Below++
			below[m.Origin] = struct{}{}
		}
		if has && elsewhere == 0 {
			out.Only++
			only[m.Origin] = struct{}{}
		}
		return nil
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	out.Queued = n.queue[small].crates + n.queue[large].crates
	out.Files, out.OnlyFiles = int64(len(below)), int64(len(only))
	return out, err
}

// remove takes a node apart. After a crash amid it, removing again goes on.
func (r *Router) remove(ctx context.Context, n *node) error {
	if err := n.drainCalls(ctx); err != nil {
		return err
	}
	id := n.nodeID()
	changed, err := r.strikeAll(ctx, id)
	if err != nil {
		return err
	}
	n.giveUpGrant(ctx)
	for _, t := range []struct {
		s      *ledger.Space
		prefix []byte
	}{{r.local, queuePrefix(id, small)}, {r.local, queuePrefix(id, large)}, {r.shared, deadPrefix(id)}, {r.local, grantKey(id)}, {r.local, positionKey(id)}} {
		if err := r.deleteAll(t.s, t.prefix); err != nil {
			return err
		}
	}
	if err := r.dismiss(n); err != nil {
		return err
	}
	for len(changed) > 0 {
		k := min(len(changed), r.keys)
		r.placed(changed[:k])
		changed = changed[k:]
	}
	return nil
}

// dismiss forgets a node of which nothing is left.
func (r *Router) dismiss(n *node) error {
	r.claims.Lock()
	defer r.claims.Unlock()
	_, err := r.local.Update(func(tx *ledger.Tx) error {
		tx.Delete(nameKey(n.name)) // not as a prefix: another name may begin with it
		tx.Delete(holdKey(n.name))
		return nil
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.holds, n.name)
	if n.at.unsure != "" {
		n.at.unsure = ""
		r.unsure.Add(-1)
	}
	n.configured = false
	n.halt()
	r.nodes = slices.DeleteFunc(r.nodes, func(o *node) bool { return o == n })
	if r.byID[n.id] == n {
		r.enter(n.id, nil)
	}
	return nil
}

// drainCalls ends the loops of a node that is leaving and waits for what they have
// under way.
func (n *node) drainCalls(ctx context.Context) error {
	n.r.mu.Lock()
	if n.stop != nil {
		n.stop()
	}
	n.r.mu.Unlock()
	ended := make(chan struct{})
	n.r.mu.Lock()
	n.r.background(func() {
		n.loops.Wait()
		close(ended)
	})
	n.r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, CloseLimit)
	defer cancel()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return n.unavailable("remove node", "calls to it have not come back; try again", ctx.Err())
	}
}

// giveUpGrant releases what is reserved, if the node answers; else it lapses.
func (n *node) giveUpGrant(ctx context.Context) {
	n.r.mu.Lock()
	h, id := n.online(), n.grant.id
	n.r.mu.Unlock()
	if h == nil || id == (store.ReservationID{}) || n.lockGrant(ctx) != nil {
		return
	}
	defer n.unlockGrant()
	if err := n.giveUp(ctx, GrantLimit/4, h, id); err != nil {
		n.r.log.WithField("node", n.name).WithError(err).Info("space on a removed node not released; it lapses")
	}
}

// strikeAll takes a node off all manifests and gives some of those it changed: as many
// as are worth telling of at once.
func (r *Router) strikeAll(ctx context.Context, id store.NodeID) (changed []Manifest, err error) {
	var batch []store.CrateID
	flush := func() error {
		_, err := r.shared.Update(func(tx *ledger.Tx) error {
			for _, c := range batch {
				m, ok, err := manifestTx(tx, c)
				if err != nil {
					return err
				}
				if !ok || !m.without(id) {
					continue
				}
				r.changedTx(tx, &m)
				if len(changed) < MaxTold {
					changed = append(changed, m)
				}
			}
			return nil
		})
		batch = batch[:0]
		return err
	}
	err = r.scan(r.shared, []byte{tableManifest}, func(p ledger.Pair) error {
		m, err := decodeManifest(crateOf(p.Key), p.Value)
		if err != nil || m.Destination(id) == nil {
			return err
		}
		if batch = append(batch, m.Crate); len(batch) < r.keys/2 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return flush()
	})
	if err != nil {
		return changed, err
	}
	return changed, flush()
}

// deleteAll deletes every key with a prefix.
func (r *Router) deleteAll(s *ledger.Space, prefix []byte) error {
	for {
		pairs, err := s.Scan(prefix, after(prefix), r.keys)
		if err != nil || len(pairs) == 0 {
			return err
		}
		_, err = s.Update(func(tx *ledger.Tx) error {
			for _, p := range pairs {
				tx.Delete(p.Key)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}
