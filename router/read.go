package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"stasis/store"
	"stasis/store/ledger"
)

const opRead = "read crate"

// ReadAt fills p from a crate, from off on; io.EOF, with what there was, at its end.
// Any surviving copy serves; a node that fails or dawdles costs a bounded delay, after
// which the next is asked, and the whole at most ReadLimit. NotFound if the crate is not
// registered, or every node that had it says that it has it no more; Corrupt if all have
// it wrong; else Unavailable.
func (r *Router) ReadAt(ctx context.Context, id store.CrateID, p []byte, off int64) (int, error) {
	m, err := r.Manifest(id)
	if err != nil {
		return 0, err
	}
	if off < 0 || off > m.Size {
		return 0, &store.Error{Kind: store.Invalid, Op: opRead, Subject: id.String(), Detail: fmt.Sprintf("at %d of %d bytes", off, m.Size)}
	}
	ctx, cancel := context.WithTimeout(ctx, ReadLimit)
	defer cancel()
	var end error
	if left := m.Size - off; int64(len(p)) > left {
		p, end = p[:left], io.EOF
	}
	n := 0
	for n < len(p) {
		block, in := (off+int64(n))/store.BlockSize, (off+int64(n))%store.BlockSize
		b, err := r.block(ctx, &m, block)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], b[in:])
	}
	return n, end
}

// block gives one block of a crate, verified, which nobody may change.
func (r *Router) block(ctx context.Context, m *Manifest, i int64) ([]byte, error) {
	if r.blocks.inOrder(m.Crate, i) {
		r.readAhead(m, i)
	}
	k := blockKey{m.Crate, i}
	data, f, mine := r.blocks.begin(k)
	switch {
	case data != nil:
		return data, nil
	case mine:
		return r.fetchInto(ctx, m, k, f)
	}
	select {
	case <-f.done:
		if f.err == nil || ctx.Err() != nil || !errors.Is(f.err, context.Canceled) {
			return f.data, f.err
		}
		return r.block(ctx, m, i) // whoever fetched it gave up, we don't
	case <-ctx.Done():
		return nil, &store.Error{Kind: store.Unavailable, Op: opRead, Subject: m.Crate.String(), Err: ctx.Err()}
	}
}

func (r *Router) fetchInto(ctx context.Context, m *Manifest, k blockKey, f *fetching) (data []byte, err error) {
	data, err = r.fetch(ctx, m, k.block, nil)
	r.blocks.end(k, f, data, err)
	return data, err
}

// readAhead fetches the blocks behind i.
func (r *Router) readAhead(m *Manifest, i int64) {
	for j := i + 1; j <= i+ReadAhead && j < store.Blocks(m.Size); j++ {
		k := blockKey{m.Crate, j}
		_, f, mine := r.blocks.begin(k)
		if !mine {
			continue
		}
		r.mu.Lock()
		r.background(func() {
			ctx, cancel := context.WithTimeout(r.ctx, ReadLimit)
			defer cancel()
			_, _ = r.fetchInto(ctx, m, k, f) // whoever reads it finds out
		})
		r.mu.Unlock()
	}
}

// found is what one node answered.
type found struct {
	n    *node
	data []byte
	err  error
}

// fetch gets a block from the nodes, one after the other; one that dawdles is joined by
// the next. not, unless nil, is left out.
func (r *Router) fetch(ctx context.Context, m *Manifest, i int64, not *node) ([]byte, error) {
	var want *store.Digest
	if m.Known(store.Plain) {
		d, err := r.digest(m, i)
		if err != nil {
			return nil, err
		}
		want = &d
	}
	from := r.candidates(m, not)
	answers := make(chan found, len(from))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var errs []error
	asked, open := 0, 0
	hedge := min(HedgeAfter, ReadLimit/time.Duration(len(from)+1))
	askNext := func() {
		if asked < len(from) {
			r.askFor(ctx, from[asked], m, i, want, answers)
			asked++
			open++
		}
	}
	for askNext(); ; {
		if open == 0 {
			return nil, r.unread(m, errs)
		}
		t := time.NewTimer(hedge)
		select {
		case a := <-answers:
			t.Stop()
			open--
			if a.err == nil {
				return a.data, nil
			}
			errs = append(errs, fmt.Errorf("node %q: %w", a.n.name, a.err))
			askNext()
		case <-t.C:
			r.dawdles(from[asked-1].n)
			askNext()
		case <-ctx.Done():
			t.Stop()
			errs = append(errs, ctx.Err())
			return nil, &store.Error{Kind: store.Unavailable, Op: opRead, Subject: m.Crate.String(), Err: errors.Join(errs...)}
		}
	}
}

// candidate is a node to be asked for a block.
type candidate struct {
	n        *node
	h        *handle
	rank     int
	verified bool // the node has said that it has it
}

// candidates orders the nodes that may have a crate: those that answer first, of them
// the local ones, then the slow and the silent.
func (r *Router) candidates(m *Manifest, not *node) []candidate {
	known := m.Known(store.Plain)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Boot()
	var out []candidate
	for _, n := range r.nodes {
		if n == not || n.handle == nil || !n.configured {
			continue
		}
		c := candidate{n: n, h: n.handle}
		d := m.Destination(n.id)
		_, extra := n.extras[m.Crate]
		switch {
		case d != nil && d.State == Verified:
			c.verified = true
		case extra && known:
		case d != nil && d.State == Planned && !known && local(n.spec.Kind):
			// A body may have been adopted just before a crash. Its store has the checksums
			// that the ledger never got.
		case d != nil && d.State == Damaged && known:
			c.rank = 8 // a right block of it is better than none
		default:
			continue
		}
		if !local(n.spec.Kind) {
			c.rank++
		}
		if n.slow > now {
			c.rank += 2
		}
		if n.silent {
			c.rank += 4
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b candidate) int { return a.rank - b.rank })
	return out[:min(len(out), ReadSources)]
}

