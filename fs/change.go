package fs

import (
	"stasis/fs/extent"
	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
	"stasis/store/ledger"
)

// change is a new list about to become the content of an inode.
//
// Where one update of the ledger holds all of it, it is made by one: the extents, references and
// manifests of the list, where its new crates lie, what is to be sent, the inode, and what
// becomes of the body and of the list before. Nothing is half done at any time.
//
// A longer one is built in many updates, and switched by the last of them. Until then all of it
// is inert: the list is noted for tearing down, nothing is queued, and the record of the body
// names the list, so that a start takes it back before anything else is done, and no body that an
// inode still names is dropped with its crates. From the switch on the record of the body says
// what is still to be queued.
type change struct {
	ino   names.Ino
	id    names.ListID
	made  []extent.Extent // the extents with a crate of their own, new, in order
	to    places          // of made
	list  []extent.Extent // all of them
	size  int64           // of the inode, bytes
	mtime int64           // of the inode, ns since the epoch; 0 leaves it
	// mark is what is not in order with the content from then on; nil: what it was before.
	mark *attentionRecord
	// body is where made lies, with its record; zero: nothing is made.
	body   store.CrateID
	record bodyRecord
	// also, unless nil, is run in each update with the extents that it writes.
	also func(tx *ledger.Tx, es []extent.Extent) error

	waits           []store.CrateID // that the inode waited for before
	old             teardownRecord  // of the list before
	fresh           map[store.CrateID]*router.Plan
	begun, switched bool // a part of it is in the ledger; it is the content
}

// Keys of the ledger that a change writes, at most.
const (
	extentKeys = 4 // extent, references, manifest, share
	madeKeys   = 1 // where it lies; and one for each target
	changeKeys = 8 // inode, both lists, body with its count and end, mark
)

// keys is how many keys the whole change takes.
func (c *change) keys() int {
	n := changeKeys + extentKeys*len(c.list)
	for i := range c.made {
		n += madeKeys + len(c.to.plan(i).Targets)
	}
	return n
}

// make makes a change, and gives what it has queued, by runs. With an error nothing is changed
// unless c.switched: then the rest is finishSeal's.
func (s *FS) make(c *change) ([][]router.Added, error) {
	var err error
	if c.waits, err = s.expects(c); err != nil {
		return nil, err
	}
	var added [][]router.Added
	if c.keys() <= s.keys {
		_, err = s.shared.Update(func(tx *ledger.Tx) error {
			var err error
			added, err = s.changeTx(tx, c)
			return err
		})
		c.switched = err == nil
	} else {
		added, err = s.build(c)
	}
	if err != nil && !c.switched {
		s.waiting.set(c.ino, c.waits)
	}
	return added, err
}

// expects notes what the inode waits for with its new content, from before the manifests are
// there, so that no receipt comes too early. It gives what the inode has waited for.
func (s *FS) expects(c *change) (before []store.CrateID, err error) {
	c.fresh = make(map[store.CrateID]*router.Plan, len(c.made))
	waits := s.waiting.of(c.ino)
	var crates []store.CrateID // that the new content waits for
	for i, e := range c.made {
		c.fresh[e.Crate] = c.to.plan(i)
		crates = append(crates, e.Crate)
	}
	for _, e := range c.list {
		if waits[e.Crate] && c.fresh[e.Crate] == nil {
			crates = append(crates, e.Crate)
		}
	}
	c.old = teardownRecord{Copies: anyCopies}
	if a, ok, err := s.attention(c.ino); err != nil {
		return nil, err
	} else if ok && a.State != Durable && len(waits) > 0 {
		c.old.Copies = s.leastCopies(waits)
	}
	s.waiting.set(c.ino, crates)
	return keys(waits), nil
}

// changeTx makes a whole change in a transaction of the shared space.
func (s *FS) changeTx(tx *ledger.Tx, c *change) ([][]router.Added, error) {
	if err := s.extentsTx(tx, c, c.list); err != nil {
		return nil, err
	}
	if err := s.switchTx(tx, c); err != nil {
		return nil, err
	}
	local := tx.In(ledger.Local)
	if err := markTx(local, c); err != nil || c.body.IsZero() {
		return nil, err
	}
	local.Delete(key(tableBody, uint64(c.ino)))
	if len(c.made) == 0 {
		dropTx(local, c.body)
	}
	return s.enqueueTx(local, c.made, 0, len(c.made), c.to)
}

// build makes a change in many updates.
func (s *FS) build(c *change) (added [][]router.Added, err error) {
	s.building.add(c.id)
	err = s.buildList(c)
	s.building.remove(c.id)
	if err != nil {
		kick(s.tear)
		return nil, err
	}
	c.switched = true
	if c.body.IsZero() {
		return nil, nil
	}
	return s.finishSeal(c.ino, c.record, c.made)
}

