package router

import (
	"bytes"
	"context"
	"slices"
	"time"

	"stasis/store"
	"stasis/store/ledger"
)

// What a store over a router needs beside what a vault does; see package depot.

// Via says that what is kept here goes on in the name of self, a store that peers know as a
// node: they are told, so that nothing comes back from the next one. It is all that they are
// told for the space that is held for everybody; what single crates have come through is the
// matter of whoever puts them.
func (r *Router) Via(self store.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if self == r.self {
		return
	}
	r.self = self
	r.askAgain(nil)
}

// Local reports whether nodes of a kind lie on this machine.
func Local(kind string) bool { return local(kind) }

// askAgain has the grants of all peers but one asked for again, as the terms have changed.
// Called with mu held.
func (r *Router) askAgain(but *node) {
	for _, n := range r.nodes {
		if n != but && n.configured && !local(n.spec.Kind) {
			n.grant.synced = false
			n.rouse(wakeKeeper)
		}
	}
}

// Peers are the ids of the nodes that are peers.
func (r *Router) Peers() []store.NodeID {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []store.NodeID
	for _, n := range r.nodes {
		if n.configured && !n.id.IsZero() && !local(n.spec.Kind) {
			ids = append(ids, n.id)
		}
	}
	return ids
}

// Zone is that of a node, as it is configured.
func (r *Router) Zone(id store.NodeID) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.byID[id]; n != nil {
		return n.spec.Zone
	}
	return ""
}

// Awaited is how many copies of a crate may yet come soon: those planned on nodes that
// answer, and those whose receipt is in but whose space is not settled yet.
func (r *Router) Awaited(m *Manifest) (int, error) {
	awaited := 0
	for _, d := range m.Destinations {
		if r.sends(d.Node) == nil {
			continue
		}
		if d.State == Verified {
			_, queued, err := r.local.Get(queueKey(d.Node, classOf(m.Size), m.Crate))
			if err != nil {
				return 0, err
			}
			if !queued {
				continue
			}
		}
		awaited++
	}
	return awaited, nil
}

// sends gives a node that answers and is sent to; nil if it is none.
func (r *Router) sends(id store.NodeID) *node {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.byID[id]; n != nil && n.online() != nil && n.configured && !n.leaving {
		return n
	}
	return nil
}

// Adopting has the first node of a plan that adopts bodies take this one over: what is
// promised for it lies on the node's filesystem already. It is for a plan of one large crate,
// before it is handed over or given back.
func (r *Router) Adopting(p *Plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range p.Targets {
		t := &p.Targets[i]
		n := r.byID[t.Node]
		if n == nil || !t.Reserved {
			continue
		}
		if h := n.online(); h != nil && h.adopts {
			n.grant.resident += t.Bytes - t.Resident
			t.Resident = t.Bytes
			return
		}
	}
}

// Adopts reports whether a node of a plan adopts bodies, and has promised its part.
func (r *Router) Adopts(p Plan) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(p.Targets, func(t Target) bool {
		n := r.byID[t.Node]
		if n == nil || !t.Reserved {
			return false
		}
		h := n.online()
		return h != nil && h.adopts
	})
}

// Checksums gives those of a crate of which a receipt is in.
func (r *Router) Checksums(m *Manifest) (store.Checksums, error) { return r.sums(m) }

// Manifests gives the manifests behind a crate id in the order of their ids, most at a time;
// the zero id is before all of them.
func (r *Router) Manifests(behind store.CrateID, most int) ([]Manifest, error) {
	from := []byte{tableManifest}
	if !behind.IsZero() {
		from = next(manifestKey(behind))
	}
	pairs, err := r.shared.Scan(from, after([]byte{tableManifest}), most)
	if err != nil {
		return nil, err
	}
	out := make([]Manifest, len(pairs))
	for i, p := range pairs {
		if out[i], err = decodeManifest(crateOf(p.Key), p.Value); err != nil {
			return nil, err
		}
		r.mark(&out[i])
	}
	return out, nil
}

// AgainTx is RegisterTx for a crate whose id may have stood for the same bytes before, and have
// been forgotten: what was still to be discarded on the nodes of its plan is to be kept. It
// writes a key more for each node.
func (r *Router) AgainTx(tx *ledger.Tx, c NewCrate) error {
	for _, t := range c.Plan.Targets {
		tx.Delete(deadKey(t.Node, c.ID))
	}
	return r.RegisterTx(tx, c)
}

