package container

import (
	"bytes"
	"context"
	"slices"

	"stasis/store"
	"stasis/store/blocks"
	"stasis/store/booking"
)

const opPut = "put crate"

// kept is what a put has come to.
type kept struct {
	receipts []store.Receipt
	crate    *crate // that was not there before; nil otherwise
}

// Put is store.Store's.
func (s *Store) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	k, err := call(ctx, s, opPut, toChange, func() (kept, error) {
		if err := blocks.CheckPut(r); err != nil {
			return kept{}, err
		}
		unlock, err := s.ids.Lock(ctx, r.Crate)
		if err != nil {
			return kept{}, blocks.Ended(opPut, r.Crate, err)
		}
		defer unlock()
		k, ch, err := s.stage(ctx, r)
		if err == nil && ch != nil {
			err = s.commitCrate(opPut, r.Crate, ch)
			s.place(k.receipts)
		}
		return k, err
	}, s.takeBack)
	if err != nil {
		return nil, err
	}
	return k.receipts, nil
}

// takeBack discards what a put has stored after its caller had gone.
func (s *Store) takeBack(k kept) {
	if k.crate != nil {
		// If it can't be discarded it is a crate that nobody asked for, which List tells of.
		_ = s.discard(context.Background(), k.crate.id)
	}
}

// PutBatch is store.Batcher's: all crates are written, then they share a commit.
func (s *Store) PutBatch(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	type results struct {
		put  []store.PutResult
		kept []kept
	}
	all, err := call(ctx, s, opPut, toChange, func() (results, error) {
		var r results
		r.put, r.kept = s.putBatch(ctx, rs)
		return r, nil
	}, func(r results) {
		for _, k := range r.kept {
			s.takeBack(k)
		}
	})
	if err != nil {
		all.put = make([]store.PutResult, len(rs))
		for i := range all.put {
			all.put[i].Err = err
		}
	}
	return all.put
}

func (s *Store) putBatch(ctx context.Context, rs []store.PutRequest) ([]store.PutResult, []kept) {
	out, all := make([]store.PutResult, len(rs)), make([]kept, len(rs))
	rest := make([]int, len(rs))
	for i := range rest {
		rest[i] = i
	}
	// The locks are taken in the order of the ids. Who comes twice waits for a
	// further round, in which the first is there already.
	slices.SortStableFunc(rest, func(a, b int) int { return bytes.Compare(rs[a].Crate[:], rs[b].Crate[:]) })
	for len(rest) > 0 {
		var now, later []int
		for k, i := range rest {
			if k > 0 && rs[i].Crate == rs[rest[k-1]].Crate {
				later = append(later, i)
			} else {
				now = append(now, i)
			}
		}
		s.putRound(ctx, rs, now, out, all)
		rest = later
	}
	return out, all
}

// putRound stores the requests of these indices, which are for different crates.
func (s *Store) putRound(ctx context.Context, rs []store.PutRequest, indices []int, out []store.PutResult, all []kept) {
	var changes []*change
	var staged []int
	for _, i := range indices {
		if out[i].Err = blocks.CheckPut(rs[i]); out[i].Err != nil {
			continue
		}
		unlock, err := s.ids.Lock(ctx, rs[i].Crate)
		if err != nil {
			out[i].Err = blocks.Ended(opPut, rs[i].Crate, err)
			continue
		}
		defer unlock()
		k, ch, err := s.stage(ctx, rs[i])
		all[i], out[i] = k, store.PutResult{Receipts: k.receipts, Err: err}
		if err == nil && ch != nil {
			changes, staged = append(changes, ch), append(staged, i)
		}
	}
	errs := s.commit(changes...)
	for _, i := range staged {
		s.place(out[i].Receipts)
	}
	for k, err := range errs {
		if err != nil {
			i := staged[k]
			all[i], out[i] = kept{}, store.PutResult{Err: s.crateError(store.KindOf(err), opPut, rs[i].Crate, "", err)}
		}
	}
}

// stage writes a crate to the file, where nothing names it yet. The change that
// it gives makes it a fact; it is nil if the crate was there already. The caller
// has the crate's lock, until the change is settled.
func (s *Store) stage(ctx context.Context, r store.PutRequest) (kept, *change, error) {
	if c := s.get(r.Crate); c != nil {
		receipts, err := s.repeat(ctx, c, r)
		return kept{receipts: receipts}, nil, err
	}
	draw, err := s.book.Draw(r.Reservation, r.Crate, store.Charge(r.Size))
	if err != nil {
		return kept{}, nil, err
	}
	c := &crate{id: r.Crate, form: r.Form, size: r.Size, seq: s.nextSeq.Add(1) - 1}
	since := s.epoch.Load()
	sums, err := s.receive(ctx, r, c, draw)
	if err == nil && r.Size >= syncAlone {
		if err = s.sync(since); err != nil {
			err = s.ioError(opPut, err)
		}
	}
	if err != nil {
		s.drop(c, draw)
		return kept{}, nil, err
	}
	charge := draw.Charge()
	ch := &change{
		records: append(encodeCrate(c), encodeDraw(r.Reservation, charge)),
		data:    true, since: since, grows: true,
		apply: func(st *state) {
			st.add(c)
			st.draw(r.Reservation, charge)
		},
		settle: func(err error) {
			if err != nil {
				s.drop(c, draw)
				return
			}
			draw.Commit()
		},
	}
	return kept{receipts: s.receipt(sums), crate: c}, ch, nil
}

