package grpcpeer

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc/mem"

	"stasis/peer/wire"
	"stasis/store"
)

// kind says what a frame is.
type kind byte

const (
	kindHead  kind = 1 // a message
	kindData  kind = 2 // bulk bytes
	kindBegin kind = 3 // a wire.Begin: send from there
	kindAlive kind = 4 // the server works
	kindAbort kind = 5 // the sender's source failed: forget the crate
)

// frameHeader is the length of what is before the head, in bytes: kind and length of the
// head, big-endian.
const frameHeader = 1 + 4

// frame is one gRPC message. Whoever has it last frees it.
type frame struct {
	kind kind
	head []byte
	body mem.Buffer  // of a frame to be sent; nil: none
	in   *mem.Reader // the body of a frame that came, where the transport has put it; nil: none
}

func (f *frame) free() {
	if f.body != nil {
		f.body.Free()
		f.body = nil
	}
	if f.in != nil {
		_ = f.in.Close() // never fails
		f.in = nil
	}
}

// headFrame makes a frame of a message.
func headFrame(k kind, message any) (*frame, error) {
	head, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	return &frame{kind: k, head: head}, nil
}

// read takes the message out of a frame that must be of a kind.
func (f *frame) read(k kind, message any) error {
	if f.kind != k {
		return malformed("a frame of kind %d instead of %d", f.kind, k)
	}
	return wire.Decode(f.head, message)
}

func malformed(format string, args ...any) error {
	return &store.Error{Kind: store.Invalid, Op: "read a frame", Detail: store.Printable(fmt.Sprintf(format, args...), wire.MaxErrorText)}
}

// codec is the one codec of both sides.
type codec struct{}

// Name is part of the content type.
func (codec) Name() string { return "stasis" }

// Marshal puts a frame together without copying its body.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("marshal %T: not a frame", v)
	}
	b := make([]byte, 0, frameHeader+len(f.head))
	b = append(b, byte(f.kind))
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.head)))
	b = append(b, f.head...)
	out := mem.BufferSlice{mem.SliceBuffer(b)}
	if f.body != nil {
		f.body.Ref()
		out = append(out, f.body)
	}
	return out, nil
}

// Unmarshal leaves the body in the transport's buffers, which are held until it is read.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("unmarshal into %T: not a frame", v)
	}
	r := data.Reader()
	if err := f.unmarshal(r, data.Len()); err != nil || r.Remaining() == 0 {
		_ = r.Close() // never fails
		return err
	}
	f.in = r
	return nil
}

// unmarshal reads what is before the body.
func (f *frame) unmarshal(r *mem.Reader, size int) error {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return malformed("%d bytes", size)
	}
	n := int64(binary.BigEndian.Uint32(header[1:]))
	rest := int64(r.Remaining()) - n
	if n > wire.MaxHead || rest < 0 || rest > wire.MaxData {
		return malformed("a head of %d bytes, %d in all", n, size)
	}
	f.kind, f.head, f.body, f.in = kind(header[0]), make([]byte, n), nil, nil
	if _, err := io.ReadFull(r, f.head); err != nil {
		return malformed("a head that ends early")
	}
	return nil
}

// pieces are the buffers of data that is sent. Unlike those of gRPC's own pools they are
// not cleared between uses: readData gives on what it has filled and no more.
type pieces struct{ sync.Pool }

var sending = &pieces{sync.Pool{New: func() any { p := make([]byte, wire.DataSize); return &p }}}

// Get gives n bytes, at most wire.DataSize of them.
func (p *pieces) Get(n int) *[]byte {
	b := p.Pool.Get().(*[]byte)
	*b = (*b)[:min(n, wire.DataSize)]
	return b
}

// Put takes bytes back that Get gave.
func (p *pieces) Put(b *[]byte) {
	*b = (*b)[:cap(*b)]
	p.Pool.Put(b)
}

// readData fills a frame with the next bytes of a reader, n at most; nil with the error
// where there are none.
func readData(r io.Reader, n int) (*frame, error) {
	buf := sending.Get(n)
	k, err := io.ReadFull(r, *buf)
	if k == 0 {
		sending.Put(buf)
		return nil, err
	}
	*buf = (*buf)[:k]
	if err == io.ErrUnexpectedEOF {
		err = nil
	}
	return &frame{kind: kindData, body: mem.NewBuffer(buf, sending)}, err
}

// body gives the data frames of a stream as a reader; it does not end before the stream
// does. Close may be called while a Read is under way.
type body struct {
	recv func() (*frame, error)

	mu     sync.Mutex
	now    *frame // with a body, or nil
	closed bool
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.now == nil && !b.closed {
		b.mu.Unlock()
		f, err := b.next()
		b.mu.Lock()
		if err != nil {
			return 0, err
		}
		if b.now = f; b.closed {
			b.free()
		}
	}
	if b.closed {
		return 0, &store.Error{Kind: store.Unavailable, Op: "read a stream", Detail: "it was closed meanwhile"}
	}
	n, err := b.now.in.Read(p)
	if b.now.in.Remaining() == 0 {
		b.free()
	}
	return n, err
}

// next receives a frame; nil where it says nothing.
func (b *body) next() (*frame, error) {
	f, err := b.recv()
	if err != nil {
		return nil, err
	}
	if f.kind == kindData && f.in != nil {
		return f, nil
	}
	f.free()
	switch f.kind {
	case kindData, kindAlive:
		return nil, nil
	case kindAbort:
		return nil, wire.Aborted()
	default:
		return nil, malformed("a frame of kind %d amid data", f.kind)
	}
}

func (b *body) free() {
	if b.now != nil {
		b.now.free()
		b.now = nil
	}
}

// Close frees what was received.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.free()
	return nil
}

// dataFrame makes a frame of bytes that stay as they are until it is sent.
func dataFrame(p []byte) *frame { return &frame{kind: kindData, body: mem.SliceBuffer(p)} }
