package grpcpeer

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"stasis/peer/wire"
	"stasis/store"
)

// transfer is a stream under way, with a watch on its progress: it is cancelled when
// nothing moves for StallLimit.
type transfer struct {
	grpc.ClientStream
	c      *Client
	op     string
	cancel context.CancelCauseFunc
	ctx    context.Context
	stall  *time.Timer
	signs  wire.Signs // used by the one who receives
}

var errStalled = errors.New("nothing moved for " + wire.StallLimit.String())

func (c *Client) begin(ctx context.Context, op, name string, both bool) (*transfer, error) {
	t := &transfer{c: c, op: op}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	t.stall = time.AfterFunc(wire.StallLimit, func() { t.cancel(errStalled) })
	var err error
	t.ClientStream, err = c.conn.NewStream(c.asMount(t.ctx), &grpc.StreamDesc{ServerStreams: true, ClientStreams: both}, method(name))
	if err != nil {
		err = t.fail(err)
		t.end()
		return nil, err
	}
	return t, nil
}

// end gives up the stream; what is under way on it is cancelled.
func (t *transfer) end() {
	t.stall.Stop()
	t.cancel(nil)
}

// fail says why a step failed. Where sending failed the reason is with the receiver.
func (t *transfer) fail(err error) error {
	if t.ClientStream != nil && errors.Is(err, io.EOF) {
		var f frame
		if e := t.ClientStream.RecvMsg(&f); e != nil {
			err = e
		}
		f.free()
	}
	if cause := context.Cause(t.ctx); errors.Is(cause, errStalled) {
		return &store.Error{Kind: store.Unavailable, Op: t.op, Subject: "at " + t.c.o.Address, Detail: cause.Error()}
	}
	if t.ClientStream == nil {
		return t.c.incoming(t.op, err, nil)
	}
	return t.c.incoming(t.op, err, t.Trailer())
}

func (t *transfer) send(f *frame) error {
	if err := t.SendMsg(f); err != nil {
		return t.fail(err)
	}
	t.stall.Reset(wire.StallLimit)
	return nil
}

// receive gives the next frame that says something. io.EOF: the stream has ended well.
func (t *transfer) receive() (*frame, error) {
	for {
		f := new(frame)
		if err := t.RecvMsg(f); err == io.EOF {
			return nil, io.EOF
		} else if err != nil {
			return nil, t.fail(err)
		}
		t.stall.Reset(wire.StallLimit)
		if f.kind != kindAlive && (f.kind != kindData || f.in != nil) {
			return f, nil
		}
		f.free()
		if err := t.signs.Heed(); err != nil {
			return nil, err
		}
	}
}

func (t *transfer) ask(message any) error {
	f, err := headFrame(kindHead, message)
	if err != nil {
		return err
	}
	return t.send(f)
}

// early is what a stream that ended without an answer comes to.
func (t *transfer) early(err error) error {
	if err == io.EOF {
		return &store.Error{Kind: store.Unavailable, Op: t.op, Subject: "at " + t.c.o.Address, Detail: "it ended the call without an answer"}
	}
	return err
}

// Put is store.Store's. Where the link breaks it goes on with another attempt, which the
// peer lets begin at the block where the last one ended.
func (c *Client) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	if err := wire.CheckPut(r); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		sent, receipts, err := c.attempt(ctx, r)
		if err == nil || !errors.Is(err, store.Unavailable) || sent == 0 || try == attempts || ctx.Err() != nil {
			return receipts, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(attemptPause):
		}
	}
}

// attempt sends a crate over one stream; sent is how many bytes of it went.
func (c *Client) attempt(ctx context.Context, r store.PutRequest) (sent int64, receipts []store.Receipt, err error) {
	t, err := c.begin(ctx, "push crate "+r.Crate.String(), "Put", true)
	if err != nil {
		return 0, nil, err
	}
	defer t.end()
	if err := t.ask(wire.FromPut(r)); err != nil {
		return 0, nil, err
	}
	f, err := t.receive()
	if err != nil {
		return 0, nil, t.early(err)
	}
	if f.kind == kindBegin {
		var b wire.Begin
		if err := f.read(kindBegin, &b); err != nil {
			return 0, nil, err
		}
		if b.Offset < 0 || b.Offset > r.Size {
			return 0, nil, malformed("a beginning at %d of %d bytes", b.Offset, r.Size)
		}
		if sent, err = t.stream(r, b.Offset); err != nil {
			return sent, nil, err
		}
		if f, err = t.receive(); err != nil {
			return sent, nil, t.early(err)
		}
	}
	var out wire.Receipts
	if err := f.read(kindHead, &out); err != nil {
		return sent, nil, err
	}
	if receipts, err = wire.StoreReceipts(out.Receipts); err == nil {
		err = wire.Agree(r, receipts)
	}
	return sent, receipts, err
}

