package directory

import (
	"context"

	"stasis/store"
)

const opDiscard = "discard crate"

// Discard is store.Store's. Readers and files that are open go on.
func (s *Store) Discard(ctx context.Context, r store.DiscardRequest) error {
	return s.done(ctx, opDiscard, toChange, func() error {
		unlock, err := s.lock(ctx, opDiscard, r.Crate)
		if err != nil {
			return err
		}
		defer unlock()
		return s.crateError(opDiscard, r.Crate, s.discard(r.Crate))
	})
}

// discard takes a crate out, then unlinks its file. Whoever calls has its lock.
func (s *Store) discard(id store.CrateID) error {
	rec, ok, err := s.index.find(id)
	if err != nil {
		return err
	}
	if !ok {
		// It may have gone in an attempt whose sync failed.
		err := s.index.sync(context.Background(), s.index.db.Position())
		if err == nil {
			_, err = s.publish()
		}
		return err
	}
	m := s.newMark(rec.form)
	p, err := s.index.discard(rec, m)
	if err != nil {
		return err
	}
	// It is done, and on its way to be durable: neither waits for the caller any more.
	err = s.index.sync(context.Background(), p)
	if removal := s.tree.remove(id, rec.form); removal != nil {
		// The mark sees to it at the next open; until then the space is the device's loss.
		s.log.WithError(removal).Warn("the file of a discarded crate could not be removed; the next open does it")
	} else {
		s.unlinked(id, m)
	}
	s.book.Freed(rec.charge())
	// After the file has gone, which makes room where a disk without any needs some for this.
	if _, telling := s.publish(); err == nil {
		err = telling
	}
	return err
}

func (s *Store) newMark(form store.Form) mark {
	return mark{number: s.index.number.Add(1), form: form}
}

// unlinked remembers a mark that may go when its directory is synced, and sees to
// that when there are many.
func (s *Store) unlinked(id store.CrateID, m mark) {
	s.mu.Lock()
	s.marks[id] = m
	many := len(s.marks) >= marksKept
	s.mu.Unlock()
	if !many {
		return
	}
	if err := s.retireMarks(); err != nil {
		s.log.WithError(err).Warn("discards could not be put away; a later one does it")
	}
	if err := s.index.prune(); err != nil {
		s.log.WithError(err).Warn("old tombstones could not be removed")
	}
}
