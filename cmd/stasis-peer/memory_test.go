package main

import (
	"runtime"
	"testing"
)

// What a burst took goes back to the system once the peer rests, and not before.
func TestTidy(t *testing.T) {
	var m memory
	m.tidy()
	burst := make([]byte, 4*tidyAbove)
	for i := range burst {
		burst[i] = 1
	}
	runtime.KeepAlive(burst)
	_, full := measure()
	m.tidy() // the collector has worked
	if _, held := measure(); held < full-tidyAbove {
		t.Skip("the collector was faster")
	}
	m.tidy()
	if _, held := measure(); held > full-3*tidyAbove {
		t.Errorf("%d MiB are held after a burst of %d MiB, %d MiB amid it", held>>20, len(burst)>>20, full>>20)
	}
	if m.due(m.cycles, m.kept+tidyAbove) {
		t.Error("it tidies what is tidy")
	}
}
