package router

import (
	"context"
	"io"
	"slices"

	"stasis/store"
	"stasis/store/ledger"
)

// recount asks a node again where it has put a crate that it passed on; the zero id means all
// it has. It goes on in the background, one crate after the other.
func (n *node) recount(h *handle, id store.CrateID) {
	r := n.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if id.IsZero() || len(n.uncounted) >= MaxRecounts {
		n.uncounted, n.countAll = nil, true
	} else if !n.countAll {
		n.uncounted = append(n.uncounted, id)
	}
	if n.counting {
		return
	}
	n.counting = true
	r.background(func() {
		ctx, cancel := context.WithCancel(r.ctx)
		defer cancel()
		defer context.AfterFunc(h.ctx, cancel)()
		for n.countNext(ctx, h) {
		}
	})
}

// countNext does what there is to do; false: nothing is left.
func (n *node) countNext(ctx context.Context, h *handle) bool {
	n.r.mu.Lock()
	ids, all := n.uncounted, n.countAll
	n.uncounted, n.countAll = nil, false
	if len(ids) == 0 && !all || ctx.Err() != nil {
		n.counting = false
		n.r.mu.Unlock()
		return false
	}
	n.r.mu.Unlock()
	if !all {
		for _, id := range ids {
			n.count1(ctx, h, id)
		}
		return true
	}
	err := n.r.scan(n.r.shared, []byte{tableManifest}, func(p ledger.Pair) error {
		m, err := decodeManifest(crateOf(p.Key), p.Value)
		if d := m.Destination(n.nodeID()); err == nil && d != nil && len(d.Leaves) > 0 {
			n.count1(ctx, h, m.Crate)
		}
		return ctx.Err()
	})
	if err != nil && ctx.Err() == nil {
		n.r.log.WithField("node", n.name).WithError(err).Warn("count the copies behind a node")
	}
	return true
}

// asked is the source of a put that only asks for the receipts of what is there.
type asked struct{}

// OpenAt is store.Source's.
func (asked) OpenAt(context.Context, int64) (io.ReadCloser, error) {
	return nil, &store.Error{Kind: store.Unavailable, Op: "ask for a receipt", Detail: "the node does not have the crate any more"}
}

// count1 asks for the receipts of one crate, which costs no bytes, and records what they say.
func (n *node) count1(ctx context.Context, h *handle, id store.CrateID) {
	r := n.r
	node := n.nodeID()
	m, ok, err := r.manifest(id)
	d := m.Destination(node)
	if err != nil || !ok || d == nil || d.State != Verified || !m.Known(store.Plain) {
		return
	}
	r.mu.Lock()
	grant := n.grant.id
	r.mu.Unlock()
	root := m.form(store.Plain).Root
	receipts, err := call(ctx, n, h, VerifyLimit, "ask for receipts", func(ctx context.Context, st store.Store) ([]store.Receipt, error) {
		return st.Put(ctx, store.PutRequest{Reservation: grant, Crate: id, Size: m.Size, Expect: &root, Source: asked{}})
	}, nil)
	j := job{crate: id, entry: entry{size: m.Size}}
	if err == nil {
		j.take(node, false, store.PutResult{Receipts: receipts})
		err = j.err
	}
	if err == nil && j.receipts[0].Sums.Root() != root {
		err = &store.Error{Kind: store.Corrupt, Op: "ask for receipts", Subject: id.String(), Detail: "they are of other bytes"}
	}
	if err != nil {
		r.doubt(n, &m, err)
		return
	}
	changed := false
	_, durable := n.whoDurable()
	_, err = r.shared.Update(func(tx *ledger.Tx) error {
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
		now.accept(d, j.receipts, durable)
		if slices.EqualFunc(before, d.Leaves, func(a, b Leaf) bool { return a.ID == b.ID }) {
			return nil
		}
		changed, m = true, now
		tx.Put(manifestKey(id), now.encode())
		return nil
	})
	if err != nil || !changed {
		return
	}
	n.telling.Lock()
	defer n.telling.Unlock()
	r.o.Observer.Placed([]Manifest{m})
}