// stream sends the bytes of a crate from an offset. An error of the source itself comes
// back as it is, once the peer has been told to forget the crate.
func (t *transfer) stream(r store.PutRequest, from int64) (sent int64, err error) {
	src, err := wire.OpenContent(t.ctx, r, from)
	if err != nil {
		return 0, t.abort(err)
	}
	defer src.Close()
	for {
		t.stall.Stop() // the source is no business of the link's
		f, err := readData(src, int(max(1, min(src.Left(), wire.DataSize))))
		t.stall.Reset(wire.StallLimit)
		if f != nil {
			n := int64(f.body.Len())
			if err := t.send(f); err != nil {
				return sent, err
			}
			f.free()
			sent += n
		}
		switch {
		case err == io.EOF:
			return sent, t.CloseSend()
		case err != nil:
			return sent, t.abort(err)
		}
	}
}

// abort tells the peer that the source failed, unless it was only cancelled, and waits until
// it has taken note.
func (t *transfer) abort(cause error) error {
	if t.ctx.Err() != nil {
		return cause
	}
	if t.SendMsg(&frame{kind: kindAbort}) == nil && t.CloseSend() == nil {
		for range lateFrames {
			f, err := t.receive()
			if err != nil {
				break // its error is about the abort, and the cause is known better here
			}
			f.free()
		}
	}
	return cause
}

// PutBatch is store.Batcher's. What does not fit into batches goes by itself.
func (c *Client) PutBatch(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	return wire.PutBatch(ctx, rs, c.Put, c.exchange)
}

func (c *Client) exchange(ctx context.Context, head *wire.Batch, content []byte) ([]store.PutResult, error) {
	t, err := c.begin(ctx, "push small crates", "Batch", true)
	if err != nil {
		return nil, err
	}
	defer t.end()
	if err := t.ask(head); err != nil {
		return nil, err
	}
	f, err := t.receive()
	if err != nil {
		return nil, t.early(err)
	}
	var b wire.Begin
	if err := f.read(kindBegin, &b); err != nil {
		return nil, err
	}
	for len(content) > 0 {
		n := min(len(content), wire.DataSize)
		if err := t.send(dataFrame(content[:n])); err != nil {
			return nil, err
		}
		content = content[n:]
	}
	if err := t.CloseSend(); err != nil {
		return nil, t.fail(err)
	}
	if f, err = t.receive(); err != nil {
		return nil, t.early(err)
	}
	var out wire.BatchResults
	if err := f.read(kindHead, &out); err != nil {
		return nil, err
	}
	return out.Store(len(head.Crates))
}

// Open is store.Store's. The bytes are as the peer gave them; who has the checksums
// verifies them.
func (c *Client) Open(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	return c.open(ctx, wire.Range{Crate: id, Offset: offset, Length: length})
}

// OpenUnverified is store.Unverified's.
func (c *Client) OpenUnverified(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	return c.open(ctx, wire.Range{Crate: id, Offset: offset, Length: length, Unverified: true})
}

func (c *Client) open(ctx context.Context, want wire.Range) (io.ReadCloser, error) {
	t, err := c.begin(ctx, "read crate "+want.Crate.String(), "Open", false)
	if err != nil {
		return nil, err
	}
	err = t.ask(want)
	if err == nil {
		err = t.CloseSend()
	}
	if err == nil {
		var f *frame
		if f, err = t.receive(); err == nil {
			err = f.read(kindHead, &wire.Empty{})
		}
		err = t.early(err)
	}
	if err != nil {
		t.end()
		return nil, err
	}
	return &remote{body: body{recv: t.receive}, t: t, want: want.Length}, nil
}

// remote is a range as it comes in. The watch on progress rests while nobody reads.
type remote struct {
	body
	t      *transfer
	want   int64 // bytes asked for; negative: not known
	got    int64
	closed sync.Once
}

func (r *remote) Read(p []byte) (int, error) {
	r.t.stall.Reset(wire.StallLimit)
	n, err := r.body.Read(p)
	r.t.stall.Stop()
	r.got += int64(n)
	if err == io.EOF && r.want >= 0 && r.got < r.want {
		err = &store.Error{Kind: store.Unavailable, Op: r.t.op, Subject: "at " + r.t.c.o.Address, Detail: "it sent fewer bytes than were asked for"}
	}
	return n, err
}

// Close gives up what has not come yet.
func (r *remote) Close() error {
	r.closed.Do(r.t.end)
	return r.body.Close()
}

// Events gives what the peer says unasked, until ctx ends, the link breaks or give fails.
func (c *Client) Events(ctx context.Context, after wire.Cursor, give func(wire.Event) error) error {
	t, err := c.begin(ctx, "listen to the peer", "Events", false)
	if err != nil {
		return err
	}
	defer t.end()
	if err := t.ask(after); err != nil {
		return err
	}
	if err := t.CloseSend(); err != nil {
		return t.fail(err)
	}
	for {
		f, err := t.receive()
		if err != nil {
			return t.early(err)
		}
		var e wire.Event
		if err := f.read(kindHead, &e); err != nil {
			return err
		}
		if e, err = wire.CheckEvent(e); err != nil {
			return err
		}
		if e.Kind == wire.EventAlive {
			if err := t.signs.Heed(); err != nil {
				return err
			}
		}
		if err := give(e); err != nil {
			return err
		}
	}
}
