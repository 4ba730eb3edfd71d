package router

import (
	"slices"

	"stasis/store"
	"stasis/store/ledger"
)

// Added is what one EnqueueTx put into the queues, for Handover.
type Added struct {
	crate   store.CrateID
	class   class
	entries []addedEntry
}

type addedEntry struct {
	node store.NodeID
	entry
}

// RegisterTx records the manifest of a new crate in a transaction of the shared
// space: one key. Nothing is sent before EnqueueTx.
func (r *Router) RegisterTx(tx *ledger.Tx, c NewCrate) error {
	if c.ID.IsZero() || c.Size <= 0 || c.Size > store.MaxCrate || len(c.Plan.Targets) > MaxDestinations || len(c.Barred) > MaxBarred {
		return &store.Error{Kind: store.Invalid, Op: "register crate", Subject: c.ID.String()}
	}
	m := Manifest{Crate: c.ID, Size: c.Size, Origin: c.Origin, Source: c.Source, Created: r.clock.Now(), Wanted: c.Plan.Wanted,
		Forms: []FormInfo{{Form: store.Plain, Size: c.Size}}, Barred: c.Barred}
	m.Destinations = make([]Destination, 0, len(c.Plan.Targets))
	for _, t := range c.Plan.Targets {
		if durable, known := r.knows(t.Node); known {
			m.Destinations = append(m.Destinations, Destination{Node: t.Node, Form: store.Plain, Durable: durable})
		}
	}
	tx.Put(manifestKey(c.ID), m.encode())
	return nil
}

// knows reports whether a node is one of the vault's still, and what it is.
func (r *Router) knows(id store.NodeID) (durable, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.byID[id]
	return n != nil && n.durable(), n != nil
}

// EnqueueTx puts a crate that was registered into the queues of its nodes, in a
// transaction of the local space: one key a target. A repeat for what is queued
// already changes nothing.
func (r *Router) EnqueueTx(tx *ledger.Tx, id store.CrateID, size int64, plan Plan) (Added, error) {
	a := Added{crate: id, class: classOf(size), entries: make([]addedEntry, 0, len(plan.Targets))}
	e := entry{size: size, charge: store.Charge(size), queued: r.clock.Now()}
	for _, t := range plan.Targets {
		if _, known := r.knows(t.Node); !known {
			continue
		}
		k := queueKey(t.Node, a.class, id)
		_, ok, err := tx.Get(k)
		if err != nil {
			return Added{}, err
		}
		if ok {
			continue // counted when it was read from the ledger
		}
		e.reserved = t.Reserved
		e.resident = t.Reserved && t.Resident > 0 && a.class == large
		tx.Put(k, e.encode())
		a.entries = append(a.entries, addedEntry{t.Node, e})
	}
	return a, nil
}

// Handover is called once for a plan, when all crates of its content are enqueued and
// committed: what the plan held is the queues' from then on.
func (r *Router) Handover(p Plan, added ...Added) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.giveBack(p)
	var last *node
	for i := range added {
		a := &added[i]
		for k := range a.entries {
			e := &a.entries[k]
			n := last
			if n == nil || n.id != e.node {
				n = r.byID[e.node]
			}
			if n == nil {
				continue
			}
			n.count(a.class, e.entry, 1)
			n.rouse(a.class)
			last = n
		}
	}
}

// DeadTx records in a transaction of the shared space that a crate is not needed any
// more: it is discarded wherever it was ever meant for. false, with nothing done, if that takes
// more keys than room, of which DeadKeys are always enough. Kick, after the commit, has it done
// soon.
func (r *Router) DeadTx(tx *ledger.Tx, id store.CrateID, room int) (done bool, err error) {
	m, ok, err := manifestTx(tx, id)
	if err != nil || !ok {
		return err == nil, err
	}
	if 2+len(m.Destinations) > room {
		return false, nil
	}
	tx.Delete(manifestKey(id))
	if slices.ContainsFunc(m.Forms, func(f FormInfo) bool { return f.Size > store.BlockSize }) {
		tx.Put(sweepKey(id), encodeTime(deadVersion, r.clock.Now()))
	}
	for _, d := range m.Destinations {
		tx.Put(deadKey(d.Node, id), encodeTime(deadVersion, r.clock.Now()))
	}
	return true, nil
}

// manifestTx reads a manifest in a transaction.
func manifestTx(tx *ledger.Tx, id store.CrateID) (Manifest, bool, error) {
	v, ok, err := tx.Get(manifestKey(id))
	if err != nil || !ok {
		return Manifest{}, false, err
	}
	m, err := decodeManifest(id, v)
	return m, err == nil, err
}

// CopiesTx is Manifest.Copies of a crate as a transaction of the shared space sees it; 0 if there
// is no such crate.
func (r *Router) CopiesTx(tx *ledger.Tx, id store.CrateID) (int, error) {
	m, ok, err := manifestTx(tx, id)
	if err != nil || !ok {
		return 0, err
	}
	r.mark(&m)
	return m.Copies(), nil
}

// manifest reads a manifest; ok is false if there is none.
func (r *Router) manifest(id store.CrateID) (m Manifest, ok bool, err error) {
	v, ok, err := r.shared.Get(manifestKey(id))
	if err != nil || !ok {
		return Manifest{}, false, err
	}
	m, err = decodeManifest(id, v)
	r.mark(&m)
	return m, err == nil, err
}

// Manifest gives what is recorded of a crate; NotFound if it was never registered or
// is dead.
func (r *Router) Manifest(id store.CrateID) (Manifest, error) {
	m, ok, err := r.manifest(id)
	if err == nil && !ok {
		err = &store.Error{Kind: store.NotFound, Op: "find the manifest of crate", Subject: id.String()}
	}
	return m, err
}
