package router

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"stasis/store"
	"stasis/store/ledger"
)

// loadNodes makes a node of every record, with its grant and the counts of its
// queue. They are configured later, or not.
func (r *Router) loadNodes() error {
	err := r.scan(r.local, []byte{tableName}, func(p ledger.Pair) error {
		rec, err := decodeNode(p.Value)
		if err != nil {
			return err
		}
		n := newNode(r, string(p.Key[1:]))
		n.id, n.record, n.seen, n.recorded = rec.id, rec, rec.seen, rec.seen
		n.status = store.Status{Leaf: rec.id, Durable: rec.durable, Capacity: rec.cap, Used: rec.used, Crates: rec.crates, Free: rec.free}
		r.nodes = append(r.nodes, n)
		r.enter(rec.id, n)
		return nil
	})
	if err != nil {
		return err
	}
	for _, n := range r.nodes {
		if err := r.loadNode(n); err != nil {
			return err
		}
	}
	return nil
}

// loadNode reads what the ledger holds under a node's id. Nobody else uses the node
// yet.
func (r *Router) loadNode(n *node) error {
	if err := n.loadPosition(); err != nil {
		return err
	}
	v, ok, err := r.local.Get(grantKey(n.id))
	if err != nil {
		return err
	}
	if ok {
		g, err := decodeGrant(v)
		if err != nil {
			return err
		}
		n.grant.id, n.grant.bytes, n.grant.noted = g.id, g.bytes, g.bytes
	}
	for k := range classes {
		err := r.scan(r.local, queuePrefix(n.id, k), func(p ledger.Pair) error {
			e, err := decodeEntry(p.Value)
			if err == nil {
				n.count(k, e, 1)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// count adds an entry to the figures, times +1 or -1. Called with mu held.
func (n *node) count(k class, e entry, times int64) {
	n.queue[k].crates += times
	n.queue[k].bytes += times * e.size
	if e.reserved {
		n.grant.promised += times * e.charge
	}
	if e.resident {
		n.grant.resident += times * e.charge
	}
	if times > 0 && (n.oldest.IsZero() || e.queued.Before(n.oldest)) {
		n.oldest = e.queued
	}
	if n.queue[small].crates+n.queue[large].crates == 0 {
		n.oldest = time.Time{}
	}
}

// scan goes through all pairs with a prefix, a bounded number at a time.
func (r *Router) scan(s *ledger.Space, prefix []byte, f func(ledger.Pair) error) error {
	from, to := prefix, after(prefix)
	for {
		pairs, err := s.Scan(from, to, ledger.MaxScan)
		if err != nil {
			return err
		}
		for _, p := range pairs {
			if err := f(p); err != nil {
				return err
			}
		}
		if len(pairs) < ledger.MaxScan {
			return nil
		}
		from = next(pairs[len(pairs)-1].Key)
	}
}

// mint makes the token of this start and reads those before it, the latest last.
func (r *Router) mint() error {
	type minted struct {
		store.Token
		at int64
	}
	var all []minted
	err := r.scan(r.local, []byte{tableToken}, func(p ledger.Pair) error {
		in := reader{b: p.Value}
		in.version(tokenVersion)
		all = append(all, minted{store.Token(p.Key[1:]), in.varint()})
		return in.end("read a token")
	})
	slices.SortStableFunc(all, func(a, b minted) int { return cmp.Compare(a.at, b.at) })
	r.tokens = append(r.tokens, r.o.Tokens...)
	for _, t := range all {
		r.tokens = append(r.tokens, t.Token)
	}
	if err != nil || r.o.ReadOnly {
		return err
	}
	r.token = store.NewToken()
	_, err = r.local.Update(func(tx *ledger.Tx) error {
		tx.Put(tokenKey(r.token), encodeTime(tokenVersion, r.clock.Now()))
		return nil
	})
	r.tokens = append(r.tokens, r.token)
	return err
}

// claim makes leaf the identity of a node that was just opened. Conflict if another
// node leads to it.
func (r *Router) claim(n *node, leaf store.NodeID) error {
	r.claims.Lock()
	defer r.claims.Unlock()
	r.mu.Lock()
	other, wanted := r.byID[leaf], slices.Contains(r.nodes, n)
	var err error
	switch {
	case other == n:
	case !wanted:
		err = n.unavailable("open", "it was taken out meanwhile", nil)
	case other != nil && other.leaving:
		err = n.unavailable("open", fmt.Sprintf("node %q, which led to the same store, is being removed", other.name), nil)
	case other != nil && other.configured:
		err = n.sameStore(other)
	}
	r.mu.Unlock()
	switch {
	case err != nil || other == n:
		return err
	case other == nil:
		return r.welcome(n, leaf)
	}
	// The person gave the node another name in the configuration: it is the same place,
	// and what waits for it is this node's now.
	if err := r.refile(other.name, n.name); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n.succeed(other)
	n.formerly = other
	return nil
}

// sameStore is the answer where two nodes say that they are one store. What one on another machine
// says proves nothing. Called with mu held.
func (n *node) sameStore(other *node) error {
	hint := "a second way to one place is no second copy: remove one of them"
	switch near := local(n.spec.Kind); {
	case near && local(other.spec.Kind):
	case near:
		hint += fmt.Sprintf("; if they are two places, node %q lies about which store it is: it is the one to remove", other.name)
	case local(other.spec.Kind):
		hint += fmt.Sprintf("; if they are two places, node %q lies about which store it is: it is the one to remove", n.name)
	default:
		hint += fmt.Sprintf("; if they are two places, one of them lies about which store it is, and that node %q was there first proves nothing", other.name)
	}
	return &store.Error{Kind: store.Conflict, Op: "open node", Subject: fmt.Sprintf("%q", n.name),
		Detail: fmt.Sprintf("it leads to the same store as node %q", other.name), Hint: hint}
}

// refile moves the record of a node to another name, in one update: at no time is there none. A node
// that was never heard has none.
func (r *Router) refile(from, to string) error {
	if r.o.ReadOnly {
		return nil
	}
	_, err := r.local.Update(func(tx *ledger.Tx) error {
		v, ok, err := tx.Get(nameKey(from))
		if err != nil || !ok {
			return err
		}
		tx.Put(nameKey(to), slices.Clone(v))
		tx.Delete(nameKey(from))
		return nil
	})
	return err
}

// succeed makes n the node of the place that other led to. Called with mu held.
func (n *node) succeed(other *node) {
	r := n.r
	n.id = other.id
	n.grant, n.queue, n.oldest, n.record = other.grant, other.queue, other.oldest, other.record
	n.at.inherit(&other.at)
	r.enter(n.id, n)
	r.nodes = slices.DeleteFunc(r.nodes, func(m *node) bool { return m == other })
}

// withdraw takes a node out that could not be added. The one that led to its store before does so
// again, unless its name has been given away meanwhile: then the place keeps the new one.
func (r *Router) withdraw(n *node) error {
	r.claims.Lock()
	defer r.claims.Unlock()
	r.mu.Lock()
	n.halt()
	other := n.formerly
	n.formerly = nil
	switch {
	case other == nil:
		if n.at.unsure != "" {
			r.unsure.Add(-1)
		}
		r.nodes = slices.DeleteFunc(r.nodes, func(m *node) bool { return m == n })
		if r.byID[n.id] == n {
			r.enter(n.id, nil)
		}
	case r.named(other.name) != nil:
		n.configured, other = false, nil
	default:
		r.nodes = append(r.nodes, other)
		other.succeed(n)
	}
	r.mu.Unlock()
	if other == nil {
		return nil
	}
	return r.refile(n.name, other.name)
}

// welcome makes leaf, which no record names, the identity of a node. The ledger may
// hold something for it all the same, if it was restored from a backup.
func (r *Router) welcome(n *node, leaf store.NodeID) error {
	found := newNode(r, n.name)
	found.id = leaf
	if err := r.loadNode(found); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n.id = leaf
	n.grant, n.queue, n.oldest, n.at = found.grant, found.queue, found.oldest, found.at
	r.enter(leaf, n)
	return nil
}

func (r *Router) recordNode(name string, rec nodeRecord) error {
	_, err := r.local.Update(func(tx *ledger.Tx) error {
		tx.Put(nameKey(name), rec.encode())
		return nil
	})
	return err
}

func (r *Router) recordGrant(id store.NodeID, g grantRecord) error {
	_, err := r.local.Update(func(tx *ledger.Tx) error {
		tx.Put(grantKey(id), g.encode())
		return nil
	})
	return err
}

func (r *Router) forgetGrant(id store.NodeID) error {
	_, err := r.local.Update(func(tx *ledger.Tx) error {
		tx.Delete(grantKey(id))
		return nil
	})
	return err
}

// AddNode adds a node beside those that are configured and opens it at once. id is
// that of the store it must lead to. Conflict if the name is taken or another node
// leads to the same store, Denied if the store is another vault's; nothing is added
// then.
func (r *Router) AddNode(ctx context.Context, spec NodeSpec, id store.NodeID) error {
	if spec.Name == "" || spec.Open == nil {
		return &store.Error{Kind: store.Invalid, Op: "add node", Detail: "it has no name or can't be opened"}
	}
	r.mu.Lock()
	switch other := r.byID[id]; {
	case r.closed || !r.started:
		r.mu.Unlock()
		return errClosed("add node")
	case r.named(spec.Name) != nil:
		r.mu.Unlock()
		return nameTaken(spec.Name)
	case other != nil && !id.IsZero():
		r.mu.Unlock()
		return &store.Error{Kind: store.Conflict, Op: "add node", Subject: fmt.Sprintf("%q", spec.Name),
			Detail: fmt.Sprintf("node %q leads to this store already", other.name), Hint: "a second way to one place is no second copy"}
	}
	n := newNode(r, spec.Name)
	n.spec, n.configured = spec, true
	r.nodes = append(r.nodes, n)
	r.mu.Unlock()

	if err := n.first(ctx, id); err != nil {
		if undo := r.withdraw(n); undo != nil {
			r.log.WithField("node", n.name).WithError(undo).Error("give a node its former name back; it keeps this one")
		}
		return err
	}
	r.mu.Lock()
	n.begin(r.ctx)
	r.askAgain(n)
	r.mu.Unlock()
	r.o.Observer.NodesChanged()
	return nil
}

// first opens a node that is being added, and records it.
func (n *node) first(ctx context.Context, id store.NodeID) error {
	r := n.r
	r.mu.Lock()
	spec := n.spec
	into := make(chan opened, 1)
	r.background(func() { into <- n.tryOpen(ctx, spec, id) })
	r.mu.Unlock()
	t := time.NewTimer(OpenLimit)
	defer t.Stop()
	var o opened
	select {
	case o = <-into:
	case <-t.C:
		n.opening = into
		n.abandonOpening()
		return n.unavailable("open", "no answer within "+OpenLimit.String(), nil)
	case <-ctx.Done():
		n.opening = into
		n.abandonOpening()
		return n.unavailable("open", "", ctx.Err())
	}
	if o.err != nil {
		return o.err
	}
	n.accept(o)
	if err := n.heard(o.s, n.vantage()); err != nil {
		return err
	}
	_ = n.tend(ctx) // it is logged, and tended again soon
	return nil
}
