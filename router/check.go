package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"stasis/store"
	"stasis/store/ledger"
)

// Finding is one thing that a check came across.
type Finding struct {
	// Problem: the ledger and a node do not agree, or something is lost. Otherwise it is
	// a note.
	Problem bool
	Crate   store.CrateID // zero if it is not about one
	Node    string        // empty if it is not about one
	Text    string        // a sentence
}

// Checked counts what a check went through.
type Checked struct {
	Crates   int64 // manifests
	Copies   int64 // copies on nodes that were found to be there
	Bytes    int64 // of them, read and verified
	Problems int64
	Orphans  int64 // crates on nodes that the ledger does not know
	Away     int64 // copies on nodes that did not answer
}

// Check compares the ledger with every node that answers. With read it has each copy
// read from its medium and verified; a peer has to prove that it did. A copy that is missing or wrong is reported, and
// made again; a crate the ledger does not know is reported, and left alone. report is called
// from one goroutine. The error says that the check could not be made.
func (r *Router) Check(ctx context.Context, read bool, report func(Finding)) (Checked, error) {
	c := checker{r: r, read: read}
	c.report = func(f Finding) {
		if f.Problem {
			c.sum.Problems++
		}
		report(f)
	}
	r.mu.Lock()
	for _, n := range r.nodes {
		h := n.online()
		if h == nil {
			if !n.id.IsZero() {
				c.away = append(c.away, n)
			}
			continue
		}
		if n.configured && n.durable() {
			c.lists = append(c.lists, &listing{n: n, h: h, id: n.id, kind: n.spec.Kind})
		}
	}
	r.mu.Unlock()
	// The near ones first: what they prove the others have to.
	slices.SortStableFunc(c.lists, func(a, b *listing) int {
		switch {
		case local(a.kind) == local(b.kind):
			return 0
		case local(a.kind):
			return -1
		}
		return 1
	})
	for _, n := range c.away {
		c.report(Finding{Node: n.name, Text: fmt.Sprintf("node %q does not answer and was not looked at", n.name)})
	}
	if err := c.run(ctx); err != nil {
		return c.sum, err
	}
	return c.sum, nil
}

type checker struct {
	r      *Router
	read   bool
	report func(Finding)
	sum    Checked
	lists  []*listing
	away   []*node
}

// listing goes through the crates of one node in order.
type listing struct {
	n      *node
	h      *handle
	id     store.NodeID
	kind   string
	page   []store.CrateInfo
	cursor []byte
	last   store.CrateID // on the page before; zero: there was none
	pages  int64         // that were read
	known  int64         // crates on them that the vault knows
	ended  bool
	broken bool // it stopped answering, or what it answers is no listing
	open   bool // of some copies it is not known, or not recorded, whether they are there
}

// run merges the manifests with the listings: both are in the order of the ids.
func (c *checker) run(ctx context.Context) error {
	err := c.r.scan(c.r.shared, []byte{tableManifest}, func(p ledger.Pair) error {
		if err := ctx.Err(); err != nil {
			return &store.Error{Kind: store.Unavailable, Op: "check", Err: err}
		}
		id := crateOf(p.Key)
		m, err := decodeManifest(id, p.Value)
		if err != nil {
			c.report(Finding{Problem: true, Crate: id, Text: fmt.Sprintf("the manifest of crate %s can't be read", id)})
			return nil
		}
		return c.crate(ctx, &m)
	})
	if err != nil {
		return err
	}
	for _, l := range c.lists {
		c.orphans(ctx, l, nil)
	}
	return ctx.Err()
}

