package fs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"stasis/fs/extent"
	"stasis/fs/names"
	"stasis/store"
	"stasis/store/ledger"
)

// recover makes what an earlier run left fit again.
//
// After a kill, what lies in the page cache is as good as on the disk, and bodies are
// taken as they lie. After a power cut only what was synced counts: a body that was
// not is set aside, and the settled content of its inode stands.
func (s *FS) recover(ctx context.Context) error {
	cut, err := s.wasPowerCut()
	if err != nil {
		return err
	}
	known := make(map[store.CrateID]bool) // bodies that something names
	if err := s.recoverBodies(ctx, cut, known); err != nil {
		return err
	}
	own, err := s.shared.Scan([]byte{'p'}, []byte{'p' + 1}, 1)
	if err != nil {
		return err
	}
	s.policies.Store(len(own) > 0)
	if cut {
		if err := s.doubtBodies(); err != nil {
			return err
		}
	}
	if s.ro {
		return nil
	}
	if err := s.recoverLying(known); err != nil {
		return err
	}
	if err := s.recoverAttention(); err != nil {
		return err
	}
	if err := s.recoverReplaced(); err != nil {
		return err
	}
	if err := s.recoverDrops(known); err != nil {
		return err
	}
	if err := s.sweepBodies(known); err != nil {
		return err
	}
	if s.reapable, err = s.tree.Orphans(); err != nil {
		return err
	}
	return s.recordBoot()
}

// each runs fn over the records of a local table. The key comes without its table
// byte; fn may change the table.
func each(space *ledger.Space, table byte, fn func(key, value []byte) error) error {
	from, to := []byte{table}, []byte{table + 1}
	for {
		pairs, err := space.Scan(from, to, ledger.MaxScan)
		if err != nil {
			return err
		}
		for _, p := range pairs {
			if err := fn(p.Key[1:], p.Value); err != nil {
				return err
			}
		}
		if len(pairs) < ledger.MaxScan {
			return nil
		}
		from = append(pairs[len(pairs)-1].Key, 0)
	}
}

func inoOf(k []byte) (names.Ino, error) {
	if len(k) != 8 {
		return 0, &store.Error{Kind: store.Corrupt, Op: "read the ledger", Detail: "a key is not whole"}
	}
	return names.Ino(binary.BigEndian.Uint64(k)), nil
}

func (s *FS) recoverBodies(ctx context.Context, cut bool, known map[store.CrateID]bool) error {
	return each(s.local, tableBody, func(k, v []byte) error {
		ino, err := inoOf(k)
		if err != nil {
			return err
		}
		r, err := decodeBody(v)
		if err != nil {
			return err
		}
		known[r.Body] = true
		return s.recoverBody(ctx, ino, r, cut)
	})
}

