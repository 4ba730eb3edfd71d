package fs

import (
	"context"
	"errors"
	"os"
	"syscall"

	"stasis/fs/body"
	"stasis/fs/extent"
	"stasis/store"
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
// there is none to send. Unless ahead is 0 writers are held up for the last sync, and what they
// wrote since the space was drawn may take so many bytes. The caller holds f.sealing.
func (s *FS) switchOver(ctx context.Context, f *file, ahead int64) (planned int, err error) {
	f.committing.Lock()
	defer f.committing.Unlock()
	if err := s.commitHeld(ctx, f, ahead); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.body == nil {
		return 0, nil
	}
	if ahead > 0 {
		if err := s.syncBody(f); err != nil {
			return 0, err
		}
	}
	c, err := s.cutBody(f, ahead > 0)
	if err != nil {
		return 0, err
	}
	return c.to.wanted(), s.apply(f, c)
}

// cutBody plans the crates of a body that is synced, and the list that names them. more: there may
// be more than was committed, if it fits into what was drawn. The caller holds all of the file's
// locks.
func (s *FS) cutBody(f *file, more bool) (*change, error) {
	in, err := s.tree.Get(f.ino)
	if err != nil {
		return nil, err
	}
	if in.Nlink == 0 {
		return nil, syscall.ENOENT
	}
	if f.record.Lost {
		return nil, &lostError{f.record.Reason}
	}
	if f.changes != f.committed && !more || f.writes != f.synced || !f.record.Planned {
		return nil, errBusy
	}
	spans, holes, err := s.spans(f)
	if err != nil {
		return nil, err
	}
	if !f.body.Whole() && len(f.lacking(spans, 0)) > 0 {
		return nil, errBusy // written since it was completed
	}
	pieces := cut(spans, max(f.record.Places.Part, store.BlockSize))
	if f.changes != f.committed && !f.record.Places.fit(pieces) {
		return nil, errBusy
	}
	var base []extent.Extent
	if !f.body.Whole() {
		if err := s.eachExtent(in.List, func(e extent.Extent) error { base = append(base, e); return nil }); err != nil {
			return nil, err
		}
	}
	made := make([]extent.Extent, len(pieces))
	for i, p := range pieces {
		made[i] = extent.Extent{Offset: p.Offset, Length: p.Length, Crate: store.NewCrateID()}
	}
	c := &change{ino: f.ino, made: made, to: f.record.Places, list: extent.Overlay(extent.Without(base, holes...), made, f.record.Limit),
		size: f.size, mtime: f.written(), body: f.body.ID, record: f.record, mark: f.mark}
	if len(c.list) > 0 {
		if c.id, err = s.tree.NewListID(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// apply makes a change to the content of a file whose body it comes from. The caller holds all
// of the file's locks.
func (s *FS) apply(f *file, c *change) error {
	added, err := s.make(c)
	if c.begun {
		// The record says what was begun, so that a start takes it back or finishes it.
		f.record, f.mark, f.recorded = c.record, nil, c.record.Planned
	}
	if err != nil && !c.switched {
		return err
	}
	s.letGo(f)
	if err != nil {
		// The switch is made; the rest is owed, and is done before there is another body.
		f.owed = &owed{c.record, c.made}
		s.mu.Lock()
		f.pins++ // so that it is not forgotten
		s.unsealed = append(s.unsealed, f.ino)
		s.mu.Unlock()
		return err
	}
	s.handOver(c.to, added)
	return nil
}

// letGo has a file do without its body, which is only where crates lie from now on. The caller
// holds its lock.
func (s *FS) letGo(f *file) {
	if e := f.body.Trim(); e != nil {
		s.log.WithError(e).WithField("body", f.body.Path()).Warn("give back room past the end of a body")
	}
	if e := f.body.Release(); e != nil {
		s.log.WithError(e).WithField("body", f.body.Path()).Warn("close a body")
	}
	f.setBody(nil, bodyRecord{})
	f.mark = nil
	f.switches++
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
	added, err := s.finishSeal(f.ino, f.owed.record, f.owed.made)
	if err != nil {
		return err
	}
	s.handOver(f.owed.record.Places, added)
	f.owed = nil
	s.mu.Lock()
	f.pins-- // the caller has another
	s.mu.Unlock()
	return nil
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
	for try := range 2 * sealTries {
		if err := s.commit(ctx, f); err != nil {
			return err
		}
		if err := s.complete(ctx, f); err != nil {
			return err
		}
		if err := s.syncApart(f); err != nil {
			return err
		}
		// Who writes faster than it can be synced is held up at last, for a sync that is short since
		// the ones before it.
		ahead := int64(0)
		if held := try - sealTries; held >= 0 {
			ahead = sealAhead << (2 * held)
		}
		if err := s.switchAndAssess(ctx, f, ahead); err != errBusy {
			return err
		}
	}
	return errBusy
}

// writtenBody is a body with what had been written to it at some moment. Bodies count
// their writes from the beginning each: neither tells without the other what a sync covers.
type writtenBody struct {
	body         *body.Body
	writes       uint64
	synced, lost bool
}

func (f *file) writtenBody() writtenBody {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return writtenBody{f.body, f.writes, f.synced == f.writes, f.record.Lost}
}

// syncApart syncs the body of a file while writers may go on, unless it was synced with
// others.
func (s *FS) syncApart(f *file) error {
	w := f.writtenBody()
	if w.body == nil || w.synced || w.lost {
		return nil
	}
	if err := w.body.SyncData(); err != nil && !errors.Is(err, os.ErrClosed) {
		return s.lose(f, w.body, err)
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
	if f.record.Lost {
		return nil // what it says of itself now is not to be believed
	}
	if err := w.body.MarkSynced(); err != nil {
		return s.loseHeld(f, err)
	}
	f.synced = w.writes
	return nil
}

// switchAndAssess is switchOver and assessSealed.
func (s *FS) switchAndAssess(ctx context.Context, f *file, ahead int64) error {
	planned, err := s.switchOver(ctx, f, ahead)
	if err != nil {
		return err
	}
	s.notify()
	return s.assessSealed(ctx, f, planned)
}

// assessSealed looks at a file that was just cut into crates where no copy is sent, so that nothing
// will report, and where more copies are wanted by now than were planned at the close: the file
// was moved, or the policy changed.
func (s *FS) assessSealed(ctx context.Context, f *file, planned int) error {
	if planned == 0 {
		return s.assess(f.ino)
	}
	if pol, err := s.effective(f.ino); err == nil && pol.Copies > planned {
		s.reconsider(ctx, f.ino)
	}
	return nil
}
