package fs

import (
	"stasis/fs/body"
	"stasis/fs/extent"
	"stasis/fs/names"
	"stasis/store"
)

// spans gives the blocks of a file that become crates, as its body has them or a part of them,
// and those that are holes now. A block that is a hole in the body and in the settled
// content is neither. The caller holds the lock of the file, which has a body.
func (s *FS) spans(f *file) (data []body.Span, holes []extent.Range, err error) {
	c, err := f.body.Content(f.size)
	if err != nil {
		return nil, nil, err
	}
	for _, h := range c.Holes {
		holes = append(holes, extent.Range(h))
	}
	if len(c.Bare) == 0 {
		return c.Data, holes, nil
	}
	in, err := s.tree.Get(f.ino)
	if err != nil {
		return nil, nil, err
	}
	// What is left of a block under a hole makes it a crate, if there is anything.
	var under []body.Span
	for _, p := range c.Bare {
		if under, err = s.under(under, in.List, p, f.record.Limit); err != nil {
			return nil, nil, err
		}
	}
	return body.Union(c.Data, under), holes, nil
}

// under adds those blocks of a span to spans before it of which a list has anything, as far as
// limit.
func (s *FS) under(spans []body.Span, list names.ListID, p body.Span, limit int64) ([]body.Span, error) {
	end := p.Offset + p.Length
	for at := p.Offset; list != 0 && at < min(end, limit); {
		es, err := s.extents(list, at, 1)
		if err != nil {
			return nil, err
		}
		if len(es) == 0 || es[0].Offset >= min(end, limit) {
			break
		}
		spans = body.AddBlocks(spans, max(at, es[0].Offset), min(es[0].End(), limit), end)
		at = es[0].End()
	}
	return spans, nil
}

// lacking gives some units from an offset on, a block's worth at most, that spans of the body
// lack and the settled content has.
func (f *file) lacking(spans []body.Span, from int64) (units []int64) {
	for _, p := range spans {
		end := min(p.Offset+p.Length, f.record.Limit)
		for at := max(p.Offset, from); at < end; {
			n, held := f.body.Held(at, end)
			for u := at / body.Unit; !held && u*body.Unit < at+n; u++ {
				if units = append(units, u); len(units) == store.BlockSize/body.Unit {
					return units
				}
			}
			at += n
		}
	}
	return units
}
