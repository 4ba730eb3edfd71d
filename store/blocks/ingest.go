package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"stasis/store"
)

// smallCrate is the size in bytes up to which a crate moves through a small
// buffer: many of them at once should not each take a whole block's memory.
const smallCrate = 64 << 10

var (
	buffers      = sync.Pool{New: func() any { b := make([]byte, store.BlockSize); return &b }}
	smallBuffers = sync.Pool{New: func() any { b := make([]byte, smallCrate); return &b }}
)

// buffersFor gives the pool for the blocks of a crate of size bytes.
func buffersFor(size int64) *sync.Pool {
	if size <= smallCrate {
		return &smallBuffers
	}
	return &buffers
}

// Ingest reads the whole source of a put, a block at a time, hands each block to
// sink and gives the checksums of what it handed over. Bytes that are too few, too
// many or not those of r.Expect are Corrupt; an error of the source keeps its kind
// and is Unavailable if it has none; an error of sink is returned as it is.
// Cancelling ctx closes the source, which ends a read that waits for it.
func Ingest(ctx context.Context, r store.PutRequest, sink func(block []byte) error) (store.Checksums, error) {
	if r.Source == nil {
		return store.Checksums{}, &store.Error{Kind: store.Invalid, Op: opPut, Subject: r.Crate.String(), Detail: "no source"}
	}
	if err := context.Cause(ctx); err != nil {
		return store.Checksums{}, Ended(opPut, r.Crate, err)
	}
	src, err := r.Source.OpenAt(ctx, 0)
	if err != nil {
		return store.Checksums{}, sourceError(ctx, r.Crate, err)
	}
	closeSource := sync.OnceValue(src.Close)
	stop := context.AfterFunc(ctx, func() { _ = closeSource() })
	// The source was only read: its Close has nothing to say about the bytes.
	defer func() { stop(); _ = closeSource() }()

	pool := buffersFor(r.Size)
	buf := pool.Get().(*[]byte)
	defer pool.Put(buf)
	var h store.Hasher
	for i := range store.Blocks(r.Size) {
		p := (*buf)[:store.BlockLen(r.Size, i)]
		n, err := io.ReadFull(src, p)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return store.Checksums{}, wrong(r.Crate, fmt.Sprintf("the source ended after %d of %d bytes", i*store.BlockSize+int64(n), r.Size))
		}
		if err != nil {
			return store.Checksums{}, sourceError(ctx, r.Crate, err)
		}
		if err := context.Cause(ctx); err != nil {
			return store.Checksums{}, Ended(opPut, r.Crate, err)
		}
		_, _ = h.Write(p) // never fails
		if err := sink(p); err != nil {
			return store.Checksums{}, err
		}
	}
	switch n, err := io.ReadFull(src, (*buf)[:1]); {
	case n > 0:
		return store.Checksums{}, wrong(r.Crate, fmt.Sprintf("the source has more than %d bytes", r.Size))
	case err != io.EOF:
		return store.Checksums{}, sourceError(ctx, r.Crate, err)
	}
	sums := h.Sums()
	if r.Expect != nil && sums.Root() != *r.Expect {
		return store.Checksums{}, wrong(r.Crate, "the bytes have another digest than expected")
	}
	return sums, nil
}

// Sums gives the checksums of what is put: those that r.Fresh has, if it has any, or else
// as Ingest does.
func Sums(ctx context.Context, r store.PutRequest) (store.Checksums, error) {
	if r.Fresh == nil {
		return Ingest(ctx, r, func([]byte) error { return nil })
	}
	if !r.Fresh.Valid() || r.Fresh.Size != r.Size || r.Expect != nil && r.Fresh.Root() != *r.Expect {
		return store.Checksums{}, wrong(r.Crate, "the bytes have another digest than expected")
	}
	return *r.Fresh, nil
}

func wrong(crate store.CrateID, detail string) error {
	return &store.Error{Kind: store.Corrupt, Op: opPut, Subject: crate.String(), Detail: detail}
}

func sourceError(ctx context.Context, crate store.CrateID, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return Ended(opPut, crate, cause)
	}
	kind := store.KindOf(err)
	if kind == 0 {
		kind = store.Unavailable
	}
	return &store.Error{Kind: kind, Op: opPut, Subject: crate.String(), Detail: "its source failed", Err: err}
}

// Ended is the answer to a caller whose context ended.
func Ended(op string, crate store.CrateID, err error) error {
	if errors.As(err, new(*store.Error)) {
		return err
	}
	return &store.Error{Kind: store.Unavailable, Op: op, Subject: crate.String(), Err: err}
}
