package httppeer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"stasis/peer/wire"
	"stasis/store"
)

// Put is store.Store's. Where the link breaks it goes on with another attempt, which the
// peer lets begin at the block where the last one ended.
func (c *Client) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	if err := wire.CheckPut(r); err != nil {
		return nil, err
	}
	from, moves := int64(0), 0
	for try := 1; ; {
		a, err := c.attempt(ctx, r, from)
		if err == nil {
			return a.receipts, nil
		}
		if a.over {
			return nil, err
		}
		if a.wanted >= 0 && a.wanted != from && a.wanted <= r.Size && moves < maxMoves {
			from, moves = a.wanted, moves+1
			continue
		}
		if !errors.Is(err, store.Unavailable) || a.sent == 0 || try == attempts || ctx.Err() != nil {
			return nil, err
		}
		try, moves = try+1, 0
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(attemptPause):
		}
		at, e := c.standing(ctx, r)
		if e != nil {
			return nil, err
		}
		from = at
	}
}

// standing asks where the peer wants the bytes of a crate from.
func (c *Client) standing(ctx context.Context, r store.PutRequest) (int64, error) {
	header := make(http.Header)
	writeHead(header, wire.FromPut(r))
	var out wire.Begin
	err := c.call(ctx, ask{op: "ask for an upload of crate " + r.Crate.String(), method: http.MethodGet, path: pathUploads + r.Crate.String(), header: header}, &out)
	if err == nil && (out.Offset < 0 || out.Offset > r.Size || out.Offset%store.BlockSize != 0 && out.Offset != r.Size) {
		err = malformed("an upload that stands at %d of %d bytes", out.Offset, r.Size)
	}
	return out.Offset, err
}

// attempt is what came of one request that sends a crate.
type attempt struct {
	sent     int64 // bytes
	over     bool  // the source failed, or the link is dead: another attempt would not go better
	wanted   int64 // where the peer wants the bytes from; negative: it has not said
	receipts []store.Receipt
}

// attempt sends a crate from an offset on.
func (c *Client) attempt(ctx context.Context, r store.PutRequest, from int64) (a attempt, err error) {
	a.wanted = -1
	op := "push crate " + r.Crate.String()
	ctx, w := c.watched(ctx, workLimit)
	defer w.end()
	up := newUpload(ctx, w, r, from)
	if from == r.Size { // there is nothing to hold back from a body without bytes
		if err := up.check(); err != nil {
			c.giveUp(ctx, r)
			a.over = true
			return a, err
		}
	}
	req, err := c.request(ctx, http.MethodPut, pathCrates+"/"+r.Crate.String(), nil)
	if err != nil {
		return a, err
	}
	writeHead(req.Header, wire.FromPut(r))
	req.Header.Set("Content-Range", contentRange(from, r.Size-from, r.Size))
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Expect", "100-continue")
	req.Body, req.ContentLength = up.body(), -1
	req.GetBody = func() (io.ReadCloser, error) { return up.body(), nil }
	resp, err := c.calls.RoundTrip(req)
	if err == nil {
		c.hear()
		err = c.received(ctx, op, r, resp, &a)
	} else {
		err = c.failed(ctx, op, err)
	}
	a.over = errors.Is(context.Cause(ctx), errDead)
	w.end() // a source that waits is closed
	sent, failure := up.outcome()
	if a.sent = sent; failure != nil && err != nil {
		a.over, err = true, failure
	}
	return a, err
}

// received reads the answer to an attempt.
func (c *Client) received(ctx context.Context, op string, r store.PutRequest, resp *http.Response, a *attempt) error {
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		if at, ok := parseNumber(resp.Header.Get(headerOffset)); ok && resp.StatusCode == http.StatusConflict && (at%store.BlockSize == 0 || at == r.Size) {
			a.wanted = at
		}
		return c.answered(op, resp)
	}
	var out wire.Receipts
	if err := c.read(ctx, op, resp, &out); err != nil {
		return err
	}
	var err error
	if a.receipts, err = wire.StoreReceipts(out.Receipts); err == nil {
		err = wire.Agree(r, a.receipts)
	}
	return err
}

// giveUp tells the peer to forget what it has of a crate. If that fails the peer forgets it
// when it has grown stale.
func (c *Client) giveUp(ctx context.Context, r store.PutRequest) {
	header := make(http.Header)
	writeHead(header, wire.FromPut(r))
	if err := c.call(ctx, ask{op: "give up crate " + r.Crate.String(), method: http.MethodDelete, path: pathUploads + r.Crate.String(), header: header}, nil); err != nil && c.o.Log != nil {
		c.o.Log.WithField("crate", r.Crate).WithError(err).Debug("an upload could not be given up")
	}
}

