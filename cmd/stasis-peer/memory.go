package main

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// memoryGoal is the memory, in bytes, above which the garbage collector works harder;
	// $GOMEMLIMIT wins. What is held for callers at once the servers bound.
	memoryGoal = 1 << 30
	// tidyEvery is how often it is looked whether the peer rests. Memory that it holds beyond
	// tidyAbove, in bytes, is then given back to the system: what a burst left stays with the
	// process else, for minutes. Where nothing much came of that it is not tried again for
	// longer and longer, up to tidyMost looks.
	tidyEvery = 5 * time.Second
	tidyAbove = 32 << 20
	tidyMost  = 120
)

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

// due says whether to tidy: a collector that had nothing to do means that the peer rests.
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
	return held > tidyAbove
}

// done takes note of what came of it.
func (m *memory) done(cycles, before, left uint64) {
	m.cycles = cycles
	if m.pause = min(2*m.pause+1, tidyMost); before > left+tidyAbove/4 {
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
