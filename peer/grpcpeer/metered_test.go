package grpcpeer

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// said is a connection on which something was said.
type said struct {
	net.Conn
	r io.Reader
}

func (s said) Read(p []byte) (int, error) { return s.r.Read(p) }

// frames are written as a caller would.
func frames(n int, write func(*http2.Framer)) *bytes.Buffer {
	b := bytes.NewBufferString(http2.ClientPreface)
	fr := http2.NewFramer(b, nil)
	for range n {
		write(fr)
	}
	return b
}

// Only frames that bring nothing are counted, however the bytes are cut up.
func TestSmallFramesAreCounted(t *testing.T) {
	for name, c := range map[string]struct {
		write func(*http2.Framer)
		cost  float64
	}{
		"one byte":          {func(fr *http2.Framer) { fr.WriteData(1, false, []byte{1}) }, -100},
		"nothing":           {func(fr *http2.Framer) { fr.WriteData(1, false, nil) }, -100},
		"the end of a call": {func(fr *http2.Framer) { fr.WriteData(1, true, []byte{1}) }, 0},
		"bulk":              {func(fr *http2.Framer) { fr.WriteData(1, false, make([]byte, 16<<10)) }, 0},
		"ping":              {func(fr *http2.Framer) { fr.WritePing(false, [8]byte{}) }, -100},
		"windows":           {func(fr *http2.Framer) { fr.WriteWindowUpdate(0, 1) }, -100},
		"settings":          {func(fr *http2.Framer) { fr.WriteSettings() }, -100},
		"continuation":      {func(fr *http2.Framer) { fr.WriteContinuation(1, false, nil) }, -100},
		"headers": {func(fr *http2.Framer) {
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, 100)})
		}, 0},
	} {
		for _, piece := range []int{1, 7, 4096, 1 << 20} {
			m := newMetered(nil, nil)
			cost := 0.0
			for b := frames(100, c.write); b.Len() > 0; {
				cost += m.count(b.Next(piece))
			}
			if cost != c.cost || m.have != 0 || m.skip != 0 {
				t.Errorf("%s in pieces of %d: cost %v, want %v; %d and %d left", name, piece, cost, c.cost, m.have, m.skip)
			}
		}
	}
}

// Whoever sends small frames without end is cut off; a burst of them, and bulk bytes, go
// through at once.
func TestFloodIsCutOff(t *testing.T) {
	read := func(b *bytes.Buffer) (m *metered, cut bool, err error) {
		m = newMetered(said{r: b}, func() { cut = true })
		_, err = io.Copy(io.Discard, m)
		return m, cut, err
	}
	ping := func(fr *http2.Framer) { fr.WritePing(false, [8]byte{}) }
	for name, b := range map[string]*bytes.Buffer{
		"a burst": frames(smallBurst, ping),
		"bulk":    frames(1000, func(fr *http2.Framer) { fr.WriteData(1, false, make([]byte, 16<<10)) }),
		"both": frames(1000, func(fr *http2.Framer) {
			fr.WriteData(1, false, make([]byte, 16<<10))
			ping(fr)
			ping(fr)
		}),
	} {
		if m, cut, err := read(b); cut || err != nil || !m.short.IsZero() {
			t.Errorf("%s: cut off %v (%v), held back %v", name, cut, err, !m.short.IsZero())
		}
	}
	start := time.Now()
	if _, cut, err := read(frames(smallBurst+20*smallRate, ping)); !cut || err != errFlood {
		t.Errorf("a flood: %v, %v", cut, err)
	}
	if took := time.Since(start); took > 3*floodLimit {
		t.Errorf("a flood was suffered for %s", took)
	}
}
