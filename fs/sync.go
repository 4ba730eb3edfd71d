package fs

import (
	"context"
	"errors"
	"fmt"

	"stasis/fs/body"
	"stasis/store"
	"stasis/store/ledger"
)

// When a sync fails, what it was to write may be gone from the page cache, and a later sync
// succeeds all the same. So a body whose sync has failed once is lost to this machine: that is
// recorded, every fsync of the file fails from then on, its content is not cut into crates, and no
// copy is called safe. It ends when the file is emptied, or replaced: what is written then goes to
// another body.

// lostError is what a sync of a lost body gives.
type lostError struct{ reason string }

func (e *lostError) Error() string { return e.reason }

// Is has it be a store.Corrupt, which programs see as EIO.
func (e *lostError) Is(target error) bool { return target == error(store.Corrupt) }

// fsync makes a file durable on this machine: its body, its map, and the ledger up
// to the last operation on it and its names.
func (s *FS) fsync(ctx context.Context, f *file) error {
	if err := s.commit(ctx, f); err != nil {
		return err
	}
	if err := s.syncContent(f); err != nil {
		return err
	}
	return s.db.Sync(ctx, s.db.Position())
}

// syncContent makes the body of a file, if it has one, what counts after a power cut, once the
// ledger is synced. Its data is synced without the lock of the file, for which whoever only
// looks at it would wait.
func (s *FS) syncContent(f *file) error {
	if err := s.syncApart(f); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.body == nil {
		return nil
	}
	return s.syncBody(f) // what was written meanwhile is little
}

// syncBody is syncContent for those who hold the lock of the file, which has a body.
func (s *FS) syncBody(f *file) error {
	switch {
	case f.record.Lost:
		return &lostError{f.record.Reason}
	case f.synced != f.writes:
		if err := f.body.Sync(); err != nil {
			return s.loseHeld(f, err)
		}
	case f.record.Settled && f.record.Size == f.size && f.record.Mtime == f.written():
		return nil
	}
	return s.markSettled(f)
}

// lose is loseHeld for a body that was synced without the lock of its file.
func (s *FS) lose(f *file, b *body.Body, cause error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.body != b {
		return cause // it was replaced meanwhile, or became crates: those read what is there
	}
	return s.loseHeld(f, cause)
}

// loseHeld records that a sync of the body has failed; it gives the error of that.
func (s *FS) loseHeld(f *file, cause error) error {
	if f.record.Lost {
		return &lostError{f.record.Reason}
	}
	s.log.WithError(cause).WithField("inode", f.ino).Error("what was written to a file could not be brought to this machine's disk and may be lost; write the file anew")
	r := f.record
	r.Lost = true
	r.Reason = fmt.Sprintf("what was written could not be brought to this machine's disk and may be lost; write the file anew (%v)", cause)
	f.record = r // whether or not the ledger can have it
	_, err := s.local.Update(func(tx *ledger.Tx) error {
		if err := recordTx(tx, f, &r); err != nil {
			return err
		}
		return putAttention(tx, f.ino, attentionRecord{State: Unplaced, Bytes: f.size, Reason: r.Reason})
	})
	if err == nil {
		f.mark, f.recorded = nil, r.Planned
	}
	return errors.Join(&lostError{r.Reason}, err)
}

// renewBody gives a file that is being emptied another body, as the one it has is lost. The caller
// holds its lock.
func (s *FS) renewBody(f *file) error {
	b, err := s.bodies.Create(true)
	if err != nil {
		return err
	}
	r := bodyRecord{Body: b.ID, Whole: true}
	was := f.body
	if err = b.Stamp(uint64(f.ino), 0); err == nil {
		_, err = s.local.Update(func(tx *ledger.Tx) error {
			dropTx(tx, was.ID)
			return recordTx(tx, f, &r)
		})
	}
	if err != nil {
		return errors.Join(err, b.Release(), s.bodies.Remove(b.ID))
	}
	s.returnPlaces(f.record.Places)
	err = was.Release()
	f.setBody(b, r)
	f.mark, f.recorded = nil, false
	f.size = 0
	f.changes, f.committed, f.writes, f.synced = 0, 0, 1, 0
	f.switches++
	return err
}
