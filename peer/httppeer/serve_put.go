package httppeer

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"stasis/peer/wire"
	"stasis/store"
)

// incoming is the content of a crate that a request brings: it can be opened once, where
// the request's bytes begin.
type incoming struct {
	x            *exchange
	from, length int64 // bytes

	mu     sync.Mutex
	used   bool
	wanted int64 // where the bytes are wanted from, if not where the request begins; else -1
}

// OpenAt gives the bytes from offset, if that is where they begin.
func (s *incoming) OpenAt(_ context.Context, offset int64) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used {
		return nil, &store.Error{Kind: store.Unavailable, Op: "receive a crate", Detail: "its bytes come once in a request"}
	}
	s.used = true
	if offset != s.from {
		s.wanted = offset
		return nil, elsewhere(offset)
	}
	return &content{x: s.x, left: s.length}, nil
}

func (s *incoming) elsewhere() (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted, s.wanted >= 0
}

func elsewhere(offset int64) error {
	return &store.Error{Kind: store.Unavailable, Op: "receive a crate", Detail: "its bytes are wanted from offset " + strconv.FormatInt(offset, 10),
		Hint: "send them from there, with a Content-Range"}
}

// content is the body of a request that must have so many bytes. A chunked body that ends as
// it should, but short, was given up by its sender; one that breaks off belongs to a link
// that broke, and its bytes are worth keeping.
type content struct {
	x     *exchange
	left  int64
	ended atomic.Bool // nothing is to be read any more
}

func (c *content) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := bounded{x: c.x}.Read(p)
	c.left -= int64(n)
	if err == nil && c.left >= 0 {
		return n, nil
	}
	c.ended.Store(err != nil || c.left == 0)
	switch {
	case c.left < 0:
		return 0, &store.Error{Kind: store.Corrupt, Op: "receive a crate", Detail: "there are more bytes than was said"}
	case err == io.EOF && c.left == 0:
		return n, io.EOF
	case err == io.EOF:
		return n, wire.Aborted()
	}
	return n, &store.Error{Kind: store.Unavailable, Op: "receive a crate", Detail: "the link broke", Err: err}
}

// Close ends a read that waits. After the last byte it must not: net/http then watches the
// connection for the caller's going.
func (c *content) Close() error {
	if !c.ended.Load() {
		c.x.readUntil(time.Now())
	}
	return nil
}

// head is what the request's header says of a crate.
func (x *exchange) head() (wire.PutHead, error) {
	id, err := x.crate()
	if err != nil {
		return wire.PutHead{}, err
	}
	return readHead(id, x.r.Header)
}

// brings tells which bytes the body of a put has. All up to the end must come.
func brings(h *wire.PutHead, r *http.Request) (from, length int64, err error) {
	size := r.ContentLength
	from, length = 0, size
	if s := r.Header.Get("Content-Range"); s != "" {
		if from, length, size, err = parseContentRange(s); err != nil {
			return 0, 0, err
		}
		if from+length != size {
			return 0, 0, malformed("the bytes end at %d of %d: all up to the end must come", from+length, size)
		}
	} else if size < 0 {
		return 0, 0, malformed("neither a Content-Length nor a Content-Range says how many bytes there are")
	}
	if h.Size != 0 && h.Size != size || r.ContentLength >= 0 && r.ContentLength != length {
		return 0, 0, malformed("the header tells several sizes")
	}
	h.Size = size
	return from, length, nil
}

// put receives one crate.
func put(x *exchange) error {
	head, err := x.head()
	if err != nil {
		return err
	}
	from, length, err := brings(&head, x.r)
	if err != nil {
		return err
	}
	r, err := head.Request()
	if err != nil {
		return err
	}
	src := &incoming{x: x, from: from, length: length, wanted: -1}
	r.Source = src
	receipts, err := x.session.Put(x.r.Context(), r)
	if err == nil {
		return x.answer(http.StatusCreated, wire.Receipts{Receipts: wire.FromReceipts(receipts)})
	}
	if wanted, ok := src.elsewhere(); ok {
		x.w.Header().Set(headerOffset, strconv.FormatInt(wanted, 10))
		x.failWith(wire.FromError(elsewhere(wanted)), http.StatusConflict)
		return nil
	}
	return err
}