// Forget makes a crate dead, durably, and has it discarded at once on the nodes that answer.
// What they don't do in time is done later, unasked.
func (r *Router) Forget(ctx context.Context, id store.CrateID) error {
	var m Manifest
	_, err := r.shared.Update(func(tx *ledger.Tx) (err error) {
		var there bool
		if m, there, err = manifestTx(tx, id); err != nil || !there {
			return err
		}
		_, err = r.DeadTx(tx, id, DeadKeys)
		return err
	})
	if err != nil {
		return err
	}
	if err := r.o.Ledger.Sync(ctx, r.o.Ledger.Position()); err != nil {
		return err
	}
	if m.Size > store.BlockSize {
		// The id may come back, with checksums of its own.
		if err := r.sweepOne(id); err != nil {
			return err
		}
	}
	end := time.Now().Add(ForgetWait)
	for _, d := range m.Destinations {
		if err := r.unqueue(d.Node, id, m.Size); err != nil {
			return err
		}
		r.discardSoon(ctx, d.Node, id, end)
	}
	return ctx.Err()
}

// unqueue takes a dead crate out of a node's queue, and what kept it from going there: its id
// may come back.
func (r *Router) unqueue(node store.NodeID, id store.CrateID, size int64) error {
	k := queueKey(node, classOf(size), id)
	var e entry
	queued := false
	_, err := r.local.Update(func(tx *ledger.Tx) error {
		v, there, err := tx.Get(k)
		if queued = there; err != nil || !there {
			return err
		}
		tx.Delete(k)
		e, err = decodeEntry(v)
		return err
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.byID[node]; n != nil {
		if queued {
			n.count(classOf(size), e, -1)
		}
		delete(n.failing, id)
	}
	return nil
}

// discardSoon has a node discard a dead crate, if it answers and is done by end with what it
// may be doing with the crate.
func (r *Router) discardSoon(ctx context.Context, node store.NodeID, id store.CrateID, end time.Time) {
	k := deadKey(node, id)
	for ctx.Err() == nil {
		v, dead, err := r.shared.Get(k)
		if err != nil || !dead {
			return // it was done meanwhile
		}
		n := r.sends(node)
		if n == nil {
			return
		}
		p := ledger.Pair{Key: bytes.Clone(k), Value: bytes.Clone(v)}
		// An error has its pause at the node; the discarder goes on then.
		if gone, _ := n.discardOne(ctx, id, func() (bool, error) { return r.unchanged(p) }); gone {
			if err := r.forgetDead([]ledger.Pair{p}); err != nil {
				r.log.WithError(err).Warn("a discard that was done is not noted, and is done again")
			}
			n.roomier()
			return
		}
		if time.Now().After(end) {
			n.rouse(wakeDiscard)
			return
		}
		t := time.NewTimer(ForgetPause)
		select {
		case <-ctx.Done():
			t.Stop()
		case <-t.C:
		}
	}
}

// Prove has every copy of a crate that can be reached read from its medium and gives the
// proof for a range: BLAKE3, keyed with the nonce, over the bytes. A copy that can't give it
// is made again. Corrupt or NotFound if none can.
func (r *Router) Prove(ctx context.Context, id store.CrateID, offset, length int64, nonce store.Digest) (store.Digest, error) {
	m, err := r.Manifest(id)
	if err != nil {
		return store.Digest{}, err
	}
	var proof *store.Digest
	var errs []error
	// The near ones come first: what they prove the others have to.
	for _, c := range r.candidates(&m, nil) {
		if d := m.Destination(c.n.nodeID()); d == nil || d.State == Planned {
			continue
		}
		got, err := call(ctx, c.n, c.h, VerifyLimit+sendLimit(length, 0), "verify crate", func(ctx context.Context, st store.Store) (store.Digest, error) {
			return st.Verify(ctx, id, offset, length, nonce)
		}, nil)
		if err == nil && proof != nil && got != *proof {
			err = &store.Error{Kind: store.Corrupt, Op: "verify crate", Subject: id.String(), Detail: "the node could not prove that it has it"}
		}
		if err != nil {
			errs = append(errs, err)
			if ctx.Err() == nil && c.verified {
				r.doubt(c.n, &m, err)
			}
			continue
		}
		if proof == nil {
			proof = &got
		}
	}
	if proof == nil {
		return store.Digest{}, r.unread(&m, errs)
	}
	return *proof, nil
}

// Found records a crate that a leaf has, by its receipt, where nothing is recorded of it.
func (r *Router) Found(id store.CrateID, origin uint64, rc store.Receipt, wanted int) error {
	m := Manifest{Crate: id, Size: rc.Sums.Size, Origin: origin, Created: r.clock.Now(), Wanted: wanted,
		Forms: []FormInfo{{Form: store.Plain, Size: rc.Sums.Size}}, Destinations: []Destination{{Node: rc.Leaf}}}
	m.accept(&m.Destinations[0], []store.Receipt{rc}, true)
	if m.Size > store.BlockSize {
		if err := r.recordSums(id, rc.Sums); err != nil {
			return err
		}
	}
	_, err := r.shared.Update(func(tx *ledger.Tx) error {
		tx.Put(manifestKey(id), m.encode())
		return nil
	})
	return err
}
