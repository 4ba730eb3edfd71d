package grpcpeer

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

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

// frame is one gRPC message. Body is freed by whoever has the frame last.
type frame struct {
	kind kind
	head []byte
	body mem.Buffer // nil: none
}

func (f *frame) free() {
	if f.body != nil {
		f.body.Free()
		f.body = nil
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
	if err := json.Unmarshal(f.head, message); err != nil {
		return malformed("a head that is no message: %v", err)
	}
	return nil
}

func malformed(format string, args ...any) error {
	return &store.Error{Kind: store.Invalid, Op: "read a frame", Detail: fmt.Sprintf(format, args...)}
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

// Unmarshal copies the body once, out of the transport's buffers.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("unmarshal into %T: not a frame", v)
	}
	r := data.Reader()
	defer r.Close()
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return malformed("%d bytes", data.Len())
	}
	n := int64(binary.BigEndian.Uint32(header[1:]))
	rest := int64(r.Remaining()) - n
	if n > wire.MaxHead || rest < 0 || rest > wire.MaxData {
		return malformed("a head of %d bytes, %d in all", n, data.Len())
	}
	f.kind, f.head, f.body = kind(header[0]), make([]byte, n), nil
	if _, err := io.ReadFull(r, f.head); err != nil {
		return malformed("a head that ends early")
	}
	if rest == 0 {
		return nil
	}
	pool := mem.DefaultBufferPool()
	buf := pool.Get(int(rest))
	if _, err := io.ReadFull(r, *buf); err != nil {
		pool.Put(buf)
		return malformed("a body that ends early")
	}
	f.body = mem.NewBuffer(buf, pool)
	return nil
}

// readData fills a frame with the next bytes of a reader, n at most; nil with the error
// where there are none.
func readData(r io.Reader, n int) (*frame, error) {
	pool := mem.DefaultBufferPool()
	buf := pool.Get(n)
	k, err := io.ReadFull(r, *buf)
	if k == 0 {
		pool.Put(buf)
		return nil, err
	}
	*buf = (*buf)[:k]
	if err == io.ErrUnexpectedEOF {
		err = nil
	}
	return &frame{kind: kindData, body: mem.NewBuffer(buf, pool)}, err
}

// body gives the data frames of a stream as a reader; it does not end before the stream
// does.
type body struct {
	recv func() (*frame, error)
	now  *frame
	left []byte
}

func (b *body) Read(p []byte) (int, error) {
	for len(b.left) == 0 {
		if b.now != nil {
			b.now.free()
			b.now = nil
		}
		f, err := b.recv()
		if err != nil {
			return 0, err
		}
		switch {
		case f.kind == kindAlive:
			continue
		case f.kind == kindAbort:
			return 0, wire.Aborted()
		case f.kind != kindData:
			f.free()
			return 0, malformed("a frame of kind %d amid data", f.kind)
		case f.body == nil:
			continue
		}
		b.now, b.left = f, f.body.ReadOnlyData()
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

// Close frees what was received.
func (b *body) Close() error {
	if b.now != nil {
		b.now.free()
		b.now, b.left = nil, nil
	}
	return nil
}

// dataFrame makes a frame of bytes that stay as they are until it is sent.
func dataFrame(p []byte) *frame { return &frame{kind: kindData, body: mem.SliceBuffer(p)} }
