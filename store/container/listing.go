package container

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"stasis/store"
)

// Stat is store.Store's.
func (s *Store) Stat(ctx context.Context, id store.CrateID) (store.CrateInfo, error) {
	const op = "stat crate"
	return call(ctx, s, op, toRead, func() (store.CrateInfo, error) {
		c, err := s.find(op, id)
		if err != nil {
			return store.CrateInfo{}, err
		}
		size, err := s.v.f.Size()
		if err != nil {
			return store.CrateInfo{}, s.ioError(op, err)
		}
		return c.info(), s.lies(op, c, size)
	}, nil)
}

// lies checks that a crate that the log tells of lies in the file, which has so many bytes: in
// a copy that was made while the container was in use the log may be ahead of what it names.
func (s *Store) lies(op string, c *crate, size int64) error {
	err := s.v.lies(c, size)
	if err == nil {
		return nil
	}
	// Its pages may have been filled with another since it was discarded.
	if gone := s.current(op, c); gone != nil {
		return gone
	}
	if !errors.Is(err, errHeader) && !errors.Is(err, errShort) {
		return s.unreadable(op, c, -1, err)
	}
	if _, replaced := s.same(op); replaced != nil {
		return replaced
	}
	s.damaged(c, -1)
	return s.crateError(store.Corrupt, op, c.id, "", err)
}

// List is store.Store's. The cursor is the last id that was looked for.
func (s *Store) List(ctx context.Context, cursor []byte) (store.Page, error) {
	const op = "list crates"
	if cursor != nil && len(cursor) != len(store.CrateID{}) {
		return store.Page{}, s.fail(store.Invalid, op, "the cursor is not one of this node's", nil)
	}
	return call(ctx, s, op, toRead, func() (store.Page, error) {
		if _, err := s.same(op); err != nil {
			return store.Page{}, err
		}
		crates, more := s.row(cursor)
		size, err := s.v.f.Size()
		if err != nil {
			return store.Page{}, s.ioError(op, err)
		}
		return s.listed(ctx, op, crates, more, size)
	}, nil)
}

// row gives the crates after an id, from the start if it is nil, as many as a page holds;
// more says that there are others.
func (s *Store) row(cursor []byte) (crates []*crate, more bool) {
	var after crate
	copy(after.id[:], cursor)
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.st.crates.Ascend(&after, func(c *crate) bool {
		if c.id == after.id {
			return true
		}
		if more = len(crates) == store.MaxPage; !more {
			crates = append(crates, c)
		}
		return !more
	})
	return crates, more
}

// listed lists those of a row of crates that lie in the file, as many as can be looked for in
// the time that a page has; more says that there are others behind them.
func (s *Store) listed(ctx context.Context, op string, crates []*crate, more bool, size int64) (page store.Page, err error) {
	begun := time.Now()
	page.Crates = make([]store.CrateInfo, 0, len(crates))
	for len(crates) > 0 {
		if err := context.Cause(ctx); err != nil {
			return store.Page{}, s.fail(store.Unavailable, op, "", err)
		}
		part := crates[:min(lookPart, len(crates))]
		there, err := s.look(op, part, size)
		if err != nil {
			return store.Page{}, err
		}
		for i, c := range part {
			if there[i] {
				page.Crates = append(page.Crates, c.info())
			}
		}
		last := part[len(part)-1].id
		if crates = crates[len(part):]; more || len(crates) > 0 {
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

// look reports of each crate whether it lies in the file.
func (s *Store) look(op string, crates []*crate, size int64) ([]bool, error) {
	there := make([]bool, len(crates))
	var g errgroup.Group
	for k := range lookers {
		g.Go(func() error {
			for i := k; i < len(crates); i += lookers {
				err := s.lies(op, crates[i], size)
				if there[i] = err == nil; err != nil && !errors.Is(err, store.NotFound) && !errors.Is(err, store.Corrupt) {
					return err
				}
			}
			return nil
		})
	}
	return there, g.Wait()
}
