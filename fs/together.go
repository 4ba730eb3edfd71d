package fs

import (
	"cmp"
	"context"
	"slices"

	"stasis/router"
	"stasis/store/ledger"
)

// sealTogether cuts files without writers, small and synced, into crates with as few updates of
// the ledger as hold them. It gives those that are left to be sealed alone: somebody uses them, or
// something is to be done first.
func (s *FS) sealTogether(ctx context.Context, files []*file) (rest []*file) {
	slices.SortFunc(files, func(a, b *file) int { return cmp.Compare(a.ino, b.ino) })
	for len(files) > 0 && ctx.Err() == nil {
		var group []*file
		var changes []*change
		for room := s.keys; len(files) > 0; files = files[1:] {
			f := files[0]
			if !f.tryLockAll() {
				rest = append(rest, f)
				continue
			}
			c, err := s.simpleChange(f)
			if err == nil && c.keys() > room && len(group) > 0 {
				f.unlockAll()
				break // it is in the next group
			}
			if err == nil && c.keys() <= room {
				c.waits, err = s.expects(c)
			}
			if err != nil || c.keys() > room {
				f.unlockAll()
				rest = append(rest, f)
				continue
			}
			room -= c.keys()
			group, changes = append(group, f), append(changes, c)
		}
		rest = append(rest, s.applyTogether(ctx, group, changes)...)
	}
	return append(rest, files...)
}

// applyTogether makes changes in one update, and gives the files for which that was not done.
func (s *FS) applyTogether(ctx context.Context, group []*file, changes []*change) (rest []*file) {
	if len(group) == 0 {
		return nil
	}
	added := make([][][]router.Added, len(changes))
	_, err := s.shared.Update(func(tx *ledger.Tx) error {
		for i, c := range changes {
			var err error
			if added[i], err = s.changeTx(tx, c); err != nil {
				return err
			}
		}
		return nil
	})
	for i, f := range group {
		if err != nil {
			s.waiting.set(f.ino, changes[i].waits)
			f.unlockAll()
			continue
		}
		s.letGo(f)
		s.handOver(changes[i].to, added[i])
		f.unlockAll()
	}
	if err != nil {
		return group // each says what is wrong with it
	}
	s.notify()
	for i, f := range group {
		if err := s.assessSealed(ctx, f, changes[i].to.wanted()); err != nil && ctx.Err() == nil {
			s.log.WithError(err).WithField("inode", f.ino).Error("look at a file that was cut into crates")
		}
	}
	return nil
}

// simpleChange plans the crates of a file that is committed and synced. The caller holds all of
// its locks.
func (s *FS) simpleChange(f *file) (*change, error) {
	if f.body == nil || f.owed != nil || !f.body.Whole() || s.writing(f) {
		return nil, errBusy
	}
	return s.cutBody(f, false)
}

// tryLockAll takes all locks of a file, in their order, unless somebody has one: whoever has
// those of several files waits for none.
func (f *file) tryLockAll() bool {
	if !f.sealing.TryLock() {
		return false
	}
	if !f.committing.TryLock() {
		f.sealing.Unlock()
		return false
	}
	if !f.mu.TryLock() {
		f.committing.Unlock()
		f.sealing.Unlock()
		return false
	}
	return true
}

func (f *file) unlockAll() {
	f.mu.Unlock()
	f.committing.Unlock()
	f.sealing.Unlock()
}
