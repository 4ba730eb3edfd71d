// Package tidy gives memory that a daemon does not use any more back to the system.
//
// What a burst of work took stays with a Go process for minutes else, and a daemon that
// rests hardly runs its garbage collector at all.
package tidy

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// every is how often it is looked whether the daemon rests. Memory that it holds beyond
	// above, in bytes, is then given back. Where nothing much came of that it is not tried
	// again for longer and longer, up to most looks.
	every = 5 * time.Second
	above = 32 << 20
	most  = 120
)

// Run gives memory back whenever the daemon has come to rest, until ctx ends.
func Run(ctx context.Context) {
	t := time.NewTicker(every)
	defer t.Stop()
	for m := (memory{}); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			m.tidy()
		}
	}
}

// memory is what is known of the memory of this process.
type memory struct {
	cycles uint64 // of the garbage collector, when it was looked last
	skip   int    // looks that are still left out
	pause  int    // how many were left out last
}

// tidy gives memory back that nobody has needed since the last look.
func (m *memory) tidy() {
	cycles, held := measure()
	if !m.due(cycles, held) {
		return
	}
	debug.FreeOSMemory()
	cycles, left := measure()
	m.done(cycles, held, left)
}

// due says whether to tidy: a collector that had nothing to do means that the daemon rests.
func (m *memory) due(cycles, held uint64) bool {
	rests := cycles == m.cycles
	m.cycles = cycles
	switch {
	case !rests:
		m.skip, m.pause = 0, 0
		return false
	case m.skip > 0:
		m.skip--
		return false
	}
	return held > above
}

// done takes note of what came of it.
func (m *memory) done(cycles, before, left uint64) {
	m.cycles = cycles
	if m.pause = min(2*m.pause+1, most); before > left+above/4 {
		m.pause = 0
	}
	m.skip = m.pause
}

// measure gives how often the garbage collector ran, and the bytes the process holds.
func measure() (cycles, held uint64) {
	s := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64(), s[1].Value.Uint64() - s[2].Value.Uint64()
}
