package fs

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"stasis/fs/body"
	"stasis/fs/extent"
	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
	"stasis/store/ledger"
)

// Placed hears from the router that receipts came in, or that copies are gone or not wanted any
// more.
func (s *FS) Placed(ms []router.Manifest) error {
	var done []store.CrateID
	for _, m := range ms {
		if m.Copies() >= m.Wanted {
			done = append(done, m.Crate)
		}
	}
	errs := s.unlie(done...)
	for _, m := range ms {
		inos, err := s.users(m)
		errs = errors.Join(errs, err)
		for _, ino := range inos {
			if err := s.placedFor(ino, m); err != nil {
				errs = errors.Join(errs, fmt.Errorf("inode %d: %w", ino, err))
			}
		}
	}
	s.notify()
	return errs
}

// ReceivedTx does, in the update that records a receipt, what most receipts call for: the crate
// lies in its body no more where the node has taken that over, or where it has its copies; and
// a file that is this crate alone is durable then.
func (s *FS) ReceivedTx(tx *ledger.Tx, m *router.Manifest, adopted bool) (owed bool, err error) {
	local := tx.In(ledger.Local)
	done := m.Copies() >= m.Wanted
	if adopted || done {
		if err := unlieTx(local, m.Crate); err != nil {
			return false, err
		}
	}
	ino := names.Ino(m.Origin)
	replaced, err := tx.Scan(teardownKey(ino, 0), key(tableTeardown, uint64(ino)+1), 1)
	if err != nil {
		return false, err
	}
	shared, err := tx.Scan(shareKey(m.Crate, 0), afterShares(m.Crate), 1)
	if err != nil {
		return false, err
	}
	if len(replaced) > 0 || len(shared) > 0 {
		return true, nil
	}
	if !done {
		return m.Outstanding() == 0, nil
	}
	alone, err := s.aloneTx(tx, ino, m.Crate)
	if err != nil || !alone {
		return true, err
	}
	local.Delete(key(tableAttention, uint64(ino)))
	return false, nil
}

// aloneTx reports whether a crate is all content that an inode has, and has what is wanted of it.
func (s *FS) aloneTx(tx *ledger.Tx, ino names.Ino, c store.CrateID) (bool, error) {
	if s.policies.Load() {
		return false, nil // what is wanted is more than a look
	}
	in, err := s.tree.GetTx(tx, ino)
	if gone(err) {
		return false, nil
	}
	if err != nil || in.List == 0 {
		return false, err
	}
	pairs, err := tx.Scan(extentKey(in.List, 0), key(tableExtent, uint64(in.List)+1), 2)
	if err != nil || len(pairs) != 1 {
		return false, err
	}
	e, err := decodeExtent(pairs[0])
	if err != nil || e.Crate != c {
		return false, err
	}
	_, newer, err := tx.In(ledger.Local).Get(key(tableBody, uint64(ino)))
	return !newer, err
}

// placedFor is Placed for one of the inodes that a crate belongs to.
func (s *FS) placedFor(ino names.Ino, m router.Manifest) error {
	if m.Copies() < m.Wanted {
		if s.waiting.waits(ino, m.Crate) && m.Outstanding() > 0 {
			return s.release(ino)
		}
		// A copy that counted does not any more, or one that was awaited won't come.
		return s.assess(ino)
	}
	unlock, err := s.assessing.Lock(s.ctx, ino)
	if err != nil {
		return err
	}
	known, last := s.waiting.arrived(ino, m.Crate)
	waits := s.waiting.any(ino)
	unlock()
	switch {
	case last, !known && !waits:
		return s.assess(ino)
	case known:
		return s.release(ino)
	}
	return nil
}

// Adopted hears that a body was renamed into a node, which serves it now: ReceivedTx has recorded
// it.
func (s *FS) Adopted(store.CrateID, store.NodeID) {}

// NodesChanged hears that what found no room may find some now.
func (s *FS) NodesChanged() { kick(s.retry) }

// Counted hears that copies count again that were unknown for a while.
func (s *FS) Counted() {
	s.counted.Store(true)
	kick(s.retry)
}

// lookAgain tells anew of the crates of files that wait for copies, which may be there: so long as
// they were unknown nobody heard of them.
func (s *FS) lookAgain(ino names.Ino) error {
	in, err := s.tree.Get(ino)
	if err != nil || !in.IsRegular() {
		return nil // removed meanwhile
	}
	var ms []router.Manifest
	err = s.eachCrate(in.List, func(c store.CrateID) error {
		m, err := s.router.Manifest(c)
		if err != nil {
			return err
		}
		if ms = append(ms, m); len(ms) == s.keys/unlieKeys {
			err = s.Placed(ms)
			ms = nil
		}
		return errors.Join(err, s.ctx.Err())
	})
	if len(ms) > 0 {
		err = errors.Join(err, s.Placed(ms))
	}
	return errors.Join(err, s.assess(ino))
}

// Retired hears that a crate can't be trusted to be the same everywhere: its bytes
// are put into a body, from where they go into a new crate.
func (s *FS) Retired(m router.Manifest) {
	s.done.Go(func() {
		inos, err := s.users(m)
		for _, ino := range inos {
			err = errors.Join(err, s.renew(s.ctx, ino, m.Crate))
		}
		if err == nil {
			err = s.router.Paid(m.Crate)
		}
		if err != nil && s.ctx.Err() == nil {
			s.log.WithError(err).WithField("crate", m.Crate).Error("make a new crate for one that was retired")
		}
	})
}