// next gives the next crate of a listing without taking it; nil at the end.
func (l *listing) next(ctx context.Context, c *checker) *store.CrateInfo {
	for len(l.page) == 0 && !l.ended {
		page, err := call(ctx, l.n, l.h, VerifyLimit, "list crates", func(ctx context.Context, st store.Store) (store.Page, error) {
			return st.List(ctx, l.cursor)
		}, nil)
		if err != nil {
			l.ended, l.broken = true, true
			c.report(Finding{Node: l.n.name, Text: fmt.Sprintf("node %q stopped answering: %v", l.n.name, err)})
			return nil
		}
		if err := l.take(page); err != nil {
			l.page, l.ended, l.broken = nil, true, true
			c.report(Finding{Node: l.n.name, Text: fmt.Sprintf("what node %q lists can't be made sense of, and was not looked at any further: %v", l.n.name, err)})
			return nil
		}
	}
	if len(l.page) == 0 {
		return nil
	}
	return &l.page[0]
}

// take takes a page, if it can be one of a listing that ends: ids ascend, also from one page to the
// next, none is empty but the last, and most of many pages are about crates that the vault knows.
func (l *listing) take(page store.Page) error {
	bad := func(detail string) error {
		return &store.Error{Kind: store.Invalid, Op: "list crates", Detail: detail}
	}
	if l.pages++; !local(l.kind) && l.pages > ListPages+l.known/ListPer {
		return bad(fmt.Sprintf("%d pages, with %d crates of this vault on them", l.pages-1, l.known))
	}
	if len(page.Crates) == 0 && page.Next != nil && !local(l.kind) {
		return bad("an empty page is not the last") // on a disk its crates may be lost
	}
	for i := range page.Crates {
		id := page.Crates[i].ID
		if bytes.Compare(id[:], l.last[:]) <= 0 {
			return bad("its crates are not in order")
		}
		l.last = id
	}
	l.page, l.cursor, l.ended = page.Crates, page.Next, page.Next == nil
	return nil
}

// orphans passes over crates of a listing that come before the given one; nil: all.
func (c *checker) orphans(ctx context.Context, l *listing, until *store.CrateID) {
	for ctx.Err() == nil {
		i := l.next(ctx, c)
		if i == nil || until != nil && bytes.Compare(i.ID[:], until[:]) >= 0 {
			return
		}
		id := i.ID
		l.page = l.page[1:]
		if _, ok, err := c.r.manifest(id); ok || err != nil {
			continue // registered since
		}
		if _, dead, err := c.r.shared.Get(deadKey(l.id, id)); dead || err != nil {
			continue // about to go
		}
		c.sum.Orphans++
		c.report(Finding{Crate: id, Node: l.n.name,
			Text: fmt.Sprintf("node %q has crate %s, which this vault does not know; it is left alone", l.n.name, id)})
	}
}

// crate checks one manifest against every listing.
func (c *checker) crate(ctx context.Context, m *Manifest) error {
	c.sum.Crates++
	good, p := 0, proof{nonce: newNonce()}
	for _, l := range c.lists {
		c.orphans(ctx, l, &m.Crate)
		i := l.next(ctx, c)
		there := i != nil && i.ID == m.Crate
		var info store.CrateInfo
		if there {
			info = *i
			l.page = l.page[1:]
			l.known++
		}
		d := m.Destination(l.id)
		if d == nil || d.State != Verified || l.broken {
			continue
		}
		if c.copy(ctx, l, m, &p, there, info) {
			good++
		}
	}
	for _, d := range m.Destinations {
		if d.State == Verified && !c.looked(d.Node) {
			good++
			c.sum.Away++
		}
	}
	if good == 0 {
		c.withoutCopy(ctx, m)
	}
	return ctx.Err()
}

func (c *checker) looked(id store.NodeID) bool {
	for _, l := range c.lists {
		if l.id == id {
			return !l.broken
		}
	}
	return false
}

