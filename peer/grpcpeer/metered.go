package grpcpeer

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/mem"

	"stasis/peer/wire"
)

// metered is the connection of a caller, on which HTTP/2 comes in. It holds back who sends
// small frames without end: gRPC bounds the bytes that wait, but each frame takes memory of
// its own, a hundred times what a frame of one byte brings; and it bounds neither how many
// frames wait that say how it may send, nor how long a caller takes nothing. It ends the
// connection of who sends more than anybody has asked for.
type metered struct {
	net.Conn
	written atomic.Int64 // bytes
	cut     func(error)  // hears why a connection was ended
	haste   func() int64 // is how many bytes may come unasked

	hasty hasty
	out   follower // used by the one writer

	// What follows is used by the one reader.
	in      follower
	tokens  float64
	last    time.Time
	counted int64     // bytes written for which there were tokens
	short   time.Time // since when there have been too few tokens; zero: there are enough
}

// The tiers of the buffers that requests come in, as powers of two: gRPC's own lie far apart,
// so that a frame a little larger than one takes four times its size.
var received = func() mem.BufferPool {
	p, err := mem.NewBinaryTieredBufferPool(11, 12, 13, 14, 15, 18, 20)
	if err != nil {
		panic(err) // the powers are right
	}
	return p
}()

func newMetered(c net.Conn, haste func() int64, cut func(error)) *metered {
	return &metered{Conn: c, cut: cut, haste: haste, in: follower{preface: len(http2.ClientPreface)}, hasty: hasty{calls: make(map[uint32]int64)},
		tokens: smallBurst, last: time.Now()}
}

// Read gives what came, later if too many small frames came, and ends the connection if that
// does not stop.
func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	now := time.Now()
	wait := m.pay(m.count(p[:n])+m.moved(int64(n)), now)
	if wait > floodLimit || !m.short.IsZero() && now.Sub(m.short) > floodLimit {
		m.cut(errFlood)
		return 0, errFlood
	}
	if m.hasty.sum() > m.haste() {
		m.cut(errHaste)
		return 0, errHaste
	}
	time.Sleep(wait)
	return n, err
}

var (
	errFlood = errors.New("too many small frames")
	errHaste = errors.New("more bytes than were asked for")
)

// Write is bounded: a caller who takes nothing has the connection ended.
func (m *metered) Write(p []byte) (int, error) {
	if err := m.SetWriteDeadline(time.Now().Add(wire.StallLimit)); err != nil {
		return 0, err
	}
	m.out.follow(p, func(f frameSeen) { m.hasty.answered(f.stream) })
	n, err := m.Conn.Write(p)
	m.written.Add(int64(n))
	return n, err
}

// moved is how many tokens are earned by bytes that came, and by those written since.
func (m *metered) moved(n int64) float64 {
	w := m.written.Load()
	n += w - m.counted
	m.counted = w
	return float64(n) / smallFrame
}

// pay changes the tokens, and says how long to wait until there are some again.
func (m *metered) pay(change float64, now time.Time) time.Duration {
	m.tokens = min(smallBurst, m.tokens+now.Sub(m.last).Seconds()*smallRate+change)
	m.last = now
	if m.tokens > smallBurst/2 {
		m.short = time.Time{}
	}
	if m.tokens >= 0 {
		return 0
	}
	if m.short.IsZero() {
		m.short = now
	}
	return time.Duration(-m.tokens / smallRate * float64(time.Second))
}

// count follows the frames that came, and gives what they cost, below zero.
func (m *metered) count(p []byte) (cost float64) {
	m.in.follow(p, func(f frameSeen) {
		if f.small() {
			cost--
		}
		m.hasty.came(f)
	})
	return cost
}

// hasty is what a caller has sent on calls on which the server has not sent anything yet, not
// even that it reads. A vault sends the head of a call, and bulk bytes when it is asked for
// them: so HastyMost bounds what lies here of calls that nobody reads, where the window of
// each stream would let many times that through.
type hasty struct {
	mu    sync.Mutex
	calls map[uint32]int64 // bytes, by stream
	bytes int64            // of all
}

// came takes note of a frame of the caller's.
func (h *hasty) came(f frameSeen) {
	switch f.kind {
	case http2.FrameHeaders:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.calls[f.stream] += 0
	case http2.FrameData:
		h.mu.Lock()
		defer h.mu.Unlock()
		if had, waits := h.calls[f.stream]; waits {
			h.calls[f.stream] = had + f.length
			h.bytes += f.length
		}
	case http2.FrameRSTStream:
		h.answered(f.stream)
	}
}

// answered takes note of a frame of the server's, or of the end of a call.
func (h *hasty) answered(stream uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bytes -= h.calls[stream]
	delete(h.calls, stream)
}

func (h *hasty) sum() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bytes
}