// buildList writes a list in many updates, the last of which switches the inode to it.
func (s *FS) buildList(c *change) error {
	c.record.List = c.id
	for rest, first := c.list, true; ; first = false {
		n := min(len(rest), max(1, (s.keys-changeKeys)/(extentKeys+madeKeys)))
		last := n == len(rest)
		_, err := s.shared.Update(func(tx *ledger.Tx) error {
			if err := s.extentsTx(tx, c, rest[:n]); err != nil {
				return err
			}
			if first {
				if err := beginTx(tx.In(ledger.Local), c); err != nil {
					return err
				}
			}
			if last {
				tx.Delete(teardownKey(0, c.id))
				return s.switchTx(tx, c)
			}
			if first {
				tx.Put(teardownKey(0, c.id), (&teardownRecord{}).encode())
			}
			return nil
		})
		if err != nil {
			return err
		}
		c.begun = !c.body.IsZero()
		if rest = rest[n:]; last {
			return nil
		}
	}
}

// beginTx has the record of the body name the list that is being built from it.
func beginTx(tx *ledger.Tx, c *change) error {
	if !c.body.IsZero() {
		tx.Put(key(tableBody, uint64(c.ino)), c.record.encode())
	}
	return markTx(tx, c)
}

// markTx records what of a change belongs to its inode and its body as a whole.
func markTx(tx *ledger.Tx, c *change) error {
	if len(c.made) > 1 {
		setLiersTx(tx, c.body, uint64(len(c.made)))
	}
	if c.mark == nil {
		return nil
	}
	return putAttention(tx, c.ino, *c.mark)
}

// extentsTx adds extents to the list of a change, each with its reference and, where its crate is
// new, with its manifest and the place where it lies.
func (s *FS) extentsTx(tx *ledger.Tx, c *change, es []extent.Extent) error {
	for _, e := range es {
		tx.Put(extentKey(c.id, e.End()), e.Value())
		n, err := references(tx, e.Crate)
		if err != nil {
			return err
		}
		putReferences(tx, e.Crate, n+1)
		plan := c.fresh[e.Crate]
		if plan == nil {
			continue
		}
		if err := s.router.RegisterTx(tx, router.NewCrate{ID: e.Crate, Size: e.Length, Origin: uint64(c.ino), Plan: *plan}); err != nil {
			return err
		}
		lieTx(tx.In(ledger.Local), c, e)
	}
	if c.also == nil {
		return nil
	}
	return c.also(tx, es)
}

// switchTx makes the new list the inode's, and notes the old one for tearing down.
func (s *FS) switchTx(tx *ledger.Tx, c *change) error {
	var before names.ListID
	_, err := s.tree.UpdateTx(tx, c.ino, func(in *names.Inode) error {
		before = in.List
		in.List, in.Size = c.id, c.size
		if c.mtime != 0 {
			in.Mtime, in.Ctime = c.mtime, max(c.mtime, in.Ctime)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if before != 0 {
		tx.Put(teardownKey(c.ino, before), c.old.encode())
	}
	return nil
}

// finishSeal does what is left when an inode has been switched to a list that took many updates:
// the crates go into the queues, and the body is no body any more. It gives what it has queued,
// by runs.
func (s *FS) finishSeal(ino names.Ino, r bodyRecord, made []extent.Extent) (all [][]router.Added, err error) {
	all = make([][]router.Added, len(r.Places.Runs))
	for first := 0; ; {
		n, room := first, s.keys-changeKeys
		for ; n < len(made); n++ {
			if room -= len(r.Places.plan(n).Targets); room < 0 && n > first {
				break
			}
		}
		var added [][]router.Added
		_, err := s.local.Update(func(tx *ledger.Tx) (err error) {
			if added, err = s.enqueueTx(tx, made, first, n, r.Places); err != nil || n < len(made) {
				return err
			}
			tx.Delete(key(tableBody, uint64(ino)))
			return dropUnusedTx(tx, r.Body, made)
		})
		if err != nil {
			return nil, err
		}
		for i := range added {
			all[i] = append(all[i], added[i]...)
		}
		if first = n; first == len(made) {
			return all, nil
		}
	}
}

// enqueueTx hands crates of a change to the router's queues, from one on up to another, in a
// transaction of the local space; the result is by runs.
func (s *FS) enqueueTx(tx *ledger.Tx, made []extent.Extent, from, to int, p places) ([][]router.Added, error) {
	all := make([][]router.Added, len(p.Runs))
	for i := from; i < to; i++ {
		run := p.run(i)
		if run < 0 {
			break // nothing is sent
		}
		a, err := s.router.EnqueueTx(tx, made[i].Crate, made[i].Length, p.Runs[run].Plan)
		if err != nil {
			return nil, err
		}
		all[run] = append(all[run], a)
	}
	return all, nil
}

// handOver gives the space of plans to what was queued.
func (s *FS) handOver(to places, added [][]router.Added) {
	for i, run := range to.Runs {
		if i < len(added) && len(added[i]) > 0 {
			s.router.Handover(run.Plan, added[i]...)
		} else {
			s.router.Return(run.Plan)
		}
	}
}
