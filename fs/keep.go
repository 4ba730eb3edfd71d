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

// keepSettled sees to it that a truncation to nothing leaves the settled content behind. Where
// that can't be, as a node that part of it is read from is away, the file is empty after a power
// cut as it is now: shrink sees to that.
func (s *FS) keepSettled(ctx context.Context, f *file) {
	if !f.settledInBody() {
		return
	}
	if _, err := s.tryseal(ctx, f); err != nil {
		s.log.WithError(err).WithField("inode", f.ino).Debug("keep the content of a file that is emptied")
	}
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

// keepReplaced sees to it that a power cut leaves the settled content of the file that r is
// about to replace, or that of f, which takes its place. inherit says that f may take over
// the list of the other: nobody can read the other any more.
func (s *FS) keepReplaced(ctx context.Context, r names.Rename, f *file) (inherit bool, err error) {
	if r.Exchange || r.NoReplace || !f.unsettled() {
		return false, nil
	}
	old, err := s.tree.Lookup(r.To, r.NewName)
	if err != nil || !old.IsRegular() || old.Ino == f.ino {
		return false, nil // the rename says what is wrong, if anything
	}
	if old.Nlink == 1 {
		keep, inherit := s.inheritable(ctx, old)
		if !keep || inherit {
			return inherit, nil
		}
	}
	return false, s.syncContent(f)
}

// inheritable says whether a file about to lose its only name has settled content to
// keep, and whether that is, or could be made, a list that another may take over. What a
// program has open, or the kernel may open yet, keeps its list to itself.
func (s *FS) inheritable(ctx context.Context, old names.Inode) (keep, inherit bool) {
	was, used := s.readable(old.Ino)
	if was != nil {
		defer s.unpin(was)
	}
	inBody := was != nil && was.settledInBody()
	switch {
	case used:
		return inBody || old.List != 0 || old.Size != 0, false
	case !inBody:
		return true, true
	}
	sealed, err := s.tryseal(ctx, was)
	if err != nil {
		s.log.WithError(err).WithField("inode", old.Ino).Warn("keep the content of a file that is replaced; the new one is synced instead")
	}
	return true, sealed
}

// readable gives the file of an inode, pinned, if there is one, and whether programs can
// read it without a name: they have it open, or the kernel knows it.
func (s *FS) readable(ino names.Ino) (f *file, used bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used = s.refs.Get(ino) > 0
	if f = s.files[ino]; f != nil {
		used = used || f.pins > 0
		f.pins++
	}
	return f, used
}

// unsettled reports whether a power cut would take all content the file has.
func (f *file) unsettled() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.body != nil && f.body.Whole() && !f.record.Settled
}
