package fs

import (
	"encoding/binary"
	"errors"
	"syscall"
	"time"

	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
	"stasis/store/ledger"
)

func references(tx *ledger.Tx, c store.CrateID) (uint64, error) {
	v, ok, err := tx.Get(crateKey(tableRefs, c))
	if err != nil || !ok {
		return 0, err
	}
	return decodeCount(v)
}

func putReferences(tx *ledger.Tx, c store.CrateID, n uint64) {
	if n == 0 {
		tx.Delete(crateKey(tableRefs, c))
		return
	}
	tx.Put(crateKey(tableRefs, c), binary.AppendUvarint(nil, n))
}

// release lets go of the lists an inode had before, as far as the content it has now
// has as many copies as they had.
func (s *FS) release(ino names.Ino) {
	from, to := teardownKey(ino, 0), key(tableTeardown, uint64(ino)+1)
	pairs, err := s.shared.Scan(from, to, extentsPerScan)
	if err != nil {
		s.log.WithError(err).Error("find replaced content")
		return
	}
	if len(pairs) == 0 {
		return
	}
	// With nothing to wait for the content has what can be had: the least copies of
	// nothing is anyCopies.
	have := s.leastCopies(s.waiting.of(ino))
	released := false
	for _, p := range pairs {
		r, err := decodeTeardown(p.Value)
		if err != nil {
			s.log.WithError(err).Error("read the record of replaced content")
			continue
		}
		if have < r.Copies {
			continue
		}
		list := names.ListID(binary.BigEndian.Uint64(p.Key[9:]))
		_, err = s.shared.Update(func(tx *ledger.Tx) error {
			tx.Delete(teardownKey(ino, list))
			tx.Put(teardownKey(0, list), r.encode())
			return nil
		})
		if err != nil {
			s.log.WithError(err).Error("let go of replaced content")
			continue
		}
		released = true
	}
	if released {
		kick(s.tear)
	}
}

// tearLoop takes lists apart that nothing names any more.
func (s *FS) tearLoop() {
	for {
		s.tearAll()
		select {
		case <-s.ctx.Done():
			return
		case <-s.tear:
		}
	}
}

func (s *FS) tearAll() {
	from := teardownKey(0, 0)
	for s.ctx.Err() == nil {
		pairs, err := s.shared.Scan(from, key(tableTeardown, 1), extentsPerScan)
		if err != nil {
			s.log.WithError(err).Error("find replaced content")
			return
		}
		for _, p := range pairs {
			list := names.ListID(binary.BigEndian.Uint64(p.Key[9:]))
			if s.building.has(list) {
				continue
			}
			if err := s.tearDown(list); err != nil {
				s.log.WithError(err).Error("take replaced content apart")
				return
			}
		}
		if len(pairs) < extentsPerScan {
			return
		}
		from = append(pairs[len(pairs)-1].Key, 0)
	}
}

// tearDown removes a list: each extent gives up its reference, and crates that
// nothing refers to any more are dead.
func (s *FS) tearDown(list names.ListID) error {
	for {
		var dead []store.CrateID
		left := false
		_, err := s.shared.Update(func(tx *ledger.Tx) error {
			var err error
			dead, left, err = s.tearTx(tx, list)
			if err == nil && !left {
				tx.Delete(teardownKey(0, list))
			}
			return err
		})
		if err != nil {
			return err
		}
		s.buried(dead)
		if !left {
			return nil
		}
	}
}

// tearTx removes as many extents of a list as fit into an update. It gives the crates
// that died of it, and whether extents are left.
func (s *FS) tearTx(tx *ledger.Tx, list names.ListID) (dead []store.CrateID, left bool, err error) {
	pairs, err := tx.Scan(extentKey(list, 0), key(tableExtent, uint64(list)+1), extentsPerUpdate)
	if err != nil {
		return nil, false, err
	}
	room := updateKeys
	for _, p := range pairs {
		if room -= 2; room <= router.DeadKeys {
			return dead, true, nil
		}
		e, err := decodeExtent(p)
		if err != nil {
			return nil, false, err
		}
		n, err := references(tx, e.Crate)
		if err != nil {
			return nil, false, err
		}
		if n > 1 {
			tx.Delete(p.Key)
			putReferences(tx, e.Crate, n-1)
			continue
		}
		shares, err := dropSharesTx(tx, e.Crate, room-router.DeadKeys)
		if err != nil {
			return nil, false, err
		}
		if room -= shares; room <= router.DeadKeys {
			return dead, true, nil // there may be more of them
		}
		tx.Delete(p.Key)
		putReferences(tx, e.Crate, 0)
		written, err := s.router.DeadTx(tx, e.Crate)
		if err != nil {
			return nil, false, err
		}
		room -= written
		dead = append(dead, e.Crate)
	}
	return dead, len(pairs) == extentsPerUpdate, nil
}

