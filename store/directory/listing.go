package directory

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// Stat is store.Store's.
func (s *Store) Stat(ctx context.Context, id store.CrateID) (store.CrateInfo, error) {
	const op = "stat crate"
	return do(ctx, s, op, toRead, nil, func() (store.CrateInfo, error) {
		rec, err := s.must(op, id)
		if err != nil {
			return store.CrateInfo{}, err
		}
		there, err := s.lies(rec)
		if err == nil && !there {
			rec, err = s.confirmed(ctx, op, id)
		}
		if err != nil {
			return store.CrateInfo{}, s.crateError(op, id, err)
		}
		return rec.info(), nil
	})
}

// lies reports whether a crate's file is where it should be, with its size. A file of which
// the disk can't even tell that is not.
func (s *Store) lies(rec record) (bool, error) {
	size, ok, err := s.tree.size(rec.id, rec.form)
	if errors.Is(err, unix.EIO) && s.mediumAnswers() {
		return false, nil
	}
	return ok && size == rec.size, err
}

// confirmed looks once more for a crate whose file was not found, while nobody can put or
// discard it: NotFound if it was discarded meanwhile, Corrupt if it has no file, unless that
// is because something else lies in the root by now.
func (s *Store) confirmed(ctx context.Context, op string, id store.CrateID) (record, error) {
	unlock, err := s.lock(ctx, op, id)
	if err != nil {
		return record{}, err
	}
	defer unlock()
	rec, err := s.must(op, id)
	if err != nil {
		return record{}, err
	}
	there, err := s.lies(rec)
	if err != nil || there {
		return rec, err
	}
	if _, err := s.same(); err != nil {
		return record{}, err
	}
	return record{}, s.lostFile(op, rec, "its file is gone, or has another size")
}

// List is store.Store's. The cursor is the last id that was looked for.
func (s *Store) List(ctx context.Context, cursor []byte) (store.Page, error) {
	const op = "list crates"
	if cursor != nil && len(cursor) != idSize {
		return store.Page{}, &store.Error{Kind: store.Invalid, Op: op, Detail: "the cursor is not one of this node's"}
	}
	return do(ctx, s, op, toRead, nil, func() (store.Page, error) {
		if _, err := s.same(); err != nil {
			return store.Page{}, err
		}
		recs, more, err := s.index.page(cursor)
		if err != nil {
			return store.Page{}, err
		}
		return s.listed(ctx, op, recs, more)
	})
}

// listed lists those of a row of crates whose files lie there, as many as can be looked for in
// the time that a page has; more says that there are others behind them.
func (s *Store) listed(ctx context.Context, op string, recs []record, more bool) (page store.Page, err error) {
	begun := time.Now()
	page.Crates = make([]store.CrateInfo, 0, len(recs))
	for len(recs) > 0 {
		if err := context.Cause(ctx); err != nil {
			return store.Page{}, err
		}
		part := recs[:min(lookPart, len(recs))]
		there, err := s.look(ctx, op, part)
		if err != nil {
			return store.Page{}, err
		}
		page.Crates = append(page.Crates, there...)
		last := part[len(part)-1].id
		if recs = recs[len(part):]; more || len(recs) > 0 {
			page.Next = last[:]
		} else {
			page.Next = nil
		}
		if time.Since(begun) > listFor {
			break
		}
	}
	return page, nil
}

// look gives those of some crates whose files lie there. One directory's are looked for one
// after the other.
func (s *Store) look(ctx context.Context, op string, recs []record) ([]store.CrateInfo, error) {
	infos, order := make([]store.CrateInfo, len(recs)), make([]int, len(recs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return shardOf(recs[a].id) - shardOf(recs[b].id) })
	err := together(len(recs), lookers, func(k int) error {
		i := order[k]
		rec := recs[i]
		there, err := s.lies(rec)
		if err == nil && !there {
			rec, err = s.confirmed(ctx, op, rec.id)
			if errors.Is(err, store.NotFound) || errors.Is(err, store.Corrupt) {
				return nil
			}
		}
		if err != nil {
			return s.crateError(op, recs[i].id, err)
		}
		infos[i] = rec.info()
		return nil
	})
	return slices.DeleteFunc(infos, func(i store.CrateInfo) bool { return i.ID.IsZero() }), err
}
