package fs

import (
	"context"
	"errors"
	"syscall"

	"stasis/fs/body"
	"stasis/fs/extent"
	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
	"stasis/store/ledger"
)

// errBusy says that a file can't be sealed at the moment: it is being written, or
// has no place.
var errBusy = errors.New("the file is being written")

// complete fills the blocks that a sparse body holds in part, so that they can be
// crates: units come from the settled content. Writers may go on meanwhile.
func (s *FS) complete(ctx context.Context, f *file) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for try := 0; f.body != nil && !f.body.Whole(); {
		spans, _, err := s.spans(f)
		if err != nil {
			return err
		}
		units := f.lacking(spans, 0)
		if len(units) == 0 {
			return nil
		}
		for moved := false; len(units) > 0; units = f.lacking(spans, units[0]*body.Unit) {
			moved, err = s.fetch(ctx, f, units)
			if err != nil && (!moved || try == readRetries) {
				return err
			}
			if moved {
				try++
				break
			}
		}
	}
	return nil
}

// switchOver makes crates of a body that is synced and makes them the settled
// content of its inode. From the moment that the inode names the new list the body is
// only where its crates lie. planned is how many copies are to be sent of each crate, 0 if
// there is none to send. The caller holds f.sealing.
func (s *FS) switchOver(ctx context.Context, f *file) (planned int, err error) {
	f.committing.Lock()
	defer f.committing.Unlock()
	if err := s.commitHeld(ctx, f); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.body == nil {
		return 0, nil
	}
	in, err := s.tree.Get(f.ino)
	if err != nil {
		return 0, err
	}
	if in.Nlink == 0 {
		return 0, syscall.ENOENT
	}
	if f.changes != f.committed || f.writes != f.synced || !f.record.Planned {
		return 0, errBusy
	}
	spans, holes, err := s.spans(f)
	if err != nil {
		return 0, err
	}
	if !f.body.Whole() && len(f.lacking(spans, 0)) > 0 {
		return 0, errBusy // written since it was completed
	}
	pieces := cut(spans, max(f.record.Places.Part, store.BlockSize))
	var base []extent.Extent
	if !f.body.Whole() {
		if err := s.eachExtent(in.List, func(e extent.Extent) error { base = append(base, e); return nil }); err != nil {
			return 0, err
		}
	}
	made := make([]extent.Extent, len(pieces))
	for i, p := range pieces {
		made[i] = extent.Extent{Offset: p.Offset, Length: p.Length, Crate: store.NewCrateID()}
	}
	sw := &change{ino: f.ino, made: made, to: f.record.Places, list: extent.Overlay(extent.Without(base, holes...), made, f.record.Limit), size: f.size, mtime: f.written()}
	if len(sw.list) > 0 {
		if sw.id, err = s.tree.NewListID(); err != nil {
			return 0, err
		}
	}
	return f.record.Places.wanted(), s.apply(f, sw)
}

// change is a new list about to become the content of an inode.
type change struct {
	ino   names.Ino
	id    names.ListID
	made  []extent.Extent // the extents with a crate of their own, new, in order
	to    places          // of made
	list  []extent.Extent // all of them
	size  int64           // of the inode, bytes
	mtime int64           // of the inode, ns since the epoch; 0 leaves it
	// also, unless nil, is run in each update with the extents that it writes.
	also func(tx *ledger.Tx, es []extent.Extent) error
}

// apply makes a change to the content of a file whose body it comes from. The order is what
// a crash between two of the updates relies on (see finishSwitch): where the crates lie, the
// list, the switch, the queue.
func (s *FS) apply(f *file, c *change) error {
	if err := s.lieAll(f, c); err != nil {
		return err
	}
	if err := s.buildList(c); err != nil {
		return errors.Join(err, s.unmake(f, c))
	}
	r := f.record
	if err := f.body.Trim(); err != nil {
		s.log.WithError(err).WithField("body", f.body.Path()).Warn("give back room past the end of a body")
	}
	if err := f.body.Release(); err != nil {
		s.log.WithError(err).WithField("body", f.body.Path()).Warn("close a body")
	}
	f.setBody(nil, bodyRecord{})
	f.switches++
	if err := s.finishSeal(f.ino, r, c.made); err != nil {
		// The switch is made; the rest is owed, and is done before there is another body.
		f.owed = &owed{r, c.made}
		s.mu.Lock()
		f.pins++ // so that it is not forgotten
		s.unsealed = append(s.unsealed, f.ino)
		s.mu.Unlock()
		return err
	}
	return nil
}

// owed is what is left of a sealing whose last updates of the ledger failed.
type owed struct {
	record bodyRecord
	made   []extent.Extent
}