// upload is the content of a crate on its way out, from an offset on. If its source fails the
// body ends short, but as HTTP wants it: that tells the peer. To that end the last bytes are
// held back until the source is known to end there.
type upload struct {
	ctx  context.Context
	w    *watch
	r    store.PutRequest
	from int64

	mu      sync.Mutex
	sent    int64
	failure error // of the source
	busy    sync.WaitGroup
}

func newUpload(ctx context.Context, w *watch, r store.PutRequest, from int64) *upload {
	return &upload{ctx: ctx, w: w, r: r, from: from}
}

// check makes sure that a source of which nothing is to be sent ends where it should.
func (u *upload) check() error {
	u.w.rest()
	defer u.w.wait()
	src, err := wire.OpenContent(u.ctx, u.r, u.from)
	if err != nil {
		return err
	}
	defer src.Close()
	if _, err := src.Read(nil); err != io.EOF {
		return err
	}
	return nil
}

// outcome waits for the source, within bounds, and tells what came of it.
func (u *upload) outcome() (sent int64, failure error) {
	done := make(chan struct{})
	go func() {
		u.busy.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(sourceWait):
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sent, u.failure
}

func (u *upload) failed(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failure == nil {
		u.failure = err
	}
}

func (u *upload) count(n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent += int64(n)
}

// body begins the sending. net/http closes what it was given.
func (u *upload) body() io.ReadCloser {
	u.busy.Add(1)
	return &outgoingBody{u: u, left: u.r.Size - u.from}
}

// outgoingBody is one sending of an upload.
type outgoingBody struct {
	u      *upload
	src    *wire.Content
	left   int64 // bytes the source has not given yet
	buf    *[]byte
	chunk  []byte // of it, not yet taken
	over   bool
	mu     sync.Mutex // Close may come while a read waits
	closed bool
}

// next reads the next chunk. io.EOF where the bytes end, or the source failed.
func (b *outgoingBody) next() error {
	if b.over || b.left == 0 {
		return io.EOF
	}
	b.u.w.rest() // the source is no business of the link's
	defer b.u.w.wait()
	err := b.fill()
	if err == nil {
		return nil
	}
	if b.u.ctx.Err() != nil {
		return err // nobody says that the source failed: the link breaks
	}
	b.u.failed(err)
	b.over, b.chunk = true, nil
	return io.EOF
}

func (b *outgoingBody) fill() (err error) {
	if b.src == nil {
		if b.src, err = wire.OpenContent(b.u.ctx, b.u.r, b.u.from); err != nil {
			return err
		}
	}
	if b.buf == nil {
		b.buf = buffers.Get().(*[]byte)
	}
	n := min(b.left, chunkSize)
	b.chunk = (*b.buf)[:n]
	if _, err = io.ReadFull(b.src, b.chunk); err != nil {
		return err
	}
	if b.left -= n; b.left == 0 {
		if _, err = b.src.Read(nil); err != io.EOF {
			return err
		}
	}
	return nil
}

func (b *outgoingBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, io.ErrClosedPipe
	}
	if len(b.chunk) == 0 {
		if err := b.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.chunk)
	b.chunk = b.chunk[n:]
	b.u.count(n)
	return n, nil
}

// WriteTo spares net/http a copy.
func (b *outgoingBody) WriteTo(w io.Writer) (total int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if len(b.chunk) == 0 {
			if err := b.next(); err == io.EOF {
				return total, nil
			} else if err != nil {
				return total, err
			}
		}
		n, err := w.Write(b.chunk)
		total += int64(n)
		b.chunk = b.chunk[n:]
		b.u.count(n)
		if err != nil {
			return total, err
		}
	}
}

// Close gives up the source.
func (b *outgoingBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	if b.src != nil {
		b.src.Close()
	}
	if b.buf != nil {
		buffers.Put(b.buf)
		b.buf, b.chunk = nil, nil
	}
	b.u.busy.Done()
	return nil
}

// PutBatch is store.Batcher's. What does not fit into batches goes by itself.
func (c *Client) PutBatch(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	return wire.PutBatch(ctx, rs, c.Put, c.exchange)
}

// exchange sends a batch: its head in a line, then the bytes of all.
func (c *Client) exchange(ctx context.Context, head *wire.Batch, content []byte) ([]store.PutResult, error) {
	const op = "push small crates"
	ctx, w := c.watched(ctx, workLimit)
	defer w.end()
	line, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	body := append(append(line, '\n'), content...)
	r, err := c.request(ctx, http.MethodPost, pathBatch, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/octet-stream")
	resp, err := c.send(op, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var out wire.BatchResults
	if err := c.read(ctx, op, resp, &out); err != nil {
		return nil, err
	}
	return out.Store(len(head.Crates))
}
