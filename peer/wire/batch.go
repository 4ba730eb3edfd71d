package wire

import (
	"context"

	"stasis/store"
)

// Exchange sends one batch, the contents of its crates behind one another, and gives the
// outcome for each.
type Exchange func(ctx context.Context, head *Batch, content []byte) ([]store.PutResult, error)

// PutBatch puts many crates: in batches within the limits, what does not fit into one by
// put. A source that fails costs its own crate only.
func PutBatch(ctx context.Context, rs []store.PutRequest, put func(context.Context, store.PutRequest) ([]store.Receipt, error), exchange Exchange) []store.PutResult {
	out := make([]store.PutResult, len(rs))
	var some []int
	bytes := int64(0)
	flush := func() {
		if len(some) > 0 {
			putSome(ctx, rs, some, out, exchange)
		}
		some, bytes = nil, 0
	}
	for i, r := range rs {
		if CheckPut(r) != nil || r.Size > MaxBatchCrate {
			out[i].Receipts, out[i].Err = put(ctx, r)
			continue
		}
		if len(some) == MaxBatchCrates || bytes+r.Size > ClientBatchBytes {
			flush()
		}
		some, bytes = append(some, i), bytes+r.Size
	}
	flush()
	return out
}

// putSome puts the requests with the given numbers in one exchange.
func putSome(ctx context.Context, rs []store.PutRequest, which []int, out []store.PutResult, exchange Exchange) {
	var head Batch
	var content []byte
	var sent []int
	for _, i := range which {
		p, err := ReadContent(ctx, rs[i])
		if err != nil {
			out[i].Err = err
			continue
		}
		head.Crates = append(head.Crates, FromPut(rs[i]))
		content = append(content, p...)
		sent = append(sent, i)
	}
	if len(sent) == 0 {
		return
	}
	results, err := exchange(ctx, &head, content)
	for k, i := range sent {
		if err != nil {
			out[i].Err = err
			continue
		}
		if out[i] = results[k]; out[i].Err == nil {
			out[i].Err = Agree(rs[i], out[i].Receipts)
		}
	}
}
