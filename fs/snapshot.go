package fs

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// snapshotLoop seals, from time to time, what programs have written to files that they
// keep open: a log or a database would else have no copy until it is closed.
func (s *FS) snapshotLoop() {
	t := time.NewTicker(snapshotPoll)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-t.C:
			s.snapshot(s.ctx, now.Add(-snapshotAge))
		}
	}
}

// snapshot seals the open files whose bodies were made before a time.
func (s *FS) snapshot(ctx context.Context, before time.Time) {
	for _, f := range s.inUse() {
		f.mu.RLock()
		due := f.body != nil && f.since.Before(before)
		f.mu.RUnlock()
		if due && s.writing(f) && ctx.Err() == nil {
			err := s.seal(ctx, f)
			var lost *lostError
			if err != nil && !errors.As(err, &lost) && !isSpace(err) && !errors.Is(err, errBusy) && !errors.Is(err, syscall.ENOENT) && ctx.Err() == nil {
				s.log.WithError(err).WithField("inode", f.ino).Warn("copy what a program has written to a file that it keeps open; it is tried again")
			}
		}
		s.unpin(f)
	}
}
