package fs

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
)

// Safety is how safe the content of a file is that was last committed.
type Safety struct {
	State State
	// Copies is the number of durable copies, the least over the file's parts; an empty
	// file has what is wanted.
	Copies, Wanted int
	// Nodes are the names of those that hold all of it.
	Nodes []string
	// Reason says in a sentence why it is not durable, if it is not.
	Reason string
}

// Safety tells how safe a file is. What it says of copies survives a power cut.
func (s *FS) Safety(ctx context.Context, ino names.Ino) (Safety, error) {
	c, err := s.content(ino)
	if err != nil {
		return Safety{}, err
	}
	if c.Copies > 0 && s.db.Synced() < s.db.Position() {
		if err := s.db.Sync(ctx, s.db.Position()); err != nil {
			return Safety{}, err
		}
	}
	return c.Safety, nil
}

// content is what there is to know of a file.
type content struct {
	Safety
	size  int64
	parts int64 // crates
	nodes map[store.NodeID]*keeper
	order []store.NodeID
	// body: newer content than the settled lies on this machine alone. local: at least
	// some of it does lie here.
	body bool
}

// keeper is one node's part in keeping a file.
type keeper struct {
	verified, planned int64     // parts
	oldest            time.Time // receipt
	damaged           bool
	unknown           bool // its copies are being counted anew
	refused           bool // a node on another machine says that it has other bytes under its id
	durable           bool
}

// content gathers what is known of a regular file.
func (s *FS) content(ino names.Ino) (*content, error) {
	in, err := s.tree.Get(ino)
	if err != nil {
		return nil, err
	}
	pol, err := s.effective(ino)
	if err != nil {
		return nil, err
	}
	c := &content{size: in.Size, nodes: make(map[store.NodeID]*keeper)}
	c.Wanted, c.Copies = pol.Copies, anyCopies
	writing := false
	var mark *attentionRecord
	if f := s.pinned(ino); f != nil {
		f.mu.RLock()
		if c.body = f.body != nil; c.body {
			c.size, c.Reason = f.size, f.record.Reason
		}
		mark = f.mark
		f.mu.RUnlock()
		writing = s.writing(f)
		s.unpin(f)
	}
	a, marked, err := s.attention(ino)
	if err != nil {
		return nil, err
	}
	if c.body {
		c.Copies, c.State = 0, Pending
		if c.size == 0 {
			c.Copies = c.Wanted
		}
	} else {
		// Read again: the body may have become the settled content since, and what was settled
		// before says nothing of it.
		if in, err = s.tree.Get(ino); err != nil {
			return nil, err
		}
		c.size = in.Size
		if err := s.settledContent(in, c); err != nil {
			return nil, err
		}
	}
	if mark != nil {
		a, marked = *mark, true
	}
	if marked {
		c.State, c.Reason = max(c.State, a.State), a.Reason
	}
	if !c.body && c.Copies >= c.Wanted {
		c.State, c.Reason = Durable, ""
	}
	if writing {
		c.State = Open
	}
	return c, nil
}

// settledContent reads the manifests of a settled file.
func (s *FS) settledContent(in names.Inode, c *content) error {
	seen := make(map[store.CrateID]struct{})
	outstanding := false
	err := s.eachCrate(in.List, func(id store.CrateID) error {
		if _, again := seen[id]; again {
			return nil
		}
		seen[id] = struct{}{}
		m, err := s.router.Manifest(id)
		if err != nil {
			return err
		}
		c.parts++
		c.Copies = min(c.Copies, m.Copies())
		outstanding = outstanding || m.Outstanding() > 0
		c.count(&m)
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range c.order {
		if k := c.nodes[id]; k.verified == c.parts {
			c.Nodes = append(c.Nodes, s.router.NodeName(id))
		}
	}
	slices.Sort(c.Nodes)
	if c.parts == 0 {
		c.Copies = c.Wanted
	}
	switch {
	case c.Copies >= c.Wanted:
	case outstanding:
		c.State = Pending
	case c.Copies == 0:
		c.State = Unplaced
	default:
		c.State = Short
	}
	return nil
}

// count notes the destinations of one crate.
func (c *content) count(m *router.Manifest) {
	for _, d := range m.Destinations {
		k := c.nodes[d.Node]
		if k == nil {
			k = &keeper{durable: true}
			c.nodes[d.Node] = k
			c.order = append(c.order, d.Node)
		}
		switch d.State {
		case router.Verified:
			if d.Unknown {
				k.unknown = true
				k.planned++
				continue
			}
			k.verified++
			k.durable = k.durable && d.Durable
			if k.oldest.IsZero() || d.Time.Before(k.oldest) {
				k.oldest = d.Time
			}
		case router.Damaged:
			k.damaged = true
		case router.Refused:
			k.refused = true
		default:
			k.planned++
		}
	}
}

// gone reports whether an error only says that an inode was removed meanwhile.
func gone(err error) bool { return errors.Is(err, syscall.ENOENT) }