// drop gives back what a crate took that has come to nothing: first the pages,
// then the promise of them.
func (s *Store) drop(c *crate, draw *booking.Draw) {
	if c.extents != nil {
		s.room.release(c.extents)
	}
	draw.Undo()
}

// writing has fn write to the file in a place of its own, one of maxWrites.
func (s *Store) writing(ctx context.Context, id store.CrateID, fn func() error) error {
	select {
	case s.writes <- struct{}{}:
		defer func() { <-s.writes }()
	case <-ctx.Done():
		return blocks.Ended(opPut, id, context.Cause(ctx))
	}
	if err := fn(); err != nil {
		return s.ioError(opPut, err)
	}
	return nil
}

// receive takes pages for the crate and fills them from the source. While it waits for that, it
// holds nothing that another put might want. After an error the crate may have extents, which are
// then to be released.
func (s *Store) receive(ctx context.Context, r store.PutRequest, c *crate, draw *booking.Draw) (store.Checksums, error) {
	es, ok, err := s.room.forCrate(ctx, c.size)
	if err != nil {
		return store.Checksums{}, blocks.Ended(opPut, c.id, err)
	}
	if !ok {
		return store.Checksums{}, s.noRoom(c.id)
	}
	c.extents = es
	_, data := c.headerData()
	// A small crate is held back so that its header and its data are one write.
	var held []byte
	var offset int64
	sums, err := blocks.Ingest(ctx, r, func(block []byte) error {
		if c.size <= store.BlockSize {
			held = make([]byte, dataPages(c.size)*PageSize)
			copy(held, block)
			return nil
		}
		if err := s.writing(ctx, c.id, func() error { return s.v.writeData(data, block, offset) }); err != nil {
			return err
		}
		offset += int64(len(block))
		draw.Written(int64(len(block)))
		return nil
	})
	if err != nil {
		return store.Checksums{}, err
	}
	c.root = sums.Root()
	if err := s.writing(ctx, c.id, func() error { return s.writeHeader(c, sums, held) }); err != nil {
		return store.Checksums{}, err
	}
	draw.Written(draw.Charge())
	return sums, nil
}

// writeHeader writes a crate's header and, unless that is nil, the data that was held back.
func (s *Store) writeHeader(c *crate, sums store.Checksums, held []byte) error {
	out := batchWriter{v: s.v}
	numbers, raw := encodeHeader(s.v.key, c, sums.Blocks)
	for i, n := range numbers {
		if err := out.write(n, raw[i]); err != nil {
			return err
		}
	}
	if held != nil {
		_, data := c.headerData()
		for i, n := range pageNumbers(data) {
			if err := out.write(n, held[i*PageSize:][:PageSize]); err != nil {
				return err
			}
		}
	}
	return out.flush()
}

// repeat answers a put for a crate that is there.
func (s *Store) repeat(ctx context.Context, c *crate, r store.PutRequest) ([]store.Receipt, error) {
	if err := blocks.Same(ctx, c.info(), r); err != nil {
		return nil, err
	}
	digests, err := s.digests(opPut, c, 0, store.Blocks(c.size))
	if err != nil {
		return nil, err
	}
	return s.receipt(store.Checksums{Size: c.size, Blocks: digests}), nil
}

func (s *Store) receipt(sums store.Checksums) []store.Receipt {
	return []store.Receipt{{Leaf: s.leaf, Sums: sums, Time: s.clock.Wall(), Position: s.standing.now()}}
}

// place gives receipts that were made before their commit the position that it has led to.
func (s *Store) place(receipts []store.Receipt) {
	for i := range receipts {
		receipts[i].Position = s.standing.now()
	}
}

func (s *Store) get(id store.CrateID) *crate {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c, _ := s.st.get(id)
	return c
}

// Discard is store.Store's. Readers that have the crate open get an error.
func (s *Store) Discard(ctx context.Context, r store.DiscardRequest) error {
	_, err := call(ctx, s, opDiscard, toChange, func() (struct{}, error) {
		return struct{}{}, s.discard(ctx, r.Crate)
	}, nil)
	return err
}

const opDiscard = "discard crate"

func (s *Store) discard(ctx context.Context, id store.CrateID) error {
	unlock, err := s.ids.Lock(ctx, id)
	if err != nil {
		return blocks.Ended(opDiscard, id, err)
	}
	defer unlock()
	c := s.get(id)
	if c == nil {
		return nil
	}
	return s.commitCrate(opDiscard, id, &change{
		records: [][]byte{encodeDiscard(id, c.seq)},
		apply:   func(st *state) { st.drop(id) },
		freed:   c.extents,
		settle: func(err error) {
			if err == nil {
				s.book.Freed(store.Charge(c.size))
			}
		},
	})
}

// commitCrate commits a change of one crate. An error names the crate.
func (s *Store) commitCrate(op string, id store.CrateID, ch *change) error {
	if err := s.commit(ch)[0]; err != nil {
		return s.crateError(store.KindOf(err), op, id, "", err)
	}
	return nil
}
