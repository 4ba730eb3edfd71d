package fs

import (
	"context"
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"stasis/fs/body"
	"stasis/fs/names"
	"stasis/store/ledger"
)

// write puts p at off. When it returns the bytes survive a kill of the process.
func (s *FS) write(ctx context.Context, f *file, p []byte, off int64, killSUID bool) (int, error) {
	if s.ro {
		return 0, syscall.EROFS
	}
	if off < 0 || off > MaxFileSize-int64(len(p)) {
		return 0, syscall.EFBIG
	}
	if len(p) == 0 {
		return 0, nil
	}
	if killSUID {
		if err := s.killPrivileges(ctx, f.ino); err != nil {
			return 0, err
		}
	}
	end := off + int64(len(p))
	err := s.change(ctx, f, edges(off, end), func() error {
		if err := f.body.Write(p, off); err != nil {
			// A part of it may be there, which must not come into view when the file grows.
			return errors.Join(err, f.body.CutBack(f.size))
		}
		f.size = max(f.size, end)
		f.touch()
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// edges gives the units that [off, end) covers in part.
func edges(off, end int64) (units []int64) {
	if off%body.Unit != 0 {
		units = append(units, off/body.Unit)
	}
	if u := end / body.Unit; end%body.Unit != 0 && (len(units) == 0 || units[0] != u) {
		units = append(units, u)
	}
	return units
}

// change runs do, which changes the content, with the file's lock held and its
// body there. Before that the body holds all of the units that do changes in part. The
// nodes are read, where the settled content is needed for that, without the lock.
func (s *FS) change(ctx context.Context, f *file, units []int64, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := s.needBody(f, false); err != nil {
		return err
	}
	for try := 0; ; {
		missing := f.missing(units)
		if len(missing) == 0 {
			break
		}
		moved, err := s.fetch(ctx, f, missing)
		if err != nil && (!moved || try == readRetries) {
			return err
		}
		try++
		if err := s.needBody(f, false); err != nil {
			return err
		}
	}
	f.writes++
	f.changes++
	return do()
}

// missing gives those of units that the body does not hold while the settled
// content shows through.
func (f *file) missing(units []int64) (missing []int64) {
	for _, u := range units {
		if u*body.Unit < f.record.Limit {
			if _, held := f.body.Held(u*body.Unit, (u+1)*body.Unit); !held {
				missing = append(missing, u)
			}
		}
	}
	return missing
}

// fetch puts units of the settled content into the body. It gives up the lock of
// the file, which the caller holds, while it reads; moved says that the content was
// switched meanwhile, in which case nothing was done.
func (s *FS) fetch(ctx context.Context, f *file, units []int64) (moved bool, err error) {
	in, err := s.tree.Get(f.ino)
	if err != nil {
		return false, err
	}
	switches, limit := f.switches, f.record.Limit
	buf := make([]byte, len(units)*body.Unit)
	f.mu.Unlock()
	for i, u := range units {
		if err = s.readList(ctx, in.List, buf[i*body.Unit:(i+1)*body.Unit], u*body.Unit, limit); err != nil {
			break
		}
	}
	f.mu.Lock()
	if f.switches != switches {
		return true, err
	}
	if err != nil {
		return false, err
	}
	err = f.body.Untimed(uint64(f.ino), func() error {
		for i, u := range units {
			if err := f.keep(u, buf[i*body.Unit:]); err != nil {
				return err
			}
		}
		return nil
	})
	return false, err
}

// keep puts a unit of the settled content into the body, unless that holds it or it does not
// count any more. The caller holds the lock of the file.
func (f *file) keep(unit int64, p []byte) error {
	at := unit * body.Unit
	if _, held := f.body.Held(at, at+body.Unit); held || at >= f.record.Limit {
		return nil
	}
	// Past the limit as it is now, which may have been lowered, there is nothing; and
	// the body must not grow.
	p = p[:min(at+body.Unit, f.size)-at]
	if cut := f.record.Limit - at; cut < int64(len(p)) {
		clear(p[cut:])
	}
	f.writes++
	return f.body.Write(p, at)
}

// needBody makes a body if the file has none; the caller holds its lock. emptied: the settled
// content doesn't count any more, and the file is empty from then on.
func (s *FS) needBody(f *file, emptied bool) error {
	if f.body != nil {
		return nil
	}
	if err := s.payOwed(f); err != nil {
		return err
	}
	in, err := s.tree.Get(f.ino)
	if err != nil {
		return err
	}
	if in.Mode&unix.S_IFMT != unix.S_IFREG {
		return syscall.EINVAL
	}
	if emptied {
		in.Size = 0 // with the record of the body, and not later: its zeros are nobody's content
	}
	b, r, err := s.bodyFor(f, in, emptied || in.List == 0)
	if err != nil {
		return err
	}
	f.setBody(b, r)
	f.size, f.since = in.Size, time.Now()
	// The file itself, new, is not synced.
	f.changes, f.committed, f.writes, f.synced = 0, 0, 1, 0
	f.switches++
	return nil
}

// bodyFor gives a body for a file that has none, and its record, which is in the ledger.
func (s *FS) bodyFor(f *file, in names.Inode, whole bool) (b *body.Body, r bodyRecord, err error) {
	f.recorded, f.mark = false, nil
	if whole && in.Size == 0 {
		// A blank that somebody took away is made up for like one that never was.
		if b = s.blanks.claim(in.Ino); b != nil {
			switch err := b.Stamp(uint64(in.Ino), 0); {
			case err == nil:
				return b, bodyRecord{Body: b.ID, Whole: true}, nil
			case errors.Is(err, syscall.ENFILE):
				s.blanks.unclaim(in.Ino, b)
				return nil, r, err
			}
		}
	}
	if b, err = s.bodies.Create(whole); err != nil {
		return nil, r, err
	}
	r = bodyRecord{Body: b.ID, Whole: whole, Size: in.Size}
	if !whole {
		r.Limit = in.Size
	}
	if in.Size > 0 {
		err = b.Truncate(in.Size)
	}
	if err == nil {
		err = b.Stamp(uint64(in.Ino), 0) // nothing is written yet
	}
	if err == nil {
		_, err = s.putBody(f, &r)
	}
	if err != nil {
		return nil, r, errors.Join(err, b.Release(), s.bodies.Remove(b.ID))
	}
	return b, r, nil
}

// truncate sets the size of a file. killSUID clears what an unprivileged write clears.
func (s *FS) truncate(ctx context.Context, f *file, size int64, killSUID bool) error {
	if s.ro {
		return syscall.EROFS
	}
	if size < 0 {
		return syscall.EINVAL
	}
	if size > MaxFileSize {
		return syscall.EFBIG
	}
	if killSUID {
		if err := s.killPrivileges(ctx, f.ino); err != nil {
			return err
		}
	}
	if size == 0 {
		s.keepSettled(ctx, f)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := s.needBody(f, size == 0); err != nil {
		return err
	}
	if size == 0 && f.record.Lost {
		if err := s.renewBody(f); err != nil {
			return err
		}
	}
	if size < f.size {
		if err := s.shrink(ctx, f, size); err != nil {
			return err
		}
	}
	f.writes++
	f.changes++
	err := f.body.Truncate(size)
	if err == nil {
		f.size = size
		f.touch()
	}
	if f.record.Cutting {
		// Done or given up: what is written from now on is not to be cut by a start.
		f.record.Cutting = false
		_, e := s.putBody(f, &f.record)
		err = errors.Join(err, e)
	}
	return err
}

// shrink records, before the body is cut, what must not come back: the settled
// content past the new end, and after a power cut the synced units that the body will
// not have any more. Where it makes the body hide settled content, it records that the cut is
// under way: a start after a kill in between finishes it.
func (s *FS) shrink(ctx context.Context, f *file, size int64) error {
	r := f.record
	if size == 0 {
		r.Whole, r.Limit = true, 0
	}
	r.Limit = min(r.Limit, size)
	r.Size = min(r.Size, size)
	r.Cutting = r.Whole != f.record.Whole || r.Limit != f.record.Limit
	if !r.Cutting && !r.Settled {
		return nil
	}
	pos, err := s.putBody(f, &r)
	if err != nil {
		return err
	}
	if r.Settled {
		// What was synced is the content that counts after a power cut: the cut must not be
		// on the disk before the ledger's word of it.
		if err := s.db.Sync(ctx, pos); err != nil {
			return err
		}
	}
	if r.Whole && !f.body.Whole() {
		f.body.MakeWhole()
		// The units held so far go with the truncation that follows.
	}
	f.record = r
	return nil
}

// putBody writes the record of the body of a file, whose lock the caller holds.
func (s *FS) putBody(f *file, r *bodyRecord) (ledger.Position, error) {
	pos, err := s.local.Update(func(tx *ledger.Tx) error {
		return recordTx(tx, f, r)
	})
	if err == nil {
		f.mark, f.recorded = nil, r.Planned
	}
	return pos, err
}
