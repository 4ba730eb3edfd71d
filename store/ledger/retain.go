package ledger

import "errors"

// tidy prepares the spare segment and gives up the segments that nothing needs:
// those folded into bbolt, unless a restore of the newest backup would replay
// them. backup is that backup's position; keep bounds what is kept for it, in bytes.
func (j *journal) tidy(folded, backup Position, hasBackup bool, keep int64) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	var errs []error
	gone, err := j.unneeded(folded, backup, hasBackup, keep)
	if err != nil {
		errs = append(errs, err)
	}
	for _, s := range gone {
		if err := j.giveUp(s); err != nil {
			errs = append(errs, err)
		}
	}
	j.preparing.Lock()
	defer j.preparing.Unlock()
	if j.spare == nil && len(errs) == 0 {
		errs = append(errs, j.prepare(nil, j.size))
	}
	return errors.Join(errs...)
}

// unneeded takes the segments to be given up off the list, oldest first, and
// closes those that are only kept. The caller holds syncing.
func (j *journal) unneeded(folded, backup Position, hasBackup bool, keep int64) (gone []*segment, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var kept int64
	cut := 0
	for i := len(j.sealed) - 1; i >= 0; i-- {
		s := j.sealed[i]
		if s.last > folded {
			continue
		}
		err = errors.Join(err, s.close())
		if kept += s.end; !hasBackup || s.last <= backup || kept > keep {
			cut = i + 1
			break
		}
	}
	gone = j.sealed[:cut:cut]
	j.sealed = j.sealed[cut:]
	return gone, err
}

// giveUp makes a segment the spare, if there is none, or removes it.
func (j *journal) giveUp(s *segment) error {
	if err := s.close(); err != nil {
		return err
	}
	j.preparing.Lock()
	defer j.preparing.Unlock()
	var err error
	if j.spare == nil && s.header.size == j.size && !s.failed && !s.unreadable {
		err = j.prepare(s, j.size)
	}
	// If it became the spare its old name is gone, and if that failed what remains
	// under the spare's temporary name is removed by the next attempt.
	return errors.Join(err, ignoreAbsent(j.fs.Remove(s.name)))
}

// kept says what a restore would find: the bytes of journal that are kept, and
// whether they go on without a gap from a backup at position p.
func (j *journal) kept(p Position) (bytes int64, continues bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := j.sealed
	if j.active != nil {
		all = append(all[:len(all):len(all)], j.active)
	}
	next := p + 1
	continues = true
	for _, s := range all {
		if s.last <= p {
			continue
		}
		bytes += s.end
		if s.failed || s.unreadable || s.from > next {
			continues = false
		}
		next = s.last + 1
	}
	return bytes, continues && next == max(j.last, p)+1
}

// finish makes everything durable with a mark that says so, and gives up what
// was preallocated and not used.
func (j *journal) finish(folded Position) error {
	need, err := j.sync(folded)
	if need > folded {
		return err
	}
	if err := j.mark(); err != nil {
		return err
	}
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	var errs []error
	if s := j.active; s != nil {
		errs = append(errs, s.f.Truncate(s.end), s.f.Datasync())
	}
	return errors.Join(errs...)
}

// close gives up all files.
func (j *journal) close() error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.preparing.Lock()
	defer j.preparing.Unlock()
	var errs []error
	for _, s := range j.sealed {
		errs = append(errs, s.close())
	}
	for _, s := range []*segment{j.active, j.spare} {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	j.active, j.spare = nil, nil
	return errors.Join(errs...)
}