// sourceFunc is a source made of its one method.
type sourceFunc func(offset int64) error

func (f sourceFunc) OpenAt(_ context.Context, offset int64) (io.ReadCloser, error) {
	return nil, f(offset)
}

// standing tells where an upload stands: a put is begun, and ends where it asks for bytes.
func standing(x *exchange) error {
	head, err := x.head()
	if err != nil {
		return err
	}
	r, err := head.Request()
	if err != nil {
		return err
	}
	at, asked := int64(0), false
	r.Source = sourceFunc(func(offset int64) error {
		at, asked = offset, true
		return elsewhere(offset)
	})
	_, err = x.session.Put(x.r.Context(), r)
	switch {
	case asked:
	case err != nil:
		return err
	default:
		at = r.Size // the crate is there
	}
	x.w.Header().Set(headerOffset, strconv.FormatInt(at, 10))
	return x.answer(http.StatusOK, wire.Begin{Offset: at})
}

// giveUp has an upload forgotten: a put is begun whose source says that it was given up. The
// digest that it wants no bytes have, so that it can't end well, whatever has come already.
func giveUp(x *exchange) error {
	head, err := x.head()
	if err != nil {
		return err
	}
	r, err := head.Request()
	if err != nil {
		return err
	}
	asked := false
	r.Expect = new(store.Digest)
	r.Source = sourceFunc(func(int64) error {
		asked = true
		return wire.Aborted()
	})
	_, err = x.session.Put(x.r.Context(), r)
	// A conflict says that the whole crate is there, and stays.
	if err != nil && !asked && !errors.Is(err, store.Corrupt) && !errors.Is(err, store.Conflict) {
		return err
	}
	return x.done()
}

// batch receives many small crates, as much at a time as there is memory for.
func batch(x *exchange) error {
	forget, err := x.remember(maxBatchHead)
	if err != nil {
		return err
	}
	from := &bounded{x: x, until: time.Now().Add(wire.StallLimit)}
	in := bufio.NewReader(from)
	line, err := readBatchLine(in)
	var head wire.Batch
	if err == nil {
		err = x.turn(func() (err error) {
			head, err = readBatchHead(line)
			return err
		})
	}
	forget() // nobody waits for memory while he holds some
	if err != nil {
		return err
	}
	expect := func(n int64) error {
		from.until = time.Now().Add(wire.StallLimit + time.Duration(n/slowestBatch)*time.Second)
		return nil
	}
	results, err := wire.ReceiveBatch(x.r.Context(), &head, in, x.room, expect, x.session.PutBatch)
	if err != nil {
		return err
	}
	from.until = time.Now().Add(wire.StallLimit)
	if n, err := io.ReadFull(in, make([]byte, 1)); n > 0 || err != io.EOF {
		return malformed("a batch has more bytes than its crates")
	}
	return x.answer(http.StatusOK, wire.FromResults(results))
}

// readBatchLine reads the line before the content of a batch.
func readBatchLine(in *bufio.Reader) (line []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		more := errors.Is(err, bufio.ErrBufferFull)
		switch {
		case len(line)+len(part) > maxBatchHead, err == io.EOF:
			return nil, malformed("a batch begins with a line of JSON, %d bytes at most", maxBatchHead)
		case err != nil && !more:
			return nil, &store.Error{Kind: store.Unavailable, Op: "receive a batch", Detail: "it broke off", Err: err}
		}
		if line = append(line, part...); !more {
			return line, nil
		}
	}
}

// readBatchHead makes of the line what it says.
func readBatchHead(line []byte) (head wire.Batch, err error) {
	if err := wire.Decode(line, &head); err != nil {
		return head, err
	}
	_, err = head.Check()
	return head, err
}
