package fs

import (
	"context"
	"encoding/binary"
	"syscall"

	"stasis/fs/extent"
	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
	"stasis/store/ledger"
)

// A copy within the vault moves nothing: the new file shows the same crates. A crate knows
// the inode that it was made for; the others that came to name it are noted, so that what
// befalls it is told of them all.

// CopyRange makes n bytes of the file from off on those that another has from fromOff on,
// and gives how many it did, 0 at the end of the other. Both offsets have to lie the same
// way in a block. Whole blocks, and the last ones of a file, are shared, for which what was
// written to either file is sealed first; a part of a block before them is copied. EXDEV
// where nothing can be shared as things are: the caller copies. killSUID clears the bits that
// an unprivileged write clears.
func (h *Handle) CopyRange(ctx context.Context, off int64, from *Handle, fromOff, n int64, killSUID bool) (int64, error) {
	s := h.s
	switch {
	case s.ro:
		return 0, syscall.EROFS
	case !h.write:
		return 0, syscall.EBADF
	case off < 0 || fromOff < 0 || n < 0:
		return 0, syscall.EINVAL
	case off > MaxFileSize-n:
		return 0, syscall.EFBIG
	case (off-fromOff)%store.BlockSize != 0:
		return 0, syscall.EXDEV
	}
	if in := off % store.BlockSize; in != 0 {
		return h.copyBytes(ctx, off, from, fromOff, min(n, store.BlockSize-in), killSUID)
	}
	for _, f := range []*file{from.f, h.f} {
		settled, err := s.settleForSharing(ctx, f)
		if err != nil {
			return 0, err
		}
		if !settled {
			return 0, syscall.EXDEV
		}
	}
	n, err := s.share(ctx, h.f, off, from.f.ino, fromOff, n, killSUID)
	if err != nil || n == 0 {
		return 0, err
	}
	from.read.Store(true)
	return n, s.sharedNow(ctx, h.f.ino)
}

// copyBytes copies less than a block.
func (h *Handle) copyBytes(ctx context.Context, off int64, from *Handle, fromOff, n int64, killSUID bool) (int64, error) {
	p := make([]byte, n)
	k, err := from.ReadAt(ctx, p, fromOff)
	if err != nil || k == 0 {
		return 0, err
	}
	k, err = h.WriteAt(ctx, p[:k], off, killSUID)
	return int64(k), err
}

// settleForSharing sees to it that all content of a file is in its list. What is less than
// a block and was written just now is copied in less time than a sync takes.
func (s *FS) settleForSharing(ctx context.Context, f *file) (bool, error) {
	f.mu.RLock()
	none, small := f.body == nil && f.owed == nil, f.size < store.BlockSize
	f.mu.RUnlock()
	if none {
		return true, nil
	}
	if small {
		return false, nil
	}
	return s.tryseal(ctx, f)
}

// share switches a file to a list that shows a range of another inode's. Neither may have a
// body; EXDEV if one came meanwhile, or the range has no whole block.
func (s *FS) share(ctx context.Context, f *file, off int64, source names.Ino, from, n int64, killSUID bool) (int64, error) {
	f.sealing.Lock()
	defer f.sealing.Unlock()
	f.committing.Lock()
	defer f.committing.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.body != nil || f.owed != nil {
		return 0, syscall.EXDEV
	}
	src, err := s.tree.Get(source)
	if err != nil {
		return 0, err
	}
	in, err := s.tree.Get(f.ino)
	if err != nil {
		return 0, err
	}
	if n = min(n, src.Size-from); n <= 0 {
		return 0, nil
	}
	// Only the end of a file lies inside a block.
	if from+n < src.Size || off+n < in.Size {
		if n -= n % store.BlockSize; n == 0 {
			return 0, syscall.EXDEV
		}
	}
	if killSUID {
		if err := s.killPrivileges(ctx, f.ino); err != nil {
			return 0, err
		}
	}
	size := max(in.Size, off+n)
	c := &change{ino: f.ino, size: size, mtime: names.Now(), mark: &attentionRecord{State: Pending, Bytes: size}}
	if c.list, err = s.overlaid(in.List, off, src.List, from, n); err != nil {
		return 0, err
	}
	if err := s.dropBlank(f.ino); err != nil {
		return 0, err
	}
	if len(c.list) > 0 {
		if c.id, err = s.tree.NewListID(); err != nil {
			return 0, err
		}
	}
	c.also = func(tx *ledger.Tx, es []extent.Extent) error {
		// The source's list has its references, and with them its crates, as long as it is
		// the source's list.
		now, err := s.tree.GetTx(tx, source)
		if err == nil && now.List != src.List {
			err = syscall.EXDEV
		}
		if err != nil {
			return err
		}
		for _, e := range es {
			if e.Offset < off+n && e.End() > off && source != f.ino {
				tx.Put(shareKey(e.Crate, f.ino), []byte{recordVersion})
			}
		}
		return nil
	}
	if _, err := s.make(c); err != nil {
		return 0, err
	}
	f.switches++
	return n, nil
}

