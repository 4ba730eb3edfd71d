package wire

import (
	"bytes"
	"context"
	"io"

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

// Room is the memory of the server that receives a batch: it waits for least bytes, and gives
// as many of most as there are, until done.
type Room func(ctx context.Context, least, most int64) (n int64, done func(), err error)

// ReceiveBatch takes the content of a batch, which has been checked, as it comes, as much at a
// time as there is room for, and puts it. expect hears how many bytes come next.
func ReceiveBatch(ctx context.Context, head *Batch, in io.Reader, room Room, expect func(bytes int64) error, put func(context.Context, []store.PutRequest) []store.PutResult) ([]store.PutResult, error) {
	out := make([]store.PutResult, 0, len(head.Crates))
	for rest := head.Crates; len(rest) > 0; {
		n, err := receivePart(ctx, rest, in, room, expect, func(rs []store.PutRequest) { out = append(out, put(ctx, rs)...) })
		if err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	return out, nil
}

// receivePart takes the first of some crates, n of them.
func receivePart(ctx context.Context, heads []PutHead, in io.Reader, room Room, expect func(int64) error, put func([]store.PutRequest)) (n int, err error) {
	_, most := fitting(heads, ClientBatchBytes)
	got, done, err := room(ctx, heads[0].Size, most)
	if err != nil {
		return 0, err
	}
	defer done()
	n, size := fitting(heads, got)
	if err := expect(size); err != nil {
		return 0, err
	}
	content := make([]byte, size)
	if _, err := io.ReadFull(in, content); err != nil {
		return 0, &store.Error{Kind: store.Unavailable, Op: "receive a batch", Detail: "it broke off", Err: err}
	}
	rs := make([]store.PutRequest, n)
	for i := range rs {
		if rs[i], err = heads[i].Request(); err != nil {
			return 0, err
		}
		size := rs[i].Size
		rs[i].Source, content = memorySource(content[:size:size]), content[size:]
	}
	put(rs)
	return n, nil
}

// fitting is how many of the first crates, at least one, have so many bytes at most, and what
// they have.
func fitting(heads []PutHead, most int64) (n int, bytes int64) {
	for n < len(heads) && (n == 0 || bytes+heads[n].Size <= most) {
		bytes += heads[n].Size
		n++
	}
	return n, bytes
}

// memorySource is content in memory.
type memorySource []byte

// OpenAt never fails within the content.
func (m memorySource) OpenAt(_ context.Context, offset int64) (io.ReadCloser, error) {
	if offset < 0 || offset > int64(len(m)) {
		return nil, invalid("a source", "an offset of %d in %d bytes", offset, len(m))
	}
	return io.NopCloser(bytes.NewReader(m[offset:])), nil
}
