package container

import (
	"errors"
	"fmt"
	"slices"
)

// A damage is a place that was found corrupt and passed over.
type damage struct {
	page int64
	what string
}

// readSupers reads the two superblocks and gives the newer. stale reports that
// the two are not the same and must be written again.
func readSupers(f file) (sb superblock, stale bool, found []damage, err error) {
	v := volume{f: f}
	raw := make([]byte, superPages*PageSize)
	if err := v.readPages(raw, 0); err != nil {
		return sb, false, nil, err
	}
	var errs []error
	for i := range int64(superPages) {
		s, err := decodeSuperblock(raw[i*PageSize:], i)
		if err != nil {
			errs = append(errs, err)
			found = append(found, damage{i, "superblock"})
		} else if len(errs) == int(i) || s.generation > sb.generation {
			// The first that is whole, or a newer one.
			stale = stale || sb.generation != 0
			sb = s
		} else if s.generation != sb.generation {
			stale = true
		}
	}
	if len(errs) == superPages {
		for _, err := range errs {
			if version := versionError(0); errors.As(err, &version) {
				return sb, false, nil, err
			}
		}
		if string(raw[:4]) == pageMagic || string(raw[PageSize:PageSize+4]) == pageMagic {
			return sb, false, nil, errSupers
		}
		return sb, false, nil, errNotContainer
	}
	return sb, stale || len(found) > 0, found, nil
}

var (
	errNotContainer = errors.New("this file is not a container of stasis")
	errSupers       = errors.New("both superblocks are damaged")
)

// readMark gives the mark that tells most of the log that sb names; ok is false
// if there is none. count is the highest of a position in any mark.
func (v *volume) readMark(sb *superblock) (best mark, ok bool, count uint64, found []damage, err error) {
	raw := make([]byte, markPages*PageSize)
	if err := v.readPages(raw, superPages); err != nil {
		return best, false, 0, nil, err
	}
	for i := range int64(markPages) {
		page := superPages + i
		m, err := decodeMark(v.key, raw[i*PageSize:], page)
		if err != nil {
			if slices.ContainsFunc(raw[i*PageSize:][:PageSize], func(b byte) bool { return b != 0 }) {
				found = append(found, damage{page, "mark"})
			}
			continue
		}
		count = max(count, m.position.Count)
		if m.nonce == sb.logNonce && (!ok || m.index > best.index || m.index == best.index && m.position.Count > best.position.Count) {
			best, ok = m, true
		}
	}
	return best, ok, count, found, nil
}

// errLog is a log that is not whole up to where it was synced.
var errLog = errors.New("the log is damaged")

// replay reads the log that sb names. Commits that are not whole behind the mark
// were never acknowledged and are cut; anything else that is not whole is errLog. It
// tells whether what is behind the mark has changed which crates there are.
func (v *volume) replay(sb *superblock, synced mark, marked bool) (_ *state, _ *logWriter, moved bool, err error) {
	st := newState()
	l := &logWriter{v: v, nonce: sb.logNonce, checkpoint: sb.logPages, last: sb.logNonce, next: sb.logHead}
	must := sb.logPages - 1 // the last page that must be there
	if marked {
		must = max(must, synced.index)
	}
	var (
		r       = pageReader{v: v}
		a       = applier{state: st, limit: v.limit}
		pending []*record // of the commit that is being read
		pages   []int64   // of it
		link    = l.last
		at      = l.next
	)
	for index := int64(0); ; index++ {
		p, err := v.logPage(&r, at, l.nonce, index, link)
		if err == nil {
			err = decodeRecords(p.payload, func(r *record) error { pending = append(pending, r); return nil })
		}
		if err != nil {
			if !errors.Is(err, errPage) && !errors.Is(err, errRecord) {
				// The medium does not give the page. It may be one that was synced.
				return nil, nil, false, fmt.Errorf("%w: %w", errLog, err)
			}
			break
		}
		pages = append(pages, at)
		link, at = p.sum, p.next
		if index == synced.index && marked && p.sum != synced.sum {
			return nil, nil, false, fmt.Errorf("%w: page %d is not the one that was synced", errLog, pages[len(pages)-1])
		}
		// The checkpoint was synced whole before anything named it: it need not be held back.
		if !p.commit && index >= sb.logPages {
			continue
		}
		for _, r := range pending {
			moved = moved || index > synced.index && (r.kind == crateRecord || r.kind == discardRecord)
			if err := a.apply(r); err != nil {
				return nil, nil, false, fmt.Errorf("%w: page %d: %w", errLog, pages[len(pages)-1], err)
			}
		}
		pending = pending[:0]
		l.pages, pages = append(l.pages, pages...), pages[:0]
		l.last, l.next = link, at
	}
	if int64(len(l.pages)) <= must {
		return nil, nil, false, fmt.Errorf("%w: it ends at page %d of %d", errLog, len(l.pages), must+1)
	}
	if a.open != nil || l.next < firstPage || l.next >= v.limit {
		return nil, nil, false, fmt.Errorf("%w: its last page leads nowhere", errLog)
	}
	return st, l, moved, nil
}

// logPage reads the page of a log that starts with nonce and checks that it is
// the one that follows link.
func (v *volume) logPage(r *pageReader, at int64, nonce sum, index int64, link sum) (page, error) {
	if at < firstPage || at >= v.limit {
		return page{}, errPage
	}
	raw, err := r.read(at)
	if err != nil {
		return page{}, err
	}
	p, err := v.key.decode(raw, at)
	if err != nil {
		return page{}, err
	}
	if p.kind != logPage || p.number != tag(nonce, index) || p.link != link {
		return page{}, errPage
	}
	return p, nil
}

// occupy marks all pages as used that the state and its log lie in. It fails if
// two things lie in one page.
func occupy(st *state, l *logWriter, limit int64) (*space, error) {
	sp := newSpace(firstPage, limit)
	for _, n := range append(slices.Clone(l.pages), l.next) {
		if !sp.take(extent{n, 1}) {
			return nil, fmt.Errorf("%w: page %d is in it twice", errLog, n)
		}
	}
	var err error
	st.crates.Scan(func(c *crate) bool {
		for _, e := range c.extents {
			if !sp.take(e) {
				err = fmt.Errorf("%w: crate %s lies in pages of something else", errLog, c.id)
				return false
			}
		}
		return true
	})
	return sp, err
}