func (s *FS) recoverBody(ctx context.Context, ino names.Ino, r bodyRecord, cut bool) error {
	in, err := s.tree.Get(ino)
	if errors.Is(err, syscall.ENOENT) {
		return s.dropRecord(ino, r)
	}
	if err != nil {
		return err
	}
	sealed := r.List != 0 && in.List == r.List
	if s.ro {
		// Nothing is changed: what is sealed or does not count is served from the list.
		if sealed || cut && !r.Settled {
			return nil
		}
		return s.serveBody(in, r, cut)
	}
	if r.Planned {
		for i := range r.Places.Runs {
			s.router.Restore(r.Places.Runs[i].Plan)
		}
	}
	if sealed {
		return s.finishSwitch(ino, r)
	}
	if r.List != 0 {
		// It was being built: what there is of it goes before anything looks at its crates.
		if err := s.tearDown(r.List); err != nil {
			return err
		}
		r.List = 0
		_, err := s.local.Update(func(tx *ledger.Tx) error {
			tx.Put(key(tableBody, uint64(ino)), r.encode())
			setLiersTx(tx, r.Body, 0)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if cut && !r.Settled {
		if s.unwritten(r) {
			return s.dropRecord(ino, r)
		}
		return s.setAside(ino, r)
	}
	err = s.serveBody(in, r, cut)
	if isFull(err) && s.db.MakeRoom() {
		err = s.serveBody(in, r, cut)
	}
	switch {
	case err == nil:
		s.sealLater(ino)
		return nil
	case os.IsNotExist(err), errors.Is(err, store.Corrupt):
		return s.lostBody(ino, r, err)
	}
	// It may pass, as a full disk does: what is there is not given up for that.
	return &store.Error{Kind: store.Unavailable, Op: "open what was written to a file last", Subject: s.shown(ino), Err: err,
		Hint: "nothing is lost; see to the disk that holds the state directory and start again"}
}

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// shown names an inode for a person.
func (s *FS) shown(ino names.Ino) string {
	path, err := s.tree.Path(ino)
	if err != nil {
		return fmt.Sprintf("inode %d", ino)
	}
	return path
}

// unwritten reports whether a body is as it was made: nothing that was written to it, or
// was said of it, is on the disk.
func (s *FS) unwritten(r bodyRecord) bool {
	if !r.Whole || r.Size != 0 || r.Mtime != 0 || r.Planned || r.Unplaced || r.List != 0 {
		return false
	}
	st, err := os.Stat(s.bodies.Path(r.Body))
	return os.IsNotExist(err) || err == nil && st.Size() == 0
}

// unpromised pins the files whose last closes a crash kept from being recorded: their space
// is held by the nodes still and spoken for by nobody.
func (s *FS) unpromised() (files []*file) {
	for _, f := range s.inUse() {
		if f.body != nil && !f.record.Planned && !f.record.Unplaced {
			files = append(files, f)
		} else {
			s.unpin(f)
		}
	}
	return files
}

// promiseAgain reserves the space of files that unpromised gave, for which all other
// commits wait.
func (s *FS) promiseAgain(files []*file) {
	defer close(s.promised)
	if len(files) == 0 {
		return
	}
	select {
	case <-s.ctx.Done():
	case <-time.After(sealDelay): // by then the nodes are open
	}
	for _, f := range files {
		if s.ctx.Err() != nil {
			return
		}
		f.committing.Lock()
		err := s.commitHeld(s.ctx, f, 0)
		f.committing.Unlock()
		if err != nil && !isSpace(err) && s.ctx.Err() == nil {
			s.log.WithError(err).WithField("inode", f.ino).Warn("reserve space for a file found after a crash; it is tried again")
		}
		s.unpin(f)
	}
}

// awaitPromises waits, within a bound, until what a crash has left has its space.
func (s *FS) awaitPromises(ctx context.Context) {
	select {
	case <-s.promised:
	default:
		select {
		case <-s.promised:
		case <-ctx.Done():
		case <-time.After(promiseWait):
		}
	}
}

// serveBody makes a body the content of its inode again.
func (s *FS) serveBody(in names.Inode, r bodyRecord, cut bool) error {
	b, err := s.bodies.Load(r.Body, r.Whole, cut)
	if err != nil {
		return err
	}
	ino := in.Ino
	f := &file{ino: ino, size: r.Size}
	f.setBody(b, r)
	size, err := b.Size()
	if err != nil {
		return err
	}
	switch {
	case !cut && r.Cutting && size > r.Limit:
		if f.size = r.Limit; !s.ro {
			if err := b.Truncate(f.size); err != nil {
				return err
			}
		}
	case !cut:
		f.size = size
	case size < r.Size:
		// The synced size was on the disk; less means that a truncation came through.
		f.size = size
	case size > r.Size:
		if err := b.Truncate(r.Size); err != nil {
			return err
		}
	}
	if r.Cutting && !s.ro {
		f.record.Cutting = false
		if _, err := s.putBody(f, &f.record); err != nil {
			return err
		}
	}
	if r.Mtime != 0 {
		f.mtime, f.timed = r.Mtime, true
	}
	f.recorded = r.Planned
	written, stamped, err := b.Modified(uint64(ino))
	if err != nil {
		return err
	}
	switch {
	case cut:
	case stamped:
		f.mtime, f.timed = written, written != 0
	case written > max(in.Ctime, r.Mtime)+int64(stampSlack):
		// A body of an earlier release, or on a filesystem that does not keep the stamp: this
		// says only that the last writes came after whatever else changed the inode.
		f.mtime, f.timed = written, true
	}
	if !s.ro {
		if err := b.Untimed(uint64(ino), b.ClearUnheld); err != nil {
			return err
		}
		if err := b.Stamp(uint64(ino), f.written()); err != nil {
			return err
		}
	}
	if err := b.Release(); err != nil {
		return err
	}
	f.record.List = 0
	f.changes, f.writes = 1, 1
	if cut && f.record.Lost {
		f.record.Lost, f.record.Reason = false, "" // it is as it lies on the disk
		if !s.ro {
			if _, err := s.putBody(f, &f.record); err != nil {
				return err
			}
		}
	}
	if cut && r.Whole {
		f.synced = 1 // as it lies on the disk; a sparse one was cleared of what it does not hold
	}
	s.files[ino] = f
	return nil
}

// dropRecord forgets the body of an inode that is gone.
func (s *FS) dropRecord(ino names.Ino, r bodyRecord) error {
	_, err := s.local.Update(func(tx *ledger.Tx) error {
		tx.Delete(key(tableBody, uint64(ino)))
		tx.Delete(key(tableAttention, uint64(ino)))
		dropTx(tx, r.Body)
		return nil
	})
	return err
}

// setAside takes a body that was not synced out of use.
func (s *FS) setAside(ino names.Ino, r bodyRecord) error {
	s.returnPlaces(r.Places)
	log := s.log.WithField("file", s.shown(ino))
	to, err := s.bodies.SetAside(r.Body, fmt.Sprintf("%d-%s", ino, r.Body))
	switch {
	case err == nil:
		log.WithField("kept", to).Warn("the last content written was not on the disk when the machine stopped; the file has the content before it")
	case os.IsNotExist(err):
		log.Warn("the last content written did not reach the disk before the machine stopped; the file has the content before it")
	default:
		return err
	}
	return s.fallBack(ino)
}

// lostBody deals with a body that should be there and can't be read.
func (s *FS) lostBody(ino names.Ino, r bodyRecord, cause error) error {
	s.returnPlaces(r.Places)
	s.log.WithError(cause).WithField("file", s.shown(ino)).Error("the body of a file is lost; the file has the content before it")
	return s.fallBack(ino)
}

// fallBack makes the settled content of an inode what counts. Its time of change is
// now: a program that compares times and sizes must see that this is not what it wrote.
func (s *FS) fallBack(ino names.Ino) error {
	now := names.Now()
	if _, _, err := s.tree.Update(ino, func(in *names.Inode) error {
		in.Mtime, in.Ctime = now, now
		return nil
	}); err != nil {
		return err
	}
	_, err := s.local.Update(func(tx *ledger.Tx) error {
		tx.Delete(key(tableBody, uint64(ino)))
		return nil
	})
	if err != nil {
		return err
	}
	return s.assess(ino)
}

// finishSwitch does what was left to do when the inode had been switched to a new list.
func (s *FS) finishSwitch(ino names.Ino, r bodyRecord) error {
	var made []extent.Extent
	err := s.eachExtent(r.List, func(e extent.Extent) error {
		lr, ok, err := s.lies(e.Crate)
		if err == nil && ok && lr.Body == r.Body {
			made = append(made, e)
		}
		return err
	})
	if err != nil {
		return err
	}
	added, err := s.finishSeal(ino, r, made)
	if err == nil {
		s.handOver(r.Places, added)
	}
	return err
}

// doubtBodies notes the crates that lie in bodies, which are checked when they are read.
func (s *FS) doubtBodies() error {
	s.doubted = make(map[store.CrateID]struct{})
	return each(s.local, tableLying, func(k, _ []byte) error {
		var c store.CrateID
		copy(c[:], k)
		s.doubted[c] = struct{}{}
		return nil
	})
}

// recoverLying forgets crates in bodies that nothing refers to, and counts the
// others anew.
func (s *FS) recoverLying(known map[store.CrateID]bool) error {
	counts := make(map[store.CrateID]uint64)
	wrong := make(map[store.CrateID]bool)
	var stale []store.CrateID
	err := each(s.local, tableLying, func(k, v []byte) error {
		var c store.CrateID
		copy(c[:], k)
		r, err := decodeLying(v)
		if err != nil {
			return err
		}
		referred, err := s.referred(c)
		if err != nil {
			return err
		}
		if !referred {
			stale = append(stale, c)
			wrong[r.Body] = true
			return nil
		}
		known[r.Body] = true
		counts[r.Body]++
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range stale {
		if _, err := s.local.Update(func(tx *ledger.Tx) error {
			tx.Delete(crateKey(tableLying, c))
			return nil
		}); err != nil {
			return err
		}
	}
	for b := range wrong {
		if _, err := s.local.Update(func(tx *ledger.Tx) error {
			if counts[b] == 0 && !known[b] {
				dropTx(tx, b)
			}
			if counts[b] > 1 {
				tx.Put(crateKey(tableLiers, b), binary.AppendUvarint(nil, counts[b]))
			} else {
				tx.Delete(crateKey(tableLiers, b))
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func (s *FS) referred(c store.CrateID) (bool, error) {
	_, ok, err := s.shared.Get(crateKey(tableRefs, c))
	return ok, err
}

// recoverAttention finds out anew what the inodes wait for that are not durable.
func (s *FS) recoverAttention() error {
	return s.eachAttention(func(ino names.Ino, a attentionRecord) error {
		if f := s.files[ino]; f != nil || a.State == Short {
			return nil
		}
		_, err := s.tree.Get(ino)
		if errors.Is(err, syscall.ENOENT) {
			_, err := s.local.Update(func(tx *ledger.Tx) error {
				tx.Delete(key(tableAttention, uint64(ino)))
				return nil
			})
			return err
		}
		if err != nil {
			return err
		}
		return s.assess(ino)
	})
}

// recoverReplaced lets go of replaced content for which nothing is waited any more.
func (s *FS) recoverReplaced() error {
	last := names.Ino(0)
	return each(s.shared, tableTeardown, func(k, _ []byte) error {
		ino := names.Ino(binary.BigEndian.Uint64(k))
		if ino == 0 || ino == last {
			return nil
		}
		last = ino
		if f := s.files[ino]; f != nil {
			return nil // its newer content is sealed first
		}
		if _, err := s.tree.Get(ino); gone(err) {
			return s.release(ino)
		}
		return s.assess(ino)
	})
}

// eachAttention runs fn over the inodes that are not durable.
func (s *FS) eachAttention(fn func(names.Ino, attentionRecord) error) error {
	marks := make(map[names.Ino]attentionRecord)
	for _, f := range s.inUse() {
		f.mu.RLock()
		if f.mark != nil {
			marks[f.ino] = *f.mark
		}
		f.mu.RUnlock()
		s.unpin(f)
	}
	err := each(s.local, tableAttention, func(k, v []byte) error {
		ino, err := inoOf(k)
		if err != nil {
			return err
		}
		if _, newer := marks[ino]; newer {
			return nil
		}
		a, err := decodeAttention(v)
		if err != nil {
			return err
		}
		return fn(ino, a)
	})
	for ino, a := range marks {
		if err == nil {
			err = fn(ino, a)
		}
	}
	return err
}

// settleAll commits and syncs every body, for a clean end.
func (s *FS) settleAll(ctx context.Context) error {
	if s.ro {
		return nil
	}
	files := s.inUse()
	var errs error
	for _, f := range files {
		if err := s.commit(ctx, f); err != nil && !isSpace(err) {
			errs = errors.Join(errs, err)
		}
	}
	if len(files) >= sealSyncAll {
		s.syncTogether(files)
	}
	for _, f := range files {
		errs = errors.Join(errs, s.syncContent(f))
		s.unpin(f)
	}
	return errors.Join(errs, s.db.Sync(ctx, s.db.Position()))
}
