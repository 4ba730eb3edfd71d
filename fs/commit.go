package fs

import (
	"context"
	"errors"
	"time"

	"stasis/fs/body"
	"stasis/fs/extent"
	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
	"stasis/store/ledger"
)

// commit draws the space that the content of a file needs as it is now, and
// records it. It is what a close waits for, and it reports what a close reports:
// NoSpace or Quota when too few places have room, in which case the body is kept and the
// file is unplaced.
func (s *FS) commit(ctx context.Context, f *file) error {
	s.awaitPromises(ctx)
	f.committing.Lock()
	defer f.committing.Unlock()
	return s.commitHeld(ctx, f, 0)
}

// commitHeld is commit for those who hold f.committing. Unless ahead is 0 so many bytes more are
// drawn at each place, for what is written before the content is cut into crates; errBusy if they
// can't be had.
func (s *FS) commitHeld(ctx context.Context, f *file, ahead int64) error {
	f.mu.RLock()
	if f.body == nil || f.changes == f.committed && f.record.Planned && ahead == 0 || s.ro {
		f.mu.RUnlock()
		return nil
	}
	changes, held := f.changes, f.record.Places
	cost, err := s.cost(f)
	f.mu.RUnlock()
	if err != nil {
		return err
	}
	in, err := s.tree.Get(f.ino)
	if err != nil || in.Nlink == 0 {
		return err // it goes at its last close, and needs no place
	}
	pol, err := s.effective(f.ino)
	if err != nil {
		return err
	}
	if ahead > 0 && len(held.Runs) > 1 {
		return errBusy
	}
	cost.ahead = ahead
	to, refused := s.draw(ctx, pol, cost, held)
	if ahead > 0 && isSpace(refused) {
		return errBusy
	}
	short, _ := to.say()
	if short != "" {
		s.reapSoon() // what was removed may make the room for the copies that are missing
	}
	if isSpace(refused) {
		soon := s.reapSoon()
		if s.makeRoom(ctx, f, cost) || soon {
			to, refused = s.drawPatiently(ctx, pol, cost)
		}
	}
	if err := s.recordPlaces(f, to, refused, cost.size, changes); err != nil {
		return errors.Join(refused, err)
	}
	return refused
}

func isSpace(err error) bool {
	return errors.Is(err, store.NoSpace) || errors.Is(err, store.Quota)
}

// cost is what the content of a file takes at each place that keeps a copy.
type cost struct {
	size      int64 // of the file, in bytes
	spans     []body.Span
	adoptable bool  // the body as it is could be a crate
	ahead     int64 // bytes more, for what is written yet; without them what there was is kept
}

// cost is for a file with a body; the caller holds its lock.
func (s *FS) cost(f *file) (c cost, err error) {
	c.size = f.size
	if c.spans, _, err = s.spans(f); err != nil {
		return c, err
	}
	c.adoptable = f.body.Whole() && len(c.spans) == 1 && c.spans[0].Length == f.size
	return c, nil
}

// drawPatiently asks again until the discards that make room are done, within a
// bound.
func (s *FS) drawPatiently(ctx context.Context, pol router.Policy, c cost) (places, error) {
	until := time.Now().Add(makeRoomWait)
	for {
		to, err := s.draw(ctx, pol, c, places{})
		if !isSpace(err) || time.Now().After(until) {
			return to, err
		}
		select {
		case <-ctx.Done():
			return to, err
		case <-time.After(makeRoomPoll):
		}
	}
}

