package router

import (
	"math"
	"sync/atomic"
	"time"

	"stasis/store"
)

// meter is how near a node is, as far as that is known, guarded by Router.mu. Figures
// are means in which older ones count less and less.
type meter struct {
	ping    time.Duration // of its status
	latency time.Duration // until the first bytes of a block come
	rate    float64       // of all reads together, in bytes a second
	at      time.Duration // when a read was measured last, by Clock.Boot; 0: never
	reads   int           // under way
	window  int           // blocks that readers are ahead of; 0: ReadAhead
	shrunk  time.Duration // when the window was made smaller last
}

// stopwatch measures one read. Its first bytes may come after the reader has left.
type stopwatch struct {
	begun time.Time
	first *atomic.Int64 // after begun, in nanoseconds; 0: none came
}

func (s *stopwatch) bytes() { s.first.CompareAndSwap(0, max(1, int64(time.Since(s.begun)))) }

func (n *node) clockIn() stopwatch {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	n.meter.reads++
	return stopwatch{time.Now(), new(atomic.Int64)}
}

func (n *node) clockOut(s *stopwatch, bytes int64, err error) {
	took, first := time.Since(s.begun), time.Duration(s.first.Load())
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	if err == nil && first > 0 {
		n.meter.take(n.r.clock.Boot(), first, took, bytes)
		n.meter.tune(took, n.r.clock.Boot())
	}
	n.meter.reads--
}

// clockBlock takes a block of a read that goes on, which was asked for a while ago, and starts
// anew for the next.
func (n *node) clockBlock(s *stopwatch, asked time.Duration, bytes int64) {
	took, first := time.Since(s.begun), time.Duration(s.first.Load())
	n.r.mu.Lock()
	n.meter.take(n.r.clock.Boot(), first, took, bytes)
	n.meter.tune(asked, n.r.clock.Boot())
	n.r.mu.Unlock()
	s.begun = time.Now()
	s.first.Store(goesOn)
}

// clockOff ends a read of which the blocks were taken.
func (n *node) clockOff() {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	n.meter.reads--
}

// take takes the figures of one block: when its first bytes came, unless it followed others
// in a stream, and all of them.
func (m *meter) take(now, first, took time.Duration, bytes int64) {
	if !m.fresh(now) {
		m.latency, m.rate = 0, 0
	}
	m.at = max(now, 1)
	if first > goesOn {
		m.latency = mean(m.latency, first)
	}
	// What a read that came in at once says of the rate is nothing.
	if d := took - first; bytes >= meterBytes && d > 0 {
		m.rate = mean(m.rate, float64(bytes)*float64(m.reads)/d.Seconds())
	}
}

// tune has readers go further ahead of a node that keeps up, and less far of one that does
// not: a block that waits behind others is late for its reader. took is how long after it was
// asked for it came.
func (m *meter) tune(took, now time.Duration) {
	if m.window == 0 {
		m.window = ReadAhead
	}
	switch {
	case took < AheadGrow:
		m.window = min(m.window+1, ReadAheadMost)
	case took > AheadShrink && now-m.shrunk >= took:
		m.window = max(1, m.window/2)
		m.shrunk = now
	}
}

func (m *meter) fresh(now time.Duration) bool { return m.at != 0 && now-m.at < MeasureFor }

// pinged takes how long the node took for its status.
func (n *node) pinged(took time.Duration) {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	n.meter.ping = mean(n.meter.ping, took)
}

// far is how long a block is expected to take, in powers of two: what differs by less is
// left to the person's order.
func (m *meter) far(now time.Duration) int {
	expected := m.ping
	rate := float64(NominalRate)
	if m.fresh(now) {
		expected = m.latency
		if m.rate > 0 {
			rate = m.rate
		}
	}
	expected += time.Duration(float64(store.BlockSize) / rate * float64(time.Second))
	return int(math.Log2(float64(max(expected, NearEnough)) / float64(NearEnough)))
}

// depth is how many blocks readers of a crate may be ahead of.
func (r *Router) depth(m *Manifest) int {
	from := r.candidates(m, nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(from) == 0 {
		return 0
	}
	n := from[0].n
	if local(n.spec.Kind) || n.meter.window == 0 {
		return ReadAhead
	}
	return n.meter.window
}

// mean counts the newest figure for a quarter.
func mean[T time.Duration | float64](old, new T) T {
	if old == 0 {
		return new
	}
	return old + (new-old)/4
}

// goesOn is when the first bytes of a block came that followed another in its stream, in
// nanoseconds: that says nothing of how far the node is.
const goesOn = 1

// meterBytes is the least a read has to bring to say something of the rate, in bytes.
const meterBytes = 128 << 10
