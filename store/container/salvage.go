package container

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"stasis/store"
)

// salvaged is what was found when the log could not be read.
type salvaged struct {
	st       *state
	space    *space // with the crates and every page that may be of the log taken
	logPages []int64
	damages  []damage
}

// salvage makes the state anew from every page of the file that is whole: first
// those of the log, in order, damaged ones passed over; then the headers of crates that the log
// did not tell of. Such a crate is taken only if all its data has its checksums,
// and no crate if one that was written later lies in its pages. It reads the whole file.
func (v *volume) salvage(sb *superblock) (*salvaged, error) {
	out := &salvaged{st: newState(), space: newSpace(firstPage, v.limit)}
	log, heads, err := out.scan(v, sb.logNonce)
	if err != nil {
		return nil, err
	}
	gone := out.readLog(log, v.limit)
	for _, candidates := range log {
		for _, p := range candidates {
			if out.space.take(extent{p.self, 1}) {
				out.logPages = append(out.logPages, p.self)
			}
		}
	}
	told := out.st
	out.st = newState()
	out.st.reservations, out.st.nextSeq = told.reservations, told.nextSeq

	// What the log tells, the newest first: of two that lie in one page the older one was
	// discarded, and that record is among those that are lost.
	crates := told.crates.Items()
	slices.SortFunc(crates, func(a, b *crate) int { return compare(b.seq, a.seq) })
	for _, c := range crates {
		said, _, err := v.readHeader(c.extents[0].start)
		bad := errors.Is(err, errHeader) || err == nil && (said.id != c.id || said.seq != c.seq)
		// A medium that does not answer now may do so later: the log's word counts then.
		if bad || !out.claim(c) {
			out.damages = append(out.damages, damage{c.extents[0].start, "header of crate " + c.id.String()})
		}
	}
	out.readHeads(v, heads, gone)
	return out, nil
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// scan goes through the file and gives the pages of the log that starts with
// nonce, by index, and the first pages of headers with their sequence numbers.
// Pages that the medium does not give are passed over.
func (out *salvaged) scan(v *volume, nonce sum) (log map[int64][]page, heads []page, err error) {
	size, err := v.f.Size()
	if err != nil {
		return nil, nil, err
	}
	log = make(map[int64][]page)
	buf := make([]byte, readWindow)
	for off := int64(firstPage * PageSize); off < min(size, v.limit*PageSize); {
		if off, err = v.f.NextData(off); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, nil, err
		}
		at := off / PageSize
		if err := v.readPages(buf, at); err != nil {
			for i := range int64(readWindow / PageSize) {
				raw := buf[i*PageSize:][:PageSize]
				if err := v.readPages(raw, at+i); err != nil {
					out.damages = append(out.damages, damage{at + i, err.Error()})
					clear(raw)
				}
			}
		}
		for i := range int64(readWindow / PageSize) {
			raw := buf[i*PageSize:][:PageSize]
			if at+i >= v.limit || !looksLikePage(raw) {
				continue
			}
			p, err := v.key.decode(raw, at+i)
			if err != nil {
				continue
			}
			p.payload = slices.Clone(p.payload)
			switch {
			case p.kind == logPage && p.number>>32 == tag(nonce, 0)>>32:
				index := int64(uint32(p.number))
				log[index] = append(log[index], p)
			case p.kind == headerPage:
				if _, _, err := headerFields(&p); err == nil {
					p.payload = nil
					heads = append(heads, p)
				}
			}
		}
		off = (at + readWindow/PageSize) * PageSize
	}
	return log, heads, nil
}

// readLog applies the pages of the log in order and gives the sequence numbers
// of the crates that it says are discarded.
func (out *salvaged) readLog(log map[int64][]page, limit int64) (gone map[uint64]bool) {
	gone = make(map[uint64]bool)
	order := make([]int64, 0, len(log))
	for index := range log {
		order = append(order, index)
	}
	slices.Sort(order)
	// What follows the last page that ends a commit was not acknowledged.
	for len(order) > 0 && !slices.ContainsFunc(log[order[len(order)-1]], func(p page) bool { return p.commit }) {
		order = order[:len(order)-1]
	}
	var last sum // of the page before, if that was there
	a := applier{state: out.st, limit: limit}
	for k, index := range order {
		if k == 0 || order[k-1] != index-1 {
			last, a.open = sum{}, nil
			if index > 0 {
				out.damages = append(out.damages, damage{0, fmt.Sprintf("log before its page %d", index)})
			}
		}
		p, ok := pick(log[index], last, log[index+1])
		if !ok {
			last, a.open = sum{}, nil
			continue
		}
		last = p.sum
		err := decodeRecords(p.payload, func(r *record) error {
			if r.kind == discardRecord {
				gone[r.crate.seq] = true
			}
			if err := a.apply(r); err != nil {
				// A crate whose other extents are lost; its header will tell of it.
				a.open = nil
			}
			return nil
		})
		if err != nil {
			out.damages = append(out.damages, damage{p.self, "log"})
		}
	}
	return gone
}

// pick chooses among pages of the log with one index: a commit that was cut
// leaves a page that the one written in its stead does not replace.
func pick(candidates []page, before sum, after []page) (page, bool) {
	for _, p := range candidates {
		if p.link == before {
			return p, true
		}
	}
	if before != (sum{}) {
		return page{}, false
	}
	if len(candidates) == 1 {
		return candidates[0], true
	}
	for _, p := range candidates {
		if slices.ContainsFunc(after, func(n page) bool { return n.link == p.sum }) {
			return p, true
		}
	}
	return page{}, false
}

// claim takes the crate in, unless one that is in already has its id or pages.
func (out *salvaged) claim(c *crate) bool {
	if _, ok := out.st.get(c.id); ok {
		return false
	}
	for i, e := range c.extents {
		if !out.space.take(e) {
			for _, e := range c.extents[:i] {
				out.space.release(e)
			}
			return false
		}
	}
	out.st.add(c)
	return true
}

// readHeads takes in the crates that only their headers tell of.
func (out *salvaged) readHeads(v *volume, heads []page, gone map[uint64]bool) {
	slices.SortFunc(heads, func(a, b page) int { return compare(b.number, a.number) })
	for _, p := range heads {
		out.st.nextSeq = max(out.st.nextSeq, p.number+1)
		if gone[p.number] {
			continue
		}
		c, blocks, err := v.readHeader(p.self)
		if err != nil {
			continue // its first page was whole and another is not: not a crate any more
		}
		if have, ok := out.st.get(c.id); ok && have.seq >= c.seq {
			continue
		}
		if v.whole(c, blocks) {
			out.claim(c)
		}
	}
}

// whole reads all data of a crate and reports whether it has its checksums.
func (v *volume) whole(c *crate, blocks []store.Digest) bool {
	buf := make([]byte, store.BlockSize)
	_, data := c.headerData()
	for i := range blocks {
		p := buf[:store.BlockLen(c.size, int64(i))]
		if err := v.readData(data, p, int64(i)*store.BlockSize); err != nil || store.SumBlock(p) != blocks[i] {
			return false
		}
	}
	return true
}

// readData fills p from offset off of a crate's data.
func (v *volume) readData(data []extent, p []byte, off int64) error {
	return extentIO(data, p, off, func(p []byte, at int64) error {
		n, err := v.f.ReadAt(p, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read at offset %d: %w", at, err)
		}
		clear(p[n:])
		return nil
	})
}
