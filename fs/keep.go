package fs

import (
	"context"
	"errors"
	"syscall"

	"stasis/fs/names"
)

// A file that is replaced keeps what it had until the new content is synced: whoever
// empties a file and writes it anew, or renames a new file over it, finds the one or the
// other after a power cut, never nothing. Settled content that lies in a body alone
// would go with the body, so it is made the inode's list first. It was synced, so that
// takes a few updates of the ledger.

// keepSettled sees to it that a truncation to nothing leaves the settled content behind.
func (s *FS) keepSettled(ctx context.Context, f *file) error {
	if !f.settledInBody() {
		return nil
	}
	_, err := s.tryseal(ctx, f)
	return err
}

// settledInBody reports whether the body is the only place of content that was synced.
func (f *file) settledInBody() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.body != nil && f.record.Settled && f.record.Size > 0
}

// tryseal seals a file, unless it is being written too fast, has no place, or no name.
func (s *FS) tryseal(ctx context.Context, f *file) (sealed bool, err error) {
	err = s.seal(ctx, f)
	if errors.Is(err, errBusy) || isSpace(err) || errors.Is(err, syscall.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// keepReplaced sees to it that the settled content of the file that r is about to replace
// can be inherited by the one that takes its place, f; where it can't, f is synced.
func (s *FS) keepReplaced(ctx context.Context, r names.Rename, f *file) error {
	if r.Exchange || r.NoReplace || !f.unsettled() {
		return nil
	}
	old, err := s.tree.Lookup(r.To, r.NewName)
	if err != nil || !old.IsRegular() || old.Ino == f.ino {
		return nil // the rename says what is wrong, if anything
	}
	if old.Nlink == 1 {
		was := s.pinned(old.Ino)
		if was == nil {
			return nil
		}
		defer s.unpin(was)
		if !was.settledInBody() {
			return nil
		}
		if sealed, err := s.tryseal(ctx, was); sealed {
			return nil
		} else if err != nil {
			s.log.WithError(err).WithField("inode", old.Ino).Warn("keep the content of a file that is replaced; the new one is synced instead")
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.body == nil {
		return nil
	}
	return s.syncBody(f)
}

// unsettled reports whether a power cut would take all content the file has.
func (f *file) unsettled() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.body != nil && f.body.Whole() && !f.record.Settled
}
