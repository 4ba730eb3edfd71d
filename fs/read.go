package fs

import (
	"context"
	"encoding/binary"

	"stasis/fs/extent"
	"stasis/fs/names"
	"stasis/store"
	"stasis/store/ledger"
)

// read fills p from a file and gives the number of bytes, fewer only at its end.
// What is being written at the same time is seen as it was before or after.
func (s *FS) read(ctx context.Context, f *file, p []byte, off int64) (int, seen, error) {
	for try := 0; ; try++ {
		n, was, moved, err := s.readOnce(ctx, f, p, off)
		if err == nil || !moved || try == readRetries || ctx.Err() != nil {
			return n, was, err
		}
	}
}

// gap is a part of a read that the body does not hold.
type gap struct {
	p   []byte
	off int64
}

// readOnce also reports whether an error may come from the content having been
// switched meanwhile. No lock is held while the nodes are read.
func (s *FS) readOnce(ctx context.Context, f *file, p []byte, off int64) (n int, was seen, moved bool, err error) {
	f.mu.RLock()
	in, err := s.tree.Get(f.ino)
	if err != nil {
		f.mu.RUnlock()
		return 0, was, false, err
	}
	was = seenOf(in, f)
	switches, size, limit := f.switches, in.Size, in.Size
	var gaps []gap
	if b := f.body; b != nil {
		size, limit = f.size, f.record.Limit
		n = clamp(len(p), size-off)
		for at, end := off, off+int64(n); at < end; {
			run, held := b.Held(at, end)
			part := p[at-off : at-off+run]
			if !held {
				gaps = append(gaps, gap{part, at})
			} else if err = b.ReadAt(part, at); err != nil {
				f.mu.RUnlock()
				return 0, was, false, err
			}
			at += run
		}
	} else if n = clamp(len(p), size-off); n > 0 {
		gaps = []gap{{p[:n], off}}
	}
	f.mu.RUnlock()
	for _, g := range gaps {
		if err := s.readList(ctx, in.List, g.p, g.off, limit); err != nil {
			f.mu.RLock()
			moved = f.switches != switches
			f.mu.RUnlock()
			if now, e := s.tree.Get(f.ino); e == nil && now.List != in.List {
				moved = true
			}
			return 0, was, moved, err
		}
	}
	return n, was, false, nil
}

func clamp(n int, left int64) int {
	if left <= 0 {
		return 0
	}
	return int(min(int64(n), left))
}

// readList fills p from a list that counts up to limit bytes; zeros where there is
// nothing.
func (s *FS) readList(ctx context.Context, list names.ListID, p []byte, off, limit int64) error {
	if n := clamp(len(p), limit-off); n < len(p) {
		clear(p[n:])
		p = p[:n]
	}
	if list == 0 {
		clear(p)
		return nil
	}
	for len(p) > 0 {
		es, err := s.extents(list, off, extentsPerScan)
		if err != nil {
			return err
		}
		for _, e := range es {
			if len(p) == 0 {
				return nil
			}
			if e.Offset > off {
				n := clamp(len(p), e.Offset-off)
				clear(p[:n])
				p, off = p[n:], off+int64(n)
			}
			if n := clamp(len(p), e.End()-off); n > 0 {
				if err := s.readCrate(ctx, e.Crate, p[:n], e.CrateOffset+off-e.Offset); err != nil {
					return err
				}
				p, off = p[n:], off+int64(n)
			}
		}
		if len(es) < extentsPerScan {
			clear(p)
			return nil
		}
	}
	return nil
}

// extents gives up to n extents of a list, from the one that covers off, or the
// first behind it.
func (s *FS) extents(list names.ListID, off int64, n int) ([]extent.Extent, error) {
	pairs, err := s.shared.Scan(extentKey(list, off+1), key(tableExtent, uint64(list)+1), n)
	if err != nil {
		return nil, err
	}
	es := make([]extent.Extent, len(pairs))
	for i, p := range pairs {
		if es[i], err = decodeExtent(p); err != nil {
			return nil, err
		}
	}
	return es, nil
}

func decodeExtent(p ledger.Pair) (extent.Extent, error) {
	if len(p.Key) != 17 {
		return extent.Extent{}, &store.Error{Kind: store.Corrupt, Op: "read the extents of a file", Detail: "a key is not whole"}
	}
	return extent.Decode(int64(binary.BigEndian.Uint64(p.Key[9:])), p.Value)
}

// eachExtent runs fn over a whole list in order.
func (s *FS) eachExtent(list names.ListID, fn func(extent.Extent) error) error {
	if list == 0 {
		return nil
	}
	for off := int64(0); ; {
		es, err := s.extents(list, off, extentsPerScan)
		if err != nil {
			return err
		}
		for _, e := range es {
			if err := fn(e); err != nil {
				return err
			}
			off = e.End()
		}
		if len(es) < extentsPerScan {
			return nil
		}
	}
}
