package host

import (
	"bytes"
	"context"
	"slices"

	"stasis/store"
)

// putBatch keeps many crates.
func (o *owner) putBatch(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	out := make([]store.PutResult, len(rs))
	var small, other []int
	seen := make(map[store.CrateID]bool, len(rs))
	for i, r := range rs {
		switch err := checkPut(r); {
		case err != nil:
			out[i].Err = err
		case r.Size > SmallCrate || seen[r.Crate]:
			other = append(other, i)
		default:
			seen[r.Crate] = true
			small = append(small, i)
		}
	}
	o.putSmalls(ctx, rs, small, out)
	for _, i := range other {
		out[i].Receipts, out[i].Err = o.put(ctx, rs[i])
	}
	return out
}

// putSmalls puts those in which, as many at a time as there is memory for: the locks of all
// come before it.
func (o *owner) putSmalls(ctx context.Context, rs []store.PutRequest, which []int, out []store.PutResult) {
	unlock, err := o.lockAll(ctx, rs, which)
	defer unlock()
	memory := o.h.lanes.memory
	for len(which) > 0 {
		var got int64
		if err == nil {
			_, most := partOf(rs, which, partBytes)
			got, err = memory.AcquireSome(ctx, o.lane, rs[which[0]].Size, most)
		}
		if err != nil {
			for _, i := range which {
				out[i].Err = err
			}
			return
		}
		n, _ := partOf(rs, which, got)
		o.putPart(ctx, rs, which[:n], out)
		memory.Release(o.lane, got)
		which = which[n:]
	}
}

// partOf is how many of those in which are handled together in so many bytes, at least one,
// and what they have.
func partOf(rs []store.PutRequest, which []int, most int64) (n int, bytes int64) {
	for _, i := range which {
		if n == partCrates || n > 0 && bytes+rs[i].Size > most {
			break
		}
		n++
		bytes += rs[i].Size
	}
	return n, bytes
}

// putPart puts those in which, whose locks and memory the caller has: reads all, then delivers
// all.
func (o *owner) putPart(ctx context.Context, rs []store.PutRequest, which []int, out []store.PutResult) {
	var items []*item
	var at []int
	for _, i := range which {
		rec, there, err := o.known(ctx, rs[i].Crate)
		switch {
		case err != nil:
			out[i].Err = err
		case there:
			out[i].Receipts, out[i].Err = o.repeat(ctx, rec, rs[i])
		default:
			it := o.receive(ctx, rs[i])
			if out[i].Err = it.err; it.err == nil {
				items, at = append(items, it), append(at, i)
			}
		}
	}
	if len(items) == 0 {
		return
	}
	o.deliver(ctx, items, o.h.lanes.light, o.storeItems)
	for k, it := range items {
		out[at[k]] = store.PutResult{Receipts: it.receipts, Err: it.err}
	}
}

// lockAll takes the locks of these crates in the order of their ids, so that two batches
// never wait for each other. unlock is never nil.
func (o *owner) lockAll(ctx context.Context, rs []store.PutRequest, which []int) (unlock func(), err error) {
	var held []func()
	unlock = func() {
		for _, u := range held {
			u()
		}
	}
	order := slices.Clone(which)
	slices.SortFunc(order, func(a, b int) int { return bytes.Compare(rs[a].Crate[:], rs[b].Crate[:]) })
	for _, i := range order {
		u, err := o.crates.Lock(ctx, rs[i].Crate)
		if err != nil {
			return unlock, err
		}
		held = append(held, u)
	}
	return unlock, nil
}