// payOwed does what an earlier sealing left. The caller holds the lock of the file.
func (s *FS) payOwed(f *file) error {
	if f.owed == nil {
		return nil
	}
	if err := s.finishSeal(f.ino, f.owed.record, f.owed.made); err != nil {
		return err
	}
	f.owed = nil
	s.mu.Lock()
	f.pins-- // the caller has another
	s.mu.Unlock()
	return nil
}

// finishSeal does what is left when an inode has been switched to a new list: the crates
// go into the queues, and the body is no body any more.
func (s *FS) finishSeal(ino names.Ino, r bodyRecord, made []extent.Extent) error {
	added, err := s.enqueue(made, r.Places)
	if err != nil {
		return err
	}
	pos, err := s.local.Update(func(tx *ledger.Tx) error {
		tx.Delete(key(tableBody, uint64(ino)))
		if len(made) == 0 {
			dropTx(tx, r.Body)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(made) == 0 {
		s.drops.add(r.Body, pos)
	}
	for i, run := range r.Places.Runs {
		if i < len(added) && len(added[i]) > 0 {
			s.router.Handover(run.Plan, added[i]...)
		} else {
			s.router.Return(run.Plan)
		}
	}
	return nil
}

// unmake takes back what lieAll wrote for a change that was not made.
func (s *FS) unmake(f *file, c *change) error {
	rest := c.made
	for len(rest) > 0 {
		n := min(len(rest), updateKeys-1)
		_, err := s.local.Update(func(tx *ledger.Tx) error {
			for _, e := range rest[:n] {
				tx.Delete(crateKey(tableLying, e.Crate))
			}
			tx.Delete(crateKey(tableLiers, f.body.ID))
			return nil
		})
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// lieAll records where in the body each new crate lies, and which list is being
// made.
func (s *FS) lieAll(f *file, c *change) error {
	r := f.record
	r.List = c.id
	rest := c.made
	for first := true; first || len(rest) > 0; first = false {
		n := min(len(rest), updateKeys-3)
		_, err := s.local.Update(func(tx *ledger.Tx) error {
			lieTx(tx, f, rest[:n], len(c.made))
			if first {
				return recordTx(tx, f, &r)
			}
			return nil
		})
		if err != nil {
			return err
		}
		f.mark, f.recorded = nil, r.Planned
		rest = rest[n:]
	}
	f.record = r
	return nil
}

// buildList writes the extents, references and manifests of a change and switches
// the inode to it: in one update if it is small, else the list first, noted for tearing
// down until the last update names it.
func (s *FS) buildList(c *change) error {
	s.building.add(c.id)
	err := s.tryBuildList(c)
	s.building.remove(c.id)
	if err != nil {
		kick(s.tear)
	}
	return err
}

func (s *FS) tryBuildList(c *change) error {
	fresh := make(map[store.CrateID]*router.Plan, len(c.made))
	waits := s.waiting.of(c.ino)
	var crates []store.CrateID // that the new content waits for
	for i, e := range c.made {
		fresh[e.Crate] = c.to.plan(i)
		crates = append(crates, e.Crate)
	}
	for _, e := range c.list {
		if waits[e.Crate] && fresh[e.Crate] == nil {
			crates = append(crates, e.Crate)
		}
	}
	old := teardownRecord{Copies: anyCopies}
	if a, ok, err := s.attention(c.ino); err != nil {
		return err
	} else if ok && a.State != Durable && len(waits) > 0 {
		old.Copies = s.leastCopies(waits)
	}
	// The new crates wait from before their manifests are there, so that no receipt
	// comes too early.
	s.waiting.set(c.ino, crates)
	rest := c.list
	for first := true; ; first = false {
		n := min(len(rest), extentsPerUpdate)
		last := n == len(rest)
		_, err := s.shared.Update(func(tx *ledger.Tx) error {
			for _, e := range rest[:n] {
				if err := s.addExtentTx(tx, c, e, fresh[e.Crate]); err != nil {
					return err
				}
			}
			if c.also != nil {
				if err := c.also(tx, rest[:n]); err != nil {
					return err
				}
			}
			if !last {
				tx.Put(teardownKey(0, c.id), (&teardownRecord{}).encode())
				return nil
			}
			if !first {
				tx.Delete(teardownKey(0, c.id))
			}
			return s.switchTx(tx, c, old)
		})
		if err != nil {
			s.waiting.set(c.ino, keys(waits))
			return err
		}
		if rest = rest[n:]; last {
			return nil
		}
	}
}

// addExtentTx adds one extent to a list, with its reference and, for a new crate, its
// manifest.
func (s *FS) addExtentTx(tx *ledger.Tx, c *change, e extent.Extent, fresh *router.Plan) error {
	tx.Put(extentKey(c.id, e.End()), e.Value())
	n, err := references(tx, e.Crate)
	if err != nil {
		return err
	}
	putReferences(tx, e.Crate, n+1)
	if fresh == nil {
		return nil
	}
	return s.router.RegisterTx(tx, router.NewCrate{ID: e.Crate, Size: e.Length, Origin: uint64(c.ino), Plan: *fresh})
}

// switchTx makes the new list the inode's, and notes the old one for tearing down.
func (s *FS) switchTx(tx *ledger.Tx, c *change, old teardownRecord) error {
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
		tx.Put(teardownKey(c.ino, before), old.encode())
	}
	return nil
}

// enqueue hands crates to the router's queues; the result is by runs.
func (s *FS) enqueue(made []extent.Extent, to places) ([][]router.Added, error) {
	all := make([][]router.Added, len(to.Runs))
	for i, run := range to.Runs {
		n := min(run.Pieces, len(made))
		if i == len(to.Runs)-1 {
			n = len(made)
		}
		added, err := s.enqueueRun(made[:n], run.Plan)
		if err != nil {
			return nil, err
		}
		all[i], made = added, made[n:]
	}
	return all, nil
}

func (s *FS) enqueueRun(made []extent.Extent, plan router.Plan) ([]router.Added, error) {
	var all []router.Added
	per := max(1, updateKeys/max(1, len(plan.Targets)))
	for len(made) > 0 {
		n := min(len(made), per)
		var added []router.Added
		_, err := s.local.Update(func(tx *ledger.Tx) error {
			added = added[:0]
			for _, e := range made[:n] {
				a, err := s.router.EnqueueTx(tx, e.Crate, e.Length, plan)
				if err != nil {
					return err
				}
				added = append(added, a)
			}
			return nil
		})
		if err != nil {
			return all, err
		}
		all = append(all, added...)
		made = made[n:]
	}
	return all, nil
}

func keys(m map[store.CrateID]bool) []store.CrateID {
	out := make([]store.CrateID, 0, len(m))
	for c := range m {
		out = append(out, c)
	}
	return out
}

// seal makes the content of a file, as it is now, its settled content, if it isn't
// already. With writers at work it seals what they have written so far. errBusy if they
// write faster than it can be synced, or if there is no place for it.
func (s *FS) seal(ctx context.Context, f *file) error {
	f.sealing.Lock()
	defer f.sealing.Unlock()
	f.mu.Lock()
	err := s.payOwed(f)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	for range sealTries {
		if err := s.commit(ctx, f); err != nil {
			return err
		}
		if err := s.complete(ctx, f); err != nil {
			return err
		}
		if err := s.syncApart(f); err != nil {
			return err
		}
		if err := s.switchAndAssess(ctx, f); err != errBusy {
			return err
		}
	}
	return s.sealHeld(ctx, f)
}

// sealHeld seals with the writers held up for the last sync, which is short since the
// ones before it.
func (s *FS) sealHeld(ctx context.Context, f *file) error {
	if err := s.complete(ctx, f); err != nil {
		return err
	}
	if err := s.syncContent(f); err != nil {
		return err
	}
	return s.switchAndAssess(ctx, f)
}

// writtenBody is a body with what had been written to it at some moment. Bodies count
// their writes from the beginning each: neither tells without the other what a sync covers.
type writtenBody struct {
	body   *body.Body
	writes uint64
	synced bool
}

func (f *file) writtenBody() writtenBody {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return writtenBody{f.body, f.writes, f.synced == f.writes}
}

// syncApart syncs the body of a file while writers may go on, unless it was synced with
// others.
func (s *FS) syncApart(f *file) error {
	w := f.writtenBody()
	if w.body == nil || w.synced {
		return nil
	}
	if err := w.body.SyncData(); err != nil {
		return err
	}
	return s.settle(f, w)
}

// settle records a sync of a body's data that was made without the lock of the file, and
// after w was taken, if nothing was written since.
func (s *FS) settle(f *file, w writtenBody) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.body == nil || f.body != w.body || f.writes != w.writes || f.synced == w.writes {
		return nil
	}
	if err := w.body.MarkSynced(); err != nil {
		return err
	}
	f.synced = w.writes
	return nil
}

// switchAndAssess is switchOver, and looks at the result where nothing is sent, so that
// nothing will report, and where more copies are wanted by now than were planned at the
// close: the file was moved, or the policy changed.
func (s *FS) switchAndAssess(ctx context.Context, f *file) error {
	planned, err := s.switchOver(ctx, f)
	if err != nil {
		return err
	}
	s.notify()
	if planned == 0 {
		return s.assess(f.ino)
	}
	if pol, err := s.effective(f.ino); err == nil && pol.Copies > planned {
		s.reconsider(ctx, f.ino)
	}
	return nil
}
