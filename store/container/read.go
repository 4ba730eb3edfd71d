package container

import (
	"context"
	"errors"
	"fmt"
	"io"

	"stasis/store"
	"stasis/store/blocks"
)

// Open is store.Store's.
func (s *Store) Open(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	return s.open(ctx, id, offset, length, true)
}

// OpenUnverified is store.Unverified's.
func (s *Store) OpenUnverified(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	return s.open(ctx, id, offset, length, false)
}

func (s *Store) open(ctx context.Context, id store.CrateID, offset, length int64, check bool) (io.ReadCloser, error) {
	const op = "open crate"
	if err := s.enter(ctx, op); err != nil {
		return nil, err
	}
	defer s.busy.Done()
	return s.reader(ctx, op, id, offset, length, check)
}

// reader gives a reader that is counted in for as long as it reads a block, not
// for as long as it is open: one that is left open does not hold up a Close.
func (s *Store) reader(ctx context.Context, op string, id store.CrateID, offset, length int64, check bool) (*blocks.Reader, error) {
	c, err := s.find(op, id)
	if err != nil {
		return nil, err
	}
	if length, err = blocks.Range(op, id, c.size, offset, length); err != nil {
		return nil, err
	}
	_, data := c.headerData()
	of := blocks.Crate{
		ID: id, Size: c.size,
		Fetch: func(ctx context.Context, p []byte, offset int64) error {
			_, err := call(ctx, s, op, toRead, func() (struct{}, error) {
				return struct{}{}, s.fetch(op, c, data, p, offset)
			}, nil)
			return err
		},
		Damaged: func(block int64) { s.damaged(c, block) },
	}
	if check {
		of.Digest = (&digestsOf{s: s, op: op, c: c}).digest
	}
	return blocks.NewReader(ctx, op, of, offset, length), nil
}

// fetch reads a part of a crate's data.
func (s *Store) fetch(op string, c *crate, data []extent, p []byte, offset int64) error {
	err := s.v.readData(data, p, offset)
	// A crate that was discarded meanwhile may have had its pages filled with another.
	if gone := s.current(op, c); gone != nil {
		return gone
	}
	if err != nil {
		return s.unreadable(op, c, offset/store.BlockSize, err)
	}
	return nil
}

// current is nil as long as the crate is in the index.
func (s *Store) current(op string, c *crate) error {
	if s.get(c.id) != c {
		return s.crateError(store.NotFound, op, c.id, "it was discarded while it was read", nil)
	}
	return nil
}

// unreadable tells a place that the medium has lost from a disk that is gone.
func (s *Store) unreadable(op string, c *crate, block int64, err error) error {
	s.f.DropCache(0, PageSize)
	raw := make([]byte, PageSize)
	if gone := errors.Join(s.check(), s.v.readPages(raw, 0)); gone != nil {
		return s.crateError(store.Unavailable, op, c.id, "", errors.Join(err, gone))
	}
	s.damaged(c, block)
	return s.crateError(store.Corrupt, op, c.id, fmt.Sprintf("the disk does not give block %d", block), err)
}

// digestsOf reads a crate's digests as a reader comes to need them. It is used by
// one goroutine at a time.
type digestsOf struct {
	s     *Store
	op    string
	c     *crate
	first int64
	have  []store.Digest
}

func (d *digestsOf) digest(ctx context.Context, i int64) (store.Digest, error) {
	if i < d.first || i >= d.first+int64(len(d.have)) {
		to := min(i+digestWindow, store.Blocks(d.c.size))
		have, err := call(ctx, d.s, d.op, toRead, func() ([]store.Digest, error) {
			return d.s.digests(d.op, d.c, i, to)
		}, nil)
		if err != nil {
			return store.Digest{}, err
		}
		d.first, d.have = i, have
	}
	return d.have[i-d.first], nil
}

// digests reads those of blocks from..to (exclusive) from the crate's header.
func (s *Store) digests(op string, c *crate, from, to int64) ([]store.Digest, error) {
	digests, err := s.v.digests(c, from, to)
	if gone := s.current(op, c); gone != nil {
		return nil, gone
	}
	switch {
	case errors.Is(err, errHeader):
		s.damaged(c, -1)
		return nil, s.crateError(store.Corrupt, op, c.id, "", err)
	case err != nil:
		return nil, s.unreadable(op, c, -1, err)
	}
	return digests, nil
}

func (s *Store) find(op string, id store.CrateID) (*crate, error) {
	if c := s.get(id); c != nil {
		return c, nil
	}
	return nil, s.crateError(store.NotFound, op, id, "", nil)
}

// Verify is store.Store's.
func (s *Store) Verify(ctx context.Context, id store.CrateID, offset, length int64, nonce store.Digest) (store.Digest, error) {
	const op = "verify crate"
	if err := s.enter(ctx, op); err != nil {
		return store.Digest{}, err
	}
	defer s.busy.Done()
	r, err := s.reader(ctx, op, id, offset, length, true)
	if err != nil {
		return store.Digest{}, err
	}
	if c := s.get(id); c != nil {
		for _, e := range c.extents {
			s.f.DropCache(e.start*PageSize, e.pages*PageSize)
		}
	}
	d, err := blocks.Prove(r, nonce)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return d, err
}