// overlaid gives the extents of one list, with n bytes from off on those that another has
// at from.
func (s *FS) overlaid(list names.ListID, off int64, other names.ListID, from, n int64) ([]extent.Extent, error) {
	var base, pieces []extent.Extent
	if err := s.eachExtent(list, func(e extent.Extent) error { base = append(base, e); return nil }); err != nil {
		return nil, err
	}
	err := s.eachExtent(other, func(e extent.Extent) error {
		pieces = append(pieces, extent.Shift([]extent.Extent{e}, from, from+n, off)...)
		return nil
	})
	return extent.Overlay(extent.Without(base, extent.Range{Offset: off, Length: n}), pieces, MaxFileSize), err
}

// dropBlank has an inode do without the body that was made ahead for it, which would be its
// content after a crash.
func (s *FS) dropBlank(ino names.Ino) error {
	b := s.blanks.claim(ino)
	if b == nil {
		return nil
	}
	spent := []blank{{ino, b}}
	_, err := s.local.Update(func(tx *ledger.Tx) error { return forgetBlanksTx(tx, spent) })
	s.blanks.spend(spent)
	return err
}

// sharedNow does what a close does, for content whose space is drawn already: it looks how
// safe it is, and asks for the copies that are wanted here and were not there.
func (s *FS) sharedNow(ctx context.Context, ino names.Ino) error {
	s.notify()
	if err := s.assess(ino); err != nil {
		return err
	}
	if a, marked, err := s.attention(ino); err != nil || !marked || a.State == Pending {
		return err
	}
	s.reconsider(ctx, ino)
	return nil
}

func shareKey(c store.CrateID, ino names.Ino) []byte {
	return binary.BigEndian.AppendUint64(crateKey(tableShare, c), uint64(ino))
}

// afterShares is the first key behind those of a crate.
func afterShares(c store.CrateID) []byte { return append(shareKey(c, 1<<64-1), 0) }

// users gives the inodes that name a crate, or did: that it was made for, and those that
// share it.
func (s *FS) users(m router.Manifest) ([]names.Ino, error) {
	inos := []names.Ino{names.Ino(m.Origin)}
	from := shareKey(m.Crate, 0)
	for {
		pairs, err := s.shared.Scan(from, afterShares(m.Crate), extentsPerScan)
		if err != nil {
			return inos, err
		}
		for _, p := range pairs {
			inos = append(inos, names.Ino(binary.BigEndian.Uint64(p.Key[len(p.Key)-8:])))
		}
		if len(pairs) < extentsPerScan {
			return inos, nil
		}
		from = append(pairs[len(pairs)-1].Key, 0)
	}
}

// dropSharesTx forgets who shares a crate that dies, as far as most keys go; it gives how
// many it deleted, which is most where there may be more.
func dropSharesTx(tx *ledger.Tx, c store.CrateID, most int) (int, error) {
	pairs, err := tx.Scan(shareKey(c, 0), afterShares(c), most)
	if err != nil {
		return 0, err
	}
	for _, p := range pairs {
		tx.Delete(p.Key)
	}
	return len(pairs), nil
}