// makeRoom gives up the settled content of a file that a new one replaces wholly,
// where no place has room for both, and reports whether it did. The new content is
// synced first, as from then on it is the only one.
func (s *FS) makeRoom(ctx context.Context, f *file, c cost) bool {
	in, err := s.tree.Get(f.ino)
	if err != nil || in.List == 0 {
		return false
	}
	freed := int64(0)
	err = s.eachExtent(in.List, func(e extent.Extent) error {
		freed += store.Charge(e.Length)
		return nil
	})
	if err != nil {
		return false
	}
	bytes, enough := charge(cut(c.spans, store.MaxCrate)), false
	for _, n := range s.router.Status(ctx) {
		enough = enough || n.Durable && n.Free < bytes && n.Free+freed >= bytes
	}
	if !enough {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.body == nil || !f.body.Whole() {
		return false
	}
	if err := s.syncBody(f); err != nil {
		s.log.WithError(err).Warn("sync a body to make room for it")
		return false
	}
	_, err = s.shared.Update(func(tx *ledger.Tx) error {
		now, err := s.tree.UpdateTx(tx, f.ino, func(in *names.Inode) error {
			in.List, in.Size = 0, 0
			return nil
		})
		if err == nil && now.List == 0 && in.List != 0 {
			tx.Put(teardownKey(0, in.List), (&teardownRecord{}).encode())
		}
		return err
	})
	if err != nil {
		s.log.WithError(err).Warn("give up replaced content to make room")
		return false
	}
	f.switches++
	kick(s.tear)
	return true
}

// recordPlaces writes down what a commit came to.
func (s *FS) recordPlaces(f *file, to places, refused error, size int64, changes uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.record
	r.Size, r.Places, r.Planned = size, to, refused == nil
	r.Unplaced, r.Reason, r.Mtime = isSpace(refused), "", f.written()
	if r.Settled && f.synced != f.writes {
		// The size that counts after a power cut is the one that was synced.
		r.Size = f.record.Size
	}
	short, waiting := to.say()
	a := attentionRecord{State: Pending, Bytes: size, Reason: waiting}
	switch {
	case refused != nil:
		r.Reason = refused.Error()
		a.State, a.Reason = Unplaced, r.Reason
	case short != "":
		a.State, a.Reason = Short, short
	}
	if r.Lost {
		r.Reason = f.record.Reason
		a.State, a.Reason = Unplaced, r.Reason
	}
	stamped := f.body.Stamp(uint64(f.ino), f.written()) == nil // else the filesystem's time is nearly that
	if !f.recorded && a.State == Pending && a.Reason == "" && stamped {
		// A first close that found room everywhere need not wait for its record: after a kill
		// the body is served as it lies and is promised its space anew before anything else is.
		f.record, f.committed, f.mark = r, changes, &a
		return nil
	}
	_, err := s.local.Update(func(tx *ledger.Tx) error {
		tx.Put(key(tableBody, uint64(f.ino)), r.encode())
		return putAttention(tx, f.ino, a)
	})
	if err != nil {
		s.returnPlaces(to)
		f.record.Places, f.record.Planned = places{}, false
		return err
	}
	f.record, f.committed, f.mark, f.recorded = r, changes, nil, r.Planned
	return nil
}

// recordTx writes the record of a body, and what its last commit left to be written.
// The caller holds the lock of the file and clears its mark once the update is made.
func recordTx(tx *ledger.Tx, f *file, r *bodyRecord) error {
	tx.Put(key(tableBody, uint64(f.ino)), r.encode())
	if f.mark == nil {
		return nil
	}
	return putAttention(tx, f.ino, *f.mark)
}

// putAttention marks an inode that is not durable. What was so before keeps the
// time it began.
func putAttention(tx *ledger.Tx, ino names.Ino, a attentionRecord) error {
	a.Since = time.Now().UnixNano()
	v, ok, err := tx.Get(key(tableAttention, uint64(ino)))
	if err != nil {
		return err
	}
	if ok {
		old, err := decodeAttention(v)
		if err != nil {
			return err
		}
		if old.State == a.State {
			a.Since = old.Since
		}
		if a.Reason == "" {
			a.Reason = old.Reason // what stood in the way of the copies when they were asked for
		}
	}
	tx.Put(key(tableAttention, uint64(ino)), a.encode())
	return nil
}

// attention gives what is not in order with an inode's content; ok is false when it
// is durable.
func (s *FS) attention(ino names.Ino) (a attentionRecord, ok bool, err error) {
	v, ok, err := s.local.Get(key(tableAttention, uint64(ino)))
	if err != nil || !ok {
		return a, false, err
	}
	a, err = decodeAttention(v)
	return a, err == nil, err
}

// markSettled records that the body is on the disk as it is now.
func (s *FS) markSettled(f *file) error {
	f.synced = f.writes
	r := f.record
	r.Settled, r.Size, r.Mtime = true, f.size, f.written()
	if _, err := s.putBody(f, &r); err != nil {
		return err
	}
	f.record = r
	return nil
}