// buried does what is left to do for crates that died: their bodies, and the nodes.
func (s *FS) buried(dead []store.CrateID) {
	if len(dead) == 0 {
		return
	}
	if err := s.unlie(dead...); err != nil {
		s.log.WithError(err).Error("forget bodies of crates that are not needed any more")
	}
	s.router.Kick()
}

// reapLater notes an inode for removal if it has no name and nobody uses it. The
// caller holds s.mu.
func (s *FS) reapLater(ino names.Ino) {
	if !s.orphans.Has(ino) || s.refs.Get(ino) > 0 {
		return
	}
	if f := s.files[ino]; f != nil && f.pins > 0 {
		return
	}
	s.orphans.Delete(ino)
	s.reapable = append(s.reapable, ino)
	s.leftAt = time.Now()
	kick(s.reaps)
}

func (s *FS) reapLoop() {
	for {
		s.reapAll()
		select {
		case <-s.ctx.Done():
			return
		case <-s.reaps:
		}
		s.awaitQuiet()
	}
}

// awaitQuiet leaves the machine, within a bound, to programs that remove one file after
// another, unless somebody needs the space.
func (s *FS) awaitQuiet() {
	for until := time.Now().Add(reapPatience); time.Now().Before(until); {
		select {
		case <-s.ctx.Done():
			return
		case <-s.reapNow:
			return
		case <-time.After(reapQuiet):
		}
		s.mu.Lock()
		quiet := time.Since(s.leftAt) >= reapQuiet
		s.mu.Unlock()
		if quiet {
			return
		}
	}
}

// reapSoon has what was removed give its space back at once, and reports whether there is
// anything that waits to.
func (s *FS) reapSoon() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	kick(s.reapNow)
	return len(s.reapable) > 0
}

func (s *FS) reapAll() {
	for s.ctx.Err() == nil {
		s.mu.Lock()
		if len(s.reapable) == 0 {
			s.reapable = nil // with what it took for the most there were
			s.mu.Unlock()
			return
		}
		ino := s.reapable[0]
		s.reapable = s.reapable[1:]
		s.mu.Unlock()
		if err := s.reap(ino); err != nil {
			s.log.WithError(err).WithField("inode", ino).Error("remove a deleted file; it is tried again at the next start")
		}
	}
}

// reap removes an inode that has no name and no user, its content and its body.
func (s *FS) reap(ino names.Ino) error {
	f := s.pin(ino)
	defer s.unpin(f)
	f.sealing.Lock()
	defer f.sealing.Unlock()
	f.committing.Lock()
	defer f.committing.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	var dead []store.CrateID
	later := false
	_, err := s.tree.Remove(ino, func(tx *ledger.Tx, in names.Inode) (err error) {
		dead, later = nil, false
		if in.List == 0 {
			return nil
		}
		if dead, later, err = s.tearTx(tx, in.List); err == nil && later {
			tx.Put(teardownKey(0, in.List), (&teardownRecord{}).encode())
		}
		return err
	})
	if errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.ENOENT) {
		return nil // it was given a name again, or is gone already
	}
	if err != nil {
		return err
	}
	s.atimes.drop(ino)
	s.waiting.set(ino, nil)
	s.release(ino)
	s.buried(dead)
	if later {
		kick(s.tear)
	}
	return s.forgetBody(f)
}

// forgetBody drops the body of a file that is gone, and the marks of its inode. The
// caller holds all of the file's locks.
func (s *FS) forgetBody(f *file) error {
	w, u := key(tableBody, uint64(f.ino)), key(tableAttention, uint64(f.ino))
	marked, err := s.hasLocal(u)
	if err != nil {
		return err
	}
	if f.body == nil && !marked {
		return nil
	}
	pos, err := s.local.Update(func(tx *ledger.Tx) error {
		tx.Delete(w)
		tx.Delete(u)
		if f.body != nil {
			dropTx(tx, f.body.ID)
		}
		return nil
	})
	if err != nil || f.body == nil {
		return err
	}
	s.returnPlaces(f.record.Places)
	err = f.body.Release()
	s.drops.add(f.body.ID, pos)
	f.setBody(nil, bodyRecord{})
	f.mark = nil
	f.switches++
	return err
}

func (s *FS) hasLocal(k []byte) (bool, error) {
	_, ok, err := s.local.Get(k)
	return ok, err
}