// Rotten hears that the body of a crate has changed below us, which its copies have as it was: it
// is read from them.
func (s *FS) Rotten(c store.CrateID) { s.wrongBodies.Store(c, struct{}{}) }

// renew copies what an inode has of a crate into its body.
func (s *FS) renew(ctx context.Context, ino names.Ino, c store.CrateID) error {
	f := s.pin(ino)
	defer s.unpin(f)
	in, err := s.tree.Get(ino)
	if errors.Is(err, syscall.ENOENT) {
		return nil // removed; others may share the crate
	}
	if err != nil {
		return err
	}
	var units []int64
	err = s.eachExtent(in.List, func(e extent.Extent) error {
		if e.Crate == c {
			for u := e.Offset / body.Unit; u*body.Unit < e.End(); u++ {
				units = append(units, u)
			}
		}
		return nil
	})
	for ; err == nil && len(units) > 0; units = units[min(len(units), store.BlockSize/body.Unit):] {
		n := min(len(units), store.BlockSize/body.Unit)
		err = s.change(ctx, f, units[:n], func() error { return nil })
	}
	if err != nil {
		return err
	}
	return s.closeWriter(ctx, f)
}

// assess compares an inode's settled content with what its policy wants, marks the
// inode accordingly and lets go of what was replaced.
func (s *FS) assess(ino names.Ino) error {
	// A receipt that comes in amid this is counted before or after.
	unlock, err := s.assessing.Lock(s.ctx, ino)
	if err != nil {
		return err
	}
	defer unlock()
	for again := true; again && err == nil; {
		again, err = s.assessOnce(ino)
	}
	return err
}

// assessOnce is assess for those who hold the inode's assessing. again: what it looked at has
// changed meanwhile.
func (s *FS) assessOnce(ino names.Ino) (again bool, err error) {
	st, err := s.examine(ino)
	if gone(err) {
		return false, nil // removed meanwhile; its records go with it
	}
	if err != nil {
		return false, err
	}
	s.waiting.set(ino, st.waits)
	f := s.pinned(ino)
	if f != nil {
		defer s.unpin(f)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.body != nil {
			// Newer content is on its way, and its marks count.
			return false, nil
		}
	}
	_, marked, err := s.attention(ino)
	if err != nil {
		return false, err
	}
	if st.copies >= st.wanted && !marked {
		return false, s.release(ino)
	}
	_, err = s.local.Update(func(tx *ledger.Tx) error {
		if again, err = s.movedTx(tx.In(ledger.Shared), ino, &st); again || err != nil {
			return err
		}
		switch {
		case st.copies >= st.wanted:
			tx.Delete(key(tableAttention, uint64(ino)))
			return nil
		case len(st.waits) > 0:
			return putAttention(tx, ino, attentionRecord{State: Pending, Bytes: st.size, Reason: st.reason})
		}
		state := Short
		if st.copies == 0 {
			state = Unplaced // what was promised when it was closed could not be kept
		}
		return putAttention(tx, ino, attentionRecord{State: state, Bytes: st.size, Reason: st.reason})
	})
	if err != nil || again {
		return again, err
	}
	return false, s.release(ino)
}

// movedTx reports whether an inode has other content than was examined, or a crate that is all of
// it other copies: ReceivedTx has done what follows of that then.
func (s *FS) movedTx(tx *ledger.Tx, ino names.Ino, st *held) (bool, error) {
	in, err := s.tree.GetTx(tx, ino)
	if err != nil || in.List != st.list {
		return err == nil || gone(err), ignoreGone(err)
	}
	if st.crates != 1 {
		return false, nil
	}
	n, err := s.router.CopiesTx(tx, st.crate)
	return n != st.copies, err
}

func ignoreGone(err error) error {
	if gone(err) {
		return nil
	}
	return err
}

// held is what is known of the settled content of an inode.
type held struct {
	list           names.ListID
	size           int64
	copies, wanted int // the least over the extents, anyCopies if there are none; what is wanted now
	waits          []store.CrateID
	crates         int           // how many there are, one after another
	crate          store.CrateID // the last
	reason         string
}

// examine reads the manifests of an inode's settled content.
func (s *FS) examine(ino names.Ino) (held, error) {
	in, err := s.tree.Get(ino)
	if err != nil {
		return held{}, err
	}
	pol, err := s.effective(ino)
	if err != nil {
		return held{}, err
	}
	h := held{list: in.List, size: in.Size, copies: anyCopies, wanted: pol.Copies}
	seen := store.CrateID{}
	err = s.eachExtent(in.List, func(e extent.Extent) error {
		if e.Crate == seen {
			return nil
		}
		seen = e.Crate
		h.crates, h.crate = h.crates+1, e.Crate
		m, err := s.router.Manifest(e.Crate)
		if err != nil {
			return err
		}
		n := m.Copies()
		h.copies = min(h.copies, n)
		if n < h.wanted && m.Outstanding() > 0 {
			h.waits = append(h.waits, e.Crate)
		}
		return nil
	})
	return h, err
}

// leastCopies is how many copies the crate has that has the fewest.
func (s *FS) leastCopies(crates map[store.CrateID]bool) int {
	least := anyCopies
	for c := range crates {
		m, err := s.router.Manifest(c)
		if err != nil {
			return 0
		}
		least = min(least, m.Copies())
	}
	return least
}
