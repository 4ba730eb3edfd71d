package fs

import (
	"encoding/binary"
	"errors"
	"slices"
	"syscall"
	"time"

	"stasis/fs/names"
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
// has as many copies as they had, or all that can be had, if that is any.
func (s *FS) release(ino names.Ino) error {
	pairs, err := s.shared.Scan(teardownKey(ino, 0), key(tableTeardown, uint64(ino)+1), extentsPerScan)
	if err != nil || len(pairs) == 0 {
		return err
	}
	if waits := s.waiting.of(ino); len(waits) > 0 && !anyReleased(pairs, s.leastCopies(waits)) {
		return nil // without a look at all of a long list at each receipt
	}
	h, err := s.examine(ino)
	if gone(err) {
		h, err = held{copies: anyCopies}, nil
	}
	if err != nil {
		return err
	}
	have := h.copies
	if have >= h.wanted || have > 0 && len(h.waits) == 0 {
		have = anyCopies
	}
	released := false
	_, err = s.shared.Update(func(tx *ledger.Tx) error {
		released = false
		for _, p := range pairs {
			if tx.Room() < 2 {
				break
			}
			r, err := decodeTeardown(p.Value)
			if err != nil {
				return err
			}
			if have < r.Copies {
				continue
			}
			list := names.ListID(binary.BigEndian.Uint64(p.Key[9:]))
			tx.Delete(teardownKey(ino, list))
			tx.Put(teardownKey(0, list), r.encode())
			released = true
		}
		return nil
	})
	if err == nil && released {
		kick(s.tear)
	}
	return err
}

// anyReleased reports whether some copies are enough to let go of a list.
func anyReleased(pairs []ledger.Pair, have int) bool {
	return slices.ContainsFunc(pairs, func(p ledger.Pair) bool {
		r, err := decodeTeardown(p.Value)
		return err != nil || have >= r.Copies
	})
}

// tearLoop takes lists apart that nothing names any more.
func (s *FS) tearLoop() {
	for {
		var again <-chan time.Time
		if err := s.tearAll(); err != nil && s.ctx.Err() == nil {
			s.log.WithError(err).Error("take replaced content apart; it is tried again")
			again = time.After(workRetry)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-again:
		case <-s.tear:
		}
	}
}

func (s *FS) tearAll() error {
	from := teardownKey(0, 0)
	for s.ctx.Err() == nil {
		pairs, err := s.shared.Scan(from, key(tableTeardown, 1), extentsPerScan)
		if err != nil {
			return err
		}
		for _, p := range pairs {
			list := names.ListID(binary.BigEndian.Uint64(p.Key[9:]))
			if s.building.has(list) {
				continue
			}
			if err := s.tearDown(list); err != nil {
				return err
			}
		}
		if len(pairs) < extentsPerScan {
			return nil
		}
		from = append(pairs[len(pairs)-1].Key, 0)
	}
	return nil
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
	pairs, err := tx.Scan(extentKey(list, 0), key(tableExtent, uint64(list)+1), s.keys/extentKeys)
	if err != nil {
		return nil, false, err
	}
	for _, p := range pairs {
		room := tx.Room() - namesKeys
		if room <= tearKeys {
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
		dies, err := s.dieTx(tx, e.Crate, room-tearKeys)
		if err != nil || !dies {
			return dead, true, err
		}
		tx.Delete(p.Key)
		putReferences(tx, e.Crate, 0)
		dead = append(dead, e.Crate)
	}
	return dead, len(pairs) == s.keys/extentKeys, nil
}

// tearKeys is how many keys an extent takes that is torn down, at most, beside those of a crate
// that dies with it: the extent, the references, and where the crate lies.
const tearKeys = 2 + unlieKeys

// dieTx has a crate die that nothing refers to any more: nobody shares it, it lies nowhere here,
// and is discarded wherever it was meant for. false: that does not fit into room keys, and is done
// in part.
func (s *FS) dieTx(tx *ledger.Tx, c store.CrateID, room int) (done bool, err error) {
	shares, err := dropSharesTx(tx, c, room)
	if err != nil || shares == room {
		return false, err // there may be more of them
	}
	if done, err = s.router.DeadTx(tx, c, room-shares); err != nil || !done {
		return false, err
	}
	return true, unlieTx(tx.In(ledger.Local), c)
}

// buried has crates that died discarded soon.
func (s *FS) buried(dead []store.CrateID) {
	if len(dead) > 0 {
		s.router.Kick()
	}
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
		var again <-chan time.Time
		if left := s.reapAll(); left {
			again = time.After(workRetry)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-again:
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

// reapAll removes what is to be removed; left says that some could not be, and is tried again.
func (s *FS) reapAll() (left bool) {
	var failed []names.Ino
	for s.ctx.Err() == nil {
		s.mu.Lock()
		if len(s.reapable) == 0 {
			s.reapable = failed // with nothing of what it took for the most there were
			s.mu.Unlock()
			break
		}
		ino := s.reapable[0]
		s.reapable = s.reapable[1:]
		s.mu.Unlock()
		if err := s.reap(ino); err != nil {
			if len(failed) == 0 {
				s.log.WithError(err).WithField("inode", ino).Error("remove a deleted file; it is tried again")
			}
			failed = append(failed, ino)
		}
	}
	return len(failed) > 0
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
		f.forgetTx(tx.In(ledger.Local))
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
	s.buried(dead)
	if later {
		kick(s.tear)
	}
	return errors.Join(s.forgetBody(f), s.release(ino))
}

// forgetTx drops the body of a file that is gone, and the marks of its inode, in a transaction of
// the local space.
func (f *file) forgetTx(tx *ledger.Tx) {
	tx.Delete(key(tableAttention, uint64(f.ino)))
	if f.body != nil {
		tx.Delete(key(tableBody, uint64(f.ino)))
		dropTx(tx, f.body.ID)
	}
}

// forgetBody lets go of the body of a file that is gone. The caller holds all of the file's locks.
func (s *FS) forgetBody(f *file) error {
	if f.body == nil {
		return nil
	}
	s.returnPlaces(f.record.Places)
	err := f.body.Release()
	f.setBody(nil, bodyRecord{})
	f.mark = nil
	f.switches++
	return err
}