// copy checks one copy that should be there.
func (c *checker) copy(ctx context.Context, l *listing, m *Manifest, p *proof, there bool, info store.CrateInfo) bool {
	why := ""
	switch {
	case !there:
		why = "is not there"
	case info.Size != m.Size || info.Root != m.form(store.Plain).Root:
		why = "is another than was recorded"
	case c.read:
		if err := c.verify(ctx, l, m, p); store.KindOf(err) == store.Corrupt || store.KindOf(err) == store.NotFound {
			why = "is damaged"
		} else if err != nil {
			c.report(Finding{Crate: m.Crate, Node: l.n.name, Text: fmt.Sprintf("the copy of crate %s on node %q could not be read: %v", m.Crate, l.n.name, err)})
			return true
		} else {
			c.sum.Bytes += m.Size
		}
	}
	if !there {
		if is, err := c.came(ctx, l, m); err != nil {
			l.open = true
			c.report(Finding{Crate: m.Crate, Node: l.n.name, Text: fmt.Sprintf("whether node %q has crate %s could not be asked: %v", l.n.name, m.Crate, err)})
			return true
		} else if is {
			why = ""
		}
	}
	if why == "" {
		c.sum.Copies++
		return true
	}
	// It may have been replaced or have died since the manifest was read.
	if now, ok, err := c.r.manifest(m.Crate); err != nil || !ok || now.Destination(l.id) == nil || now.Destination(l.id).State != Verified {
		return true
	}
	c.report(Finding{Problem: true, Crate: m.Crate, Node: l.n.name, Text: fmt.Sprintf("the copy of crate %s on node %q %s; it is made again from another", m.Crate, l.n.name, why)})
	if !c.r.o.ReadOnly {
		_, err := c.r.damaged(l.n, m.Crate, &store.Error{Kind: store.Corrupt, Op: "check", Detail: why})
		if l.open = l.open || err != nil; err != nil && !errors.Is(err, errInFlight) {
			c.r.log.WithField("crate", m.Crate).WithError(err).Error("record a damaged copy")
		}
	}
	return false
}

// came reports whether a copy that a listing did not have is there after all: it may have come
// since the page was made. The error is that the node does not say.
func (c *checker) came(ctx context.Context, l *listing, m *Manifest) (bool, error) {
	info, err := call(ctx, l.n, l.h, VerifyLimit, "look for crate", func(ctx context.Context, st store.Store) (store.CrateInfo, error) {
		return st.Stat(ctx, m.Crate)
	}, nil)
	if k := store.KindOf(err); k == store.NotFound || k == store.Corrupt {
		return false, nil // Corrupt: noted there, and its bytes are not
	}
	return err == nil && info.Size == m.Size && info.Root == m.form(store.Plain).Root, err
}

// withoutCopy looks at a crate of which no copy was left or made when its manifest was
// read.
func (c *checker) withoutCopy(ctx context.Context, m *Manifest) {
	for {
		// Asked first, so that what arrives meanwhile is seen below.
		sending := c.r.Sending(m.Crate)
		if c.bodyOf(m) == nil {
			return // it is what the copies are to be sent from
		}
		now, ok, err := c.r.manifest(m.Crate)
		if err != nil || !ok || now.Copies() > 0 {
			return // it died meanwhile, or has its first copy: the body may have been adopted
		}
		if !sending {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(CheckPause):
		}
	}
	c.report(Finding{Problem: true, Crate: m.Crate, Text: fmt.Sprintf("crate %s is lost: no node has a good copy and its body is gone", m.Crate)})
}

func (c *checker) bodyOf(m *Manifest) error {
	b, err := c.r.o.Bodies.Body(m.Crate)
	if err != nil {
		return err
	}
	st, err := os.Stat(b.Path)
	if err == nil && st.Size() < b.Offset+b.Size {
		err = errors.New("its body is too short")
	}
	return err
}

// Sending reports whether a crate is under way to a node at this moment: its body may
// have gone to the node, and the manifest not know it yet.
func (r *Router) Sending(c store.CrateID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.nodes {
		if _, is := n.inFlight[c]; is {
			return true
		}
	}
	return false
}
