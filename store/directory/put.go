package directory

import (
	"context"
	"os"

	"stasis/store"
	"stasis/store/blocks"
	"stasis/store/booking"
)

const opPut = "put crate"

// arrival is a crate on its way in. Whoever makes one has the crate's lock.
type arrival struct {
	r        store.PutRequest
	known    known
	draw     *booking.Draw
	file     *os.File // in tmp/; nil once it is closed
	sums     store.Checksums
	rec      record
	position store.Position // once it is in the index
	moved    bool           // its file has been renamed into its place
	err      error
}

// Put is store.Store's.
func (s *Store) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	return do(ctx, s, opPut, toChange, nil, func() ([]store.Receipt, error) { return s.put(ctx, r) })
}

func (s *Store) put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	if err := blocks.CheckPut(r); err != nil {
		return nil, err
	}
	unlock, err := s.lock(ctx, opPut, r.Crate)
	if err != nil {
		return nil, err
	}
	defer unlock()
	a, receipts, err := s.admit(ctx, r)
	if err != nil || receipts != nil {
		return receipts, s.crateError(opPut, r.Crate, err)
	}
	s.receive(ctx, a)
	s.place(ctx, []*arrival{a}, nil)
	return s.answer(a)
}

// admit takes the space for a crate that is new, or gives the receipt for one that
// is there.
func (s *Store) admit(ctx context.Context, r store.PutRequest) (*arrival, []store.Receipt, error) {
	k, err := s.index.lookup(r.Crate)
	if err != nil {
		return nil, nil, err
	}
	if k.there {
		receipts, err := s.repeat(ctx, k.rec, r)
		return nil, receipts, err
	}
	if r.Expect != nil {
		if err := k.allows(r, *r.Expect); err != nil {
			return nil, nil, err
		}
	}
	if r.Source == nil {
		return nil, nil, &store.Error{Kind: store.Invalid, Op: opPut, Subject: r.Crate.String(), Detail: "no source"}
	}
	draw, err := s.book.Draw(r.Reservation, r.Crate, store.Charge(r.Size))
	if err != nil {
		return nil, nil, err
	}
	return &arrival{r: r, known: k, draw: draw}, nil, nil
}

// repeat answers for a crate that is there.
func (s *Store) repeat(ctx context.Context, rec record, r store.PutRequest) ([]store.Receipt, error) {
	if r.Expect == nil && r.Source == nil {
		return nil, &store.Error{Kind: store.Invalid, Op: opPut, Subject: r.Crate.String(), Detail: "no source"}
	}
	if err := blocks.Same(ctx, rec.info(), r); err != nil {
		return nil, err
	}
	// The receipt says that the crate is here: its file, at least, must be.
	if err := s.stands(rec); err != nil {
		return nil, err
	}
	sums, err := s.index.sums(rec)
	if err != nil {
		return nil, err
	}
	// It may have come in an attempt whose sync failed, and that could not be undone.
	if err := s.index.sync(ctx, s.index.db.Position()); err != nil {
		return nil, err
	}
	position, err := s.publish()
	if err != nil {
		return nil, err
	}
	return s.receipt(sums, position), nil
}

// allows refuses other bytes for an id that has stood for some before.
func (k known) allows(r store.PutRequest, root store.Digest) error {
	if k.tomb == nil || k.tomb.root == root && k.tomb.form == r.Form {
		return nil
	}
	return &store.Error{
		Kind: store.Conflict, Op: opPut, Subject: r.Crate.String(),
		Detail: "this id has stood for other bytes, which were discarded", Hint: "use a new id",
	}
}

// receive writes the bytes of a crate to its file in tmp/.
func (s *Store) receive(ctx context.Context, a *arrival) {
	var err error
	if a.file, err = s.tree.create(a.r.Crate); err != nil {
		a.err = err
		return
	}
	if err := preallocate(a.file, a.r.Size); err != nil {
		a.err = err
		return
	}
	a.sums, a.err = blocks.Ingest(ctx, a.r, func(block []byte) error {
		if err := s.tree.probe.before("write"); err != nil {
			return err
		}
		n, err := a.file.Write(block)
		a.draw.Written(int64(n))
		return err
	})
	if a.err != nil {
		return
	}
	a.rec = newRecord(a.r.Crate, a.r.Form, a.sums)
	a.err = a.known.allows(a.r, a.rec.root)
}
