package router

import (
	"context"
	"io"
	"slices"

	"stasis/store"
	"stasis/store/ledger"
)

// recount asks a node again where it has put a crate that it passed on; the zero id means all
// it has. It goes on in the background, one crate after the other, and where the node stops
// answering when it is back.
func (n *node) recount(h *handle, id store.CrateID) {
	r := n.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if id.IsZero() || len(n.uncounted) >= MaxRecounts {
		n.uncounted, n.countAll = nil, true
	} else if !n.countAll {
		n.uncounted = append(n.uncounted, id)
	}
	n.goOnCounting(h)
}

// goOnCounting begins what is to be counted, unless that is under way. Called with mu held.
func (n *node) goOnCounting(h *handle) {
	r := n.r
	if n.counting == h || len(n.uncounted) == 0 && !n.countAll {
		return
	}
	n.counting = h
	r.background(func() {
		ctx, cancel := context.WithCancel(r.ctx)
		defer cancel()
		defer context.AfterFunc(h.ctx, cancel)()
		for n.countNext(ctx, h) {
		}
	})
}

// countNext does what there is to do; false: nothing is left, or the node is gone.
func (n *node) countNext(ctx context.Context, h *handle) bool {
	r := n.r
	r.mu.Lock()
	ids, all := n.uncounted, n.countAll
	if n.counting != h || len(ids) == 0 && !all || ctx.Err() != nil {
		if n.counting == h {
			n.counting = nil
		}
		r.mu.Unlock()
		return false
	}
	n.uncounted, n.countAll = nil, false
	r.mu.Unlock()
	var err error
	if all {
		if err = ctx.Err(); n.await(h, &n.counts) {
			err = n.countEach(ctx, h)
		}
	}
	for err == nil && len(ids) > 0 {
		if err = n.count1(ctx, h, ids[0]); err == nil {
			ids = ids[1:]
		}
	}
	if err == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.counting == h {
		n.counting = nil
	}
	n.countAll = n.countAll || all
	if n.uncounted = append(n.uncounted, ids...); n.countAll || len(n.uncounted) > MaxRecounts {
		n.uncounted, n.countAll = nil, true
	}
	r.log.WithField("node", n.name).WithError(err).Debug("counting the copies behind the node goes on later")
	return false
}

// countEach asks after every crate that the node may have passed on: those of which it has
// told leaves and, where it says that it passes crates on, the others.
func (n *node) countEach(ctx context.Context, h *handle) error {
	id := n.nodeID()
	return n.r.scan(n.r.shared, []byte{tableManifest}, func(p ledger.Pair) error {
		m, err := decodeManifest(crateOf(p.Key), p.Value)
		d := m.Destination(id)
		if err != nil || d == nil || d.State != Verified || len(d.Leaves) == 0 && !n.passesOn() {
			return ctx.Err()
		}
		return n.count1(ctx, h, m.Crate)
	})
}

// passesOn reports whether the node says that it passes crates on.
func (n *node) passesOn() bool {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	return n.status.Leaves > 0
}

// asked is the source of a put that only asks for the receipts of what is there.
type asked struct{}

// OpenAt is store.Source's.
func (asked) OpenAt(context.Context, int64) (io.ReadCloser, error) {
	return nil, &store.Error{Kind: store.NotFound, Op: "ask for a receipt", Detail: "the node does not have the crate right any more"}
}

// count1 asks for the receipts of one crate, which costs no bytes, and records what they say.
// The error is that the node does not answer.
func (n *node) count1(ctx context.Context, h *handle, id store.CrateID) error {
	r := n.r
	node := n.nodeID()
	m, ok, err := r.manifest(id)
	d := m.Destination(node)
	if err != nil || !ok || d == nil || d.State != Verified || !m.Known(store.Plain) {
		return ctx.Err()
	}
	r.mu.Lock()
	grant, leaves := n.grant.id, n.grant.leaves
	r.mu.Unlock()
	root := m.form(store.Plain).Root
	receipts, err := call(ctx, n, h, VerifyLimit, "ask for receipts", func(ctx context.Context, st store.Store) ([]store.Receipt, error) {
		over := n.changing()
		receipts, err := st.Put(ctx, store.PutRequest{Reservation: grant, Crate: id, Size: m.Size, Expect: &root, Source: asked{}})
		over(err)
		return receipts, err
	}, nil)
	if silentError(err) {
		return err
	}
	j := job{crate: id, entry: entry{size: m.Size}, m: m}
	j.take(node, false, leaves, store.PutResult{Receipts: receipts, Err: err})
	if err = j.err; j.lied {
		n.lied(err)
		err = &store.Error{Kind: store.Corrupt, Op: "ask for receipts", Subject: id.String(), Err: err}
	} else if err != nil && j.elsewhere {
		// It has moved what it was given to a place that it has not named yet.
		n.stray(id)
		return nil
	}
	if err != nil {
		r.doubt(n, &m, err)
		return ctx.Err()
	}
	return n.recordLeaves(id, j.receipts)
}

// recordLeaves takes receipts into the manifest of a crate of which the node had some.
func (n *node) recordLeaves(id store.CrateID, receipts []store.Receipt) error {
	r := n.r
	node, durable := n.whoDurable()
	var m Manifest
	changed := false
	_, err := r.shared.Update(func(tx *ledger.Tx) error {
		now, ok, err := manifestTx(tx, id)
		changed = false
		if err != nil || !ok {
			return err
		}
		d := now.Destination(node)
		if d == nil || d.State != Verified {
			return nil
		}
		before := slices.Clone(d.Leaves)
		now.accept(d, receipts, durable)
		if slices.EqualFunc(before, d.Leaves, func(a, b Leaf) bool { return a.ID == b.ID }) {
			return nil
		}
		changed, m = true, now
		r.changedTx(tx, &m)
		return nil
	})
	if err != nil || !changed {
		return err
	}
	n.telling.Lock()
	defer n.telling.Unlock()
	r.placed([]Manifest{m})
	return nil
}
