package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"stasis/store"
)

// Content reads the bytes of a put on their way out. What is wrong with them is as every
// store says it: too few or too many are Corrupt, an error of the source keeps its kind and
// is Unavailable if it has none. A source that failed is told to the peer, which then
// forgets what it has of the crate; a link that broke is not.
type Content struct {
	ctx    context.Context
	crate  store.CrateID
	src    io.Reader
	left   int64 // bytes
	size   int64
	stop   func() bool
	closed func() error
}

// OpenContent opens the source of a put at an offset. Cancelling ctx ends a read that waits.
func OpenContent(ctx context.Context, r store.PutRequest, offset int64) (*Content, error) {
	if offset < 0 || offset > r.Size || offset%store.BlockSize != 0 && offset != r.Size {
		return nil, invalid("where a crate begins", "%d of %d bytes", offset, r.Size)
	}
	c := &Content{ctx: ctx, crate: r.Crate, left: r.Size - offset, size: r.Size}
	src, err := r.Source.OpenAt(ctx, offset)
	if err != nil {
		return nil, c.failed(err)
	}
	c.src, c.closed = src, sync.OnceValue(src.Close)
	c.stop = context.AfterFunc(ctx, func() { _ = c.closed() }) // it was only read
	return c, nil
}

// Close gives up the source.
func (c *Content) Close() {
	c.stop()
	_ = c.closed() // it was only read: Close has nothing to say about the bytes
}

// Left is how many bytes are still to come.
func (c *Content) Left() int64 { return c.left }

// Read fills p as far as there are bytes left. io.EOF comes only after all of them, when
// the source has ended too.
func (c *Content) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, c.end()
	}
	n, err := io.ReadFull(c.src, p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	switch {
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return n, c.wrong(fmt.Sprintf("the source ended after %d of %d bytes", c.size-c.left, c.size))
	case err != nil:
		return n, c.failed(err)
	}
	return n, nil
}

// end makes sure that the source has no more than it should.
func (c *Content) end() error {
	var one [1]byte
	switch n, err := io.ReadFull(c.src, one[:]); {
	case n > 0:
		return c.wrong(fmt.Sprintf("the source has more than %d bytes", c.size))
	case err != io.EOF:
		return c.failed(err)
	}
	return io.EOF
}

func (c *Content) wrong(detail string) error {
	return &store.Error{Kind: store.Corrupt, Op: "put crate", Subject: c.crate.String(), Detail: detail}
}

func (c *Content) failed(err error) error {
	if cause := context.Cause(c.ctx); cause != nil {
		if errors.As(cause, new(*store.Error)) {
			return cause
		}
		return &store.Error{Kind: store.Unavailable, Op: "put crate", Subject: c.crate.String(), Err: cause}
	}
	kind := store.KindOf(err)
	if kind == 0 {
		kind = store.Unavailable
	}
	return &store.Error{Kind: kind, Op: "put crate", Subject: c.crate.String(), Detail: "its source failed", Err: err}
}

// ReadContent reads the whole of a small crate.
func ReadContent(ctx context.Context, r store.PutRequest) ([]byte, error) {
	if r.Size > MaxBatchCrate {
		return nil, invalid("a small crate", "%d bytes", r.Size)
	}
	c, err := OpenContent(ctx, r, 0)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	p := make([]byte, r.Size)
	if _, err := io.ReadFull(c, p); err != nil {
		return nil, err
	}
	if _, err := c.Read(nil); err != io.EOF {
		return nil, err
	}
	return p, nil
}

// Aborted is what a receiver says of a crate whose sender gave it up: nothing of it may be
// kept.
func Aborted() error {
	return &store.Error{Kind: store.Corrupt, Op: "receive a crate", Detail: "the sender gave it up, as its source failed"}
}
