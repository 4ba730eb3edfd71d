package integration

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rawGRPC is a connection over which anything can be said in HTTP/2. Its reader answers what
// must be answered, and knows what may be sent.
type rawGRPC struct {
	c  *tls.Conn
	fr *http2.Framer

	out  sync.Mutex // held to write
	text bytes.Buffer
	enc  *hpack.Encoder
	next uint32 // stream

	mu      sync.Mutex
	moved   sync.Cond
	err     error
	initial int64 // window of a stream
	whole   int64 // window of the connection
	windows map[uint32]int64
	settled bool // the settings came
}

// newRawGRPC begins HTTP/2 on a connection. Streams may receive so many bytes that nobody
// asks for.
func newRawGRPC(c *tls.Conn, window uint32, reads bool) (*rawGRPC, error) {
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return nil, err
	}
	h := &rawGRPC{c: c, fr: http2.NewFramer(c, c), next: 1, initial: 65535, whole: 65535, windows: map[uint32]int64{}}
	h.moved.L = &h.mu
	h.enc = hpack.NewEncoder(&h.text)
	h.fr.AllowIllegalWrites = true
	h.fr.SetMaxReadFrameSize(1 << 20)
	err := h.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	if err == nil && window > 65535 {
		err = h.fr.WriteWindowUpdate(0, window-65535)
	}
	if reads {
		go h.read()
	}
	return h, err
}

func (h *rawGRPC) write(do func(*http2.Framer) error) error {
	h.out.Lock()
	defer h.out.Unlock()
	return do(h.fr)
}

// read takes notice of what the server says until the connection ends.
func (h *rawGRPC) read() {
	for {
		f, err := h.fr.ReadFrame()
		if err == nil {
			err = h.hear(f)
		}
		if stream := (http2.StreamError{}); err != nil && !errors.As(err, &stream) {
			h.mu.Lock()
			h.err = err
			h.moved.Broadcast()
			h.mu.Unlock()
			return
		}
	}
}

func (h *rawGRPC) hear(f http2.Frame) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.moved.Broadcast()
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
			for id := range h.windows {
				h.windows[id] += int64(v) - h.initial
			}
			h.initial = int64(v)
		}
		h.settled = true
		go h.write(func(fr *http2.Framer) error { return fr.WriteSettingsAck() })
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			h.whole += int64(f.Increment)
		} else if _, ok := h.windows[f.StreamID]; ok {
			h.windows[f.StreamID] += int64(f.Increment)
		}
	case *http2.PingFrame:
		if data := f.Data; !f.IsAck() {
			go h.write(func(fr *http2.Framer) error { return fr.WritePing(true, data) })
		}
	case *http2.RSTStreamFrame:
		delete(h.windows, f.StreamID)
	case *http2.MetaHeadersFrame:
	case *http2.HeadersFrame:
		if f.StreamEnded() {
			delete(h.windows, f.StreamID)
		}
	case *http2.GoAwayFrame:
		return fmt.Errorf("the server goes away: %v", f.ErrCode)
	}
	return nil
}

// open begins a call.
func (h *rawGRPC) open(call string, more ...hpack.HeaderField) (id uint32, err error) {
	err = h.write(func(fr *http2.Framer) error {
		id = h.next
		h.next += 2
		h.mu.Lock()
		h.windows[id] = h.initial
		h.mu.Unlock()
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.block(call, more...), EndHeaders: true})
	})
	return id, err
}

// block is the header of a call. The caller may write.
func (h *rawGRPC) block(call string, more ...hpack.HeaderField) []byte {
	h.text.Reset()
	for _, f := range append([]hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: "/stasis.v1.Peer/" + call},
		{Name: ":authority", Value: "x"}, {Name: "content-type", Value: "application/grpc+stasis"}, {Name: "te", Value: "trailers"}}, more...) {
		_ = h.enc.WriteField(f) // into memory
	}
	return h.text.Bytes()
}

// atOnce is how many bytes are sent in one record of TLS at most.
const atOnce = 16 << 10

// data sends bytes on a stream as the server lets it, in frames of a size at most. It ends
// early where nothing may be sent for a while.
func (h *rawGRPC) data(id uint32, p []byte, size int, patience time.Duration) error {
	var many bytes.Buffer
	frames := http2.NewFramer(&many, nil)
	for len(p) > 0 {
		n, err := h.room(id, min(max(size, atOnce*size/(size+9)), len(p)), patience)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		many.Reset()
		for end := p[:n]; len(end) > 0; end = end[min(size, len(end)):] {
			if err := frames.WriteData(id, false, end[:min(size, len(end))]); err != nil {
				return err
			}
		}
		if err := h.write(func(*http2.Framer) error { _, err := h.c.Write(many.Bytes()); return err }); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func (h *rawGRPC) room(id uint32, want int, patience time.Duration) (int, error) {
	late := false
	t := time.AfterFunc(patience, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		late = true
		h.moved.Broadcast()
	})
	defer t.Stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.err == nil {
		w, open := h.windows[id]
		if !open || late && w <= 0 { // what the connection lacks comes back by itself
			return 0, nil
		}
		if n := min(int64(want), w, h.whole); h.settled && n > 0 {
			h.windows[id] -= n
			h.whole -= n
			return int(n), nil
		}
		h.moved.Wait()
	}
	return 0, h.err
}

// ended waits for the end of the connection.
func (h *rawGRPC) ended() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.err == nil {
		h.moved.Wait()
	}
	return h.err
}

// message is a frame with a head of JSON, as gRPC carries it.
func message(head any) []byte {
	text, err := json.Marshal(head)
	if err != nil {
		panic(err) // a literal of the test
	}
	return announced(5+len(text), append([]byte{1}, append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)...))
}

// announced is the beginning of a message that is said to have so many bytes.
func announced(length int, begin []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(length)), begin...)
}
