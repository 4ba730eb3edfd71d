package grpcpeer

import (
	"encoding/binary"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/mem"

	"stasis/peer/wire"
)

// metered is the connection of a caller, on which HTTP/2 comes in. It holds back who sends
// small frames without end: gRPC bounds the bytes that wait, but each frame takes memory of
// its own, a hundred times what a frame of one byte brings; and it bounds neither how many
// frames wait that say how it may send, nor how long a caller takes nothing.
type metered struct {
	net.Conn
	written atomic.Int64 // bytes
	flooded func()       // hears of the end of a connection for that

	// What follows is used by the one reader.
	header  [frameHeaderLen]byte
	have    int   // bytes of the header that came
	skip    int64 // bytes of the frame that follow
	preface int   // bytes that are left of what comes before the frames
	tokens  float64
	last    time.Time
	counted int64     // bytes written for which there were tokens
	short   time.Time // since when there have been too few tokens; zero: there are enough
}

// frameHeaderLen is the length of the header of a frame in HTTP/2: three bytes of length, one
// of the type, one of flags, four of the stream.
const frameHeaderLen = 9

// The tiers of the buffers that requests come in, as powers of two: gRPC's own lie far apart,
// so that a frame a little larger than one takes four times its size.
var received = func() mem.BufferPool {
	p, err := mem.NewBinaryTieredBufferPool(11, 12, 13, 14, 15, 18, 20)
	if err != nil {
		panic(err) // the powers are right
	}
	return p
}()

func newMetered(c net.Conn, flooded func()) *metered {
	return &metered{Conn: c, flooded: flooded, preface: len(http2.ClientPreface), tokens: smallBurst, last: time.Now()}
}

// Read gives what came, later if too many small frames came, and ends the connection if that
// does not stop.
func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	now := time.Now()
	wait := m.pay(m.count(p[:n])+m.moved(int64(n)), now)
	if wait > floodLimit || !m.short.IsZero() && now.Sub(m.short) > floodLimit {
		m.flooded()
		return 0, errFlood
	}
	time.Sleep(wait)
	return n, err
}

var errFlood = errors.New("too many small frames")

// Write is bounded: a caller who takes nothing has the connection ended.
func (m *metered) Write(p []byte) (int, error) {
	if err := m.SetWriteDeadline(time.Now().Add(wire.StallLimit)); err != nil {
		return 0, err
	}
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

// count follows the frames, and gives what they cost, below zero.
func (m *metered) count(p []byte) (cost float64) {
	for len(p) > 0 {
		switch {
		case m.preface > 0:
			n := min(m.preface, len(p))
			m.preface -= n
			p = p[n:]
		case m.skip > 0:
			n := min(m.skip, int64(len(p)))
			m.skip -= n
			p = p[n:]
		default:
			n := copy(m.header[m.have:], p)
			m.have += n
			p = p[n:]
			if m.have == frameHeaderLen {
				m.have = 0
				m.skip = int64(binary.BigEndian.Uint32(m.header[:]) >> 8)
				if m.small() {
					cost--
				}
			}
		}
	}
	return cost
}

// small reports whether the frame that begins is one of those that are counted. Headers are
// not, and no data that end a call: how many calls there are is bounded.
func (m *metered) small() bool {
	switch http2.FrameType(m.header[3]) {
	case http2.FrameHeaders:
		return false
	case http2.FrameData:
		return m.skip < smallFrame && !http2.Flags(m.header[4]).Has(http2.FlagDataEndStream)
	}
	return true
}
