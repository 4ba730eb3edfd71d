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
	// tidyEvery is how often it is looked whether the peer rests, and tidyAbove is how much
	// memory more than after the last time, in bytes, is then given back to the system: what a
	// burst left stays with the process else, for minutes.
	tidyEvery = 5 * time.Second
	tidyAbove = 32 << 20
)

// memory is what is known of the memory of this process.
type memory struct {
	cycles uint64 // of the garbage collector, when it was looked last
	kept   uint64 // bytes that were left by the last tidying
}

// tidy gives memory back that nobody has needed since the last look.
func (m *memory) tidy() {
	cycles, held := measure()
	if m.due(cycles, held) {
		debug.FreeOSMemory()
		cycles, m.kept = measure()
	}
	m.cycles = cycles
}

// due says whether to tidy: a collector that had nothing to do means that the peer rests.
func (m *memory) due(cycles, held uint64) bool { return cycles == m.cycles && held > m.kept+tidyAbove }

// measure gives how often the garbage collector ran, and the bytes the process holds.
func measure() (cycles, held uint64) {
	s := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64(), s[1].Value.Uint64() - s[2].Value.Uint64()
}