// askFor asks one node for a block; the answer comes into answers.
func (r *Router) askFor(ctx context.Context, c candidate, m *Manifest, i int64, want *store.Digest, answers chan<- found) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.background(func() {
		data, err := r.askNode(ctx, c, m, i, want)
		if err != nil && c.verified && ctx.Err() == nil {
			r.doubt(c.n, m, err)
		}
		answers <- found{c.n, data, err}
	})
}

func (r *Router) askNode(ctx context.Context, c candidate, m *Manifest, i int64, want *store.Digest) ([]byte, error) {
	data, err := call(ctx, c.n, c.h, ReadLimit, opRead, func(ctx context.Context, st store.Store) ([]byte, error) {
		length := store.BlockLen(m.Size, i)
		rc, err := st.Open(ctx, m.Crate, i*store.BlockSize, length)
		if err != nil {
			return nil, err
		}
		stop := context.AfterFunc(ctx, func() { _ = rc.Close() }) // ends a read that hangs
		defer func() { stop(); _ = rc.Close() }()
		data := make([]byte, length)
		if _, err := io.ReadFull(rc, data); err != nil {
			if store.KindOf(err) == 0 {
				err = &store.Error{Kind: store.Unavailable, Op: opRead, Subject: m.Crate.String(), Detail: "its stream broke off", Err: err}
			}
			return nil, err
		}
		return data, nil
	}, nil)
	if err != nil {
		return nil, err
	}
	if want != nil && store.SumBlock(data) != *want {
		return nil, &store.Error{Kind: store.Corrupt, Op: opRead, Subject: m.Crate.String(), Detail: fmt.Sprintf("block %d is wrong", i)}
	}
	return data, nil
}

// dawdles has a node asked last for a while.
func (r *Router) dawdles(n *node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.slow = r.clock.Boot() + SlowFor
	n.rouse(wakeKeeper)
}

// unread is the error when no node gave a block.
func (r *Router) unread(m *Manifest, errs []error) error {
	missing, wrong := 0, 0
	for _, err := range errs {
		switch store.KindOf(err) {
		case store.NotFound:
			missing++
		case store.Corrupt:
			wrong++
		}
	}
	had := 0
	for _, d := range m.Destinations {
		if d.State == Verified && d.Durable {
			had++
		}
	}
	e := &store.Error{Kind: store.Unavailable, Op: opRead, Subject: m.Crate.String(), Err: errors.Join(errs...)}
	switch {
	case len(errs) == 0 && had > 0:
		e.Detail, e.Hint = "no node that has a copy answers", "see `stasis status`"
	case had == 0:
		e.Detail = "no node has a copy yet"
	case missing == len(errs) && missing >= had:
		e.Kind = store.NotFound
	case missing+wrong == len(errs) && missing+wrong >= had:
		e.Kind = store.Corrupt
	}
	return e
}

// doubt deals with a node that gave a wrong answer about a copy it had verified: the
// copy does not count any more, and is made again.
func (r *Router) doubt(n *node, m *Manifest, err error) {
	k := store.KindOf(err)
	if k != store.NotFound && k != store.Corrupt || r.o.ReadOnly {
		return
	}
	r.log.WithField("node", n.name).WithField("crate", m.Crate).WithError(err).Warn("a copy is damaged; it is made again")
	if err := r.damaged(n, m.Crate); err != nil {
		r.log.WithField("node", n.name).WithField("crate", m.Crate).WithError(err).Error("record a damaged copy")
	}
}

// damaged strikes a copy and queues its repair.
func (r *Router) damaged(n *node, c store.CrateID) error {
	id := n.nodeID()
	r.mu.Lock()
	_, under := n.inFlight[c]
	r.mu.Unlock()
	if under {
		return nil // it is being replaced; another read finds out how that went
	}
	var m Manifest
	struck := false
	_, err := r.shared.Update(func(tx *ledger.Tx) (err error) {
		var ok bool
		struck = false
		if m, ok, err = manifestTx(tx, c); err != nil || !ok {
			return err
		}
		d := m.Destination(id)
		if d == nil || d.State != Verified {
			return nil
		}
		d.State = Damaged
		struck = true
		tx.Put(manifestKey(c), m.encode())
		return nil
	})
	if err != nil || !struck {
		return err
	}
	if err := r.enqueueRepair(n, &m, true); err != nil {
		return err
	}
	n.telling.Lock()
	defer n.telling.Unlock()
	r.o.Observer.Placed([]Manifest{m})
	return nil
}

// enqueueRepair queues a copy that has no space drawn for it.
func (r *Router) enqueueRepair(n *node, m *Manifest, repair bool) error {
	id := n.nodeID()
	e := entry{size: m.Size, charge: store.Charge(m.Size), queued: r.clock.Now(), repair: repair}
	k := classOf(m.Size)
	fresh := false
	_, err := r.local.Update(func(tx *ledger.Tx) error {
		_, ok, err := tx.Get(queueKey(id, k, m.Crate))
		if err != nil {
			return err
		}
		if fresh = !ok; fresh {
			tx.Put(queueKey(id, k, m.Crate), e.encode())
		}
		return nil
	})
	if err != nil || !fresh {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n.count(k, e, 1)
	n.rouse(k)
	return nil
}
