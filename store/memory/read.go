package memory

import (
	"context"
	"io"
	"time"

	"stasis/store"
	"stasis/store/blocks"
)

// Renew is store.Store's.
func (s *Store) Renew(ctx context.Context, id store.ReservationID) (time.Time, error) {
	leave, err := s.enter(ctx, "renew reservation")
	if err != nil {
		return time.Time{}, err
	}
	defer leave()
	return s.book.Renew(ctx, id)
}

// Open is store.Store's.
func (s *Store) Open(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	leave, err := s.enter(ctx, "open crate")
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.reader(ctx, "open crate", id, offset, length)
}

func (s *Store) reader(ctx context.Context, op string, id store.CrateID, offset, length int64) (*blocks.Reader, error) {
	c, err := s.find(op, id)
	if err != nil {
		return nil, err
	}
	length, err = blocks.Range(op, id, c.info.Size, offset, length)
	if err != nil {
		return nil, err
	}
	return blocks.NewReader(ctx, op, blocks.Crate{
		ID: id, Size: c.info.Size,
		Digest: func(_ context.Context, i int64) (store.Digest, error) { return c.sums.Blocks[i], nil },
		Fetch: func(_ context.Context, p []byte, offset int64) error {
			copy(p, c.blocks[offset/store.BlockSize])
			return nil
		},
		Damaged: func(int64) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.damage++
		},
	}, offset, length), nil
}

func (s *Store) find(op string, id store.CrateID) (*crate, error) {
	if c := s.get(id); c != nil {
		return c, nil
	}
	return nil, &store.Error{Kind: store.NotFound, Op: op, Subject: id.String()}
}

// Verify is store.Store's.
func (s *Store) Verify(ctx context.Context, id store.CrateID, offset, length int64, nonce store.Digest) (store.Digest, error) {
	leave, err := s.enter(ctx, "verify crate")
	if err != nil {
		return store.Digest{}, err
	}
	defer leave()
	r, err := s.reader(ctx, "verify crate", id, offset, length)
	if err != nil {
		return store.Digest{}, err
	}
	d, err := blocks.Prove(r, nonce)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return d, err
}

// Stat is store.Store's.
func (s *Store) Stat(ctx context.Context, id store.CrateID) (store.CrateInfo, error) {
	leave, err := s.enter(ctx, "stat crate")
	if err != nil {
		return store.CrateInfo{}, err
	}
	defer leave()
	c, err := s.find("stat crate", id)
	if err != nil {
		return store.CrateInfo{}, err
	}
	return c.info, nil
}

// List is store.Store's. The cursor is the last id of the page before.
func (s *Store) List(ctx context.Context, cursor []byte) (store.Page, error) {
	leave, err := s.enter(ctx, "list crates")
	if err != nil {
		return store.Page{}, err
	}
	defer leave()
	if cursor != nil && len(cursor) != len(store.CrateID{}) {
		return store.Page{}, &store.Error{Kind: store.Invalid, Op: "list crates", Detail: "the cursor is not one of this node's"}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var page store.Page
	s.crates.Ascend(string(cursor), func(key string, c *crate) bool {
		if key == string(cursor) {
			return true
		}
		if len(page.Crates) == store.MaxPage {
			last := page.Crates[store.MaxPage-1].ID
			page.Next = last[:]
			return false
		}
		page.Crates = append(page.Crates, c.info)
		return true
	})
	return page, nil
}
