package directory

import (
	"bytes"
	"context"
	"os"
	"slices"

	"stasis/store"
	"stasis/store/blocks"
)

// PutBatch is store.Batcher's.
func (s *Store) PutBatch(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	out := make([]store.PutResult, 0, len(rs))
	for len(rs) > 0 {
		// An abandoned call may look at its part after this has returned.
		now := rs[:part(rs)]
		rs = rs[len(now):]
		got, err := do(ctx, s, "put crates", toChange, nil, func() ([]store.PutResult, error) {
			return s.putPart(ctx, now), nil
		})
		if err != nil {
			got = make([]store.PutResult, len(now))
			for i := range got {
				got[i].Err = err
			}
		}
		out = append(out, got...)
	}
	return out
}

// part is how many of a batch are handled together: at least one.
func part(rs []store.PutRequest) int {
	var bytes int64
	for i, r := range rs {
		bytes += r.Size
		if i == MaxBatch || i > 0 && bytes > maxBatchBytes {
			return i
		}
	}
	return len(rs)
}

func (s *Store) putPart(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	out := make([]store.PutResult, len(rs))
	first, again := distinct(rs, out)
	unlock, err := s.lockAll(ctx, rs, first)
	if err != nil {
		for _, i := range first {
			out[i].Err = err
		}
	} else {
		s.putDistinct(ctx, rs, first, out)
	}
	unlock()
	for _, i := range again {
		receipts, err := s.put(ctx, rs[i])
		out[i] = store.PutResult{Receipts: receipts, Err: s.crateError(opPut, rs[i].Crate, err)}
	}
	return out
}

// distinct gives the requests that make sense, in the order of their ids, and those
// that repeat an id of the same batch. It answers the others.
func distinct(rs []store.PutRequest, out []store.PutResult) (first, again []int) {
	seen := make(map[store.CrateID]bool, len(rs))
	for i, r := range rs {
		switch err := blocks.CheckPut(r); {
		case err != nil:
			out[i].Err = err
		case seen[r.Crate]:
			again = append(again, i)
		default:
			seen[r.Crate] = true
			first = append(first, i)
		}
	}
	slices.SortFunc(first, func(a, b int) int { return bytes.Compare(rs[a].Crate[:], rs[b].Crate[:]) })
	return first, again
}

// lockAll takes the locks of these crates in the order of their ids. unlock is
// never nil.
func (s *Store) lockAll(ctx context.Context, rs []store.PutRequest, which []int) (unlock func(), err error) {
	var held []func()
	unlock = func() {
		for _, u := range held {
			u()
		}
	}
	for _, i := range which {
		u, err := s.lock(ctx, opPut, rs[i].Crate)
		if err != nil {
			return unlock, err
		}
		held = append(held, u)
	}
	return unlock, nil
}

// putDistinct puts the requests in which, whose crates are locked.
func (s *Store) putDistinct(ctx context.Context, rs []store.PutRequest, which []int, out []store.PutResult) {
	var as []*arrival
	var at []int
	for _, i := range which {
		a, receipts, err := s.admit(ctx, rs[i])
		if a == nil {
			out[i] = store.PutResult{Receipts: receipts, Err: s.crateError(opPut, rs[i].Crate, err)}
			continue
		}
		as, at = append(as, a), append(at, i)
	}
	watch := s.receiveAll(ctx, as)
	s.place(ctx, as, watch)
	if watch != nil {
		_ = watch.Close() // only synced with
	}
	for k, a := range as {
		receipts, err := s.answer(a)
		out[at[k]] = store.PutResult{Receipts: receipts, Err: err}
	}
}

// receiveAll writes all of them and gives the file by which a syncfs sees what may
// have gone wrong since.
func (s *Store) receiveAll(ctx context.Context, as []*arrival) *os.File {
	if len(as) == 0 {
		return nil
	}
	watch, err := s.tree.watch()
	if err != nil {
		failAll(as, err)
		return nil
	}
	_ = together(len(as), batchWriters, func(i int) error { // each arrival keeps its own error
		s.receive(ctx, as[i])
		return nil
	})
	return watch
}
