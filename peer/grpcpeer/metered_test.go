package grpcpeer

import (
	"bytes"
	"errors"
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

// mayHaste is what an owner may send unasked.
func mayHaste() int64 { return HastyMost }

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
			m := newMetered(nil, mayHaste, nil)
			cost := 0.0
			for b := frames(100, c.write); b.Len() > 0; {
				cost += m.count(b.Next(piece))
			}
			if cost != c.cost || m.in.have != 0 || m.in.skip != 0 {
				t.Errorf("%s in pieces of %d: cost %v, want %v; %d and %d left", name, piece, cost, c.cost, m.in.have, m.in.skip)
			}
		}
	}
}

// Whoever sends small frames without end is cut off; a burst of them, and bulk bytes, go
// through at once.
func TestFloodIsCutOff(t *testing.T) {
	read := func(b *bytes.Buffer) (m *metered, cut bool, err error) {
		m = newMetered(said{r: b}, mayHaste, func(error) { cut = true })
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

// Whoever sends more than it was asked for is cut off, over how many calls ever; what is
// answered is not counted any more.
func TestHasteIsCutOff(t *testing.T) {
	call := func(fr *http2.Framer, stream uint32, bytes int) {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte{1}, EndHeaders: true})
		for ; bytes > 0; bytes -= 16 << 10 {
			fr.WriteData(stream, false, make([]byte, 16<<10))
		}
	}
	for name, c := range map[string]struct {
		calls, bytes int
		answers      bool
		cut          bool
	}{
		"one, as much as may be": {calls: 1, bytes: HastyMost},
		"one, too much":          {calls: 1, bytes: HastyMost + 16<<10, cut: true},
		"many, too much":         {calls: 64, bytes: HastyMost/64 + 16<<10, cut: true},
		"many that are answered": {calls: 64, bytes: HastyMost / 2, answers: true},
	} {
		var reason error
		var m *metered
		b := bytes.NewBufferString(http2.ClientPreface)
		in := http2.NewFramer(b, nil)
		m = newMetered(said{r: b}, mayHaste, func(err error) { reason = err })
		var read error
		for i := range c.calls {
			stream := uint32(2*i + 1)
			call(in, stream, c.bytes)
			for p := make([]byte, 10000); b.Len() > 0 && read == nil; {
				_, read = m.Read(p)
			}
			if c.answers {
				var out bytes.Buffer
				http2.NewFramer(&out, nil).WriteWindowUpdate(stream, 1)
				for out.Len() > 0 { // in pieces
					m.out.follow(out.Next(5), func(f frameSeen) { m.hasty.answered(f.stream) })
				}
			}
		}
		if cut := errors.Is(reason, errHaste) && errors.Is(read, errHaste); cut != c.cut || read != nil && !c.cut {
			t.Errorf("%s: cut off %v (%v, %v), want %v", name, cut, reason, read, c.cut)
		}
		if c.answers && (m.hasty.bytes != 0 || len(m.hasty.calls) != 0) {
			t.Errorf("%s: %d bytes of %d calls are left", name, m.hasty.bytes, len(m.hasty.calls))
		}
	}
}
