package tidy

import (
	"runtime"
	"testing"
)

// What a burst took goes back to the system once the daemon rests, and not before.
func TestTidy(t *testing.T) {
	var m memory
	m.tidy()
	burst := make([]byte, 4*above)
	for i := range burst {
		burst[i] = 1
	}
	runtime.KeepAlive(burst)
	_, full := measure()
	m.tidy() // the collector has worked
	if _, held := measure(); held < full-above {
		t.Skip("the collector was faster")
	}
	m.tidy()
	if _, held := measure(); held > full-3*above {
		t.Errorf("%d MiB are held after a burst of %d MiB, %d MiB amid it", held>>20, len(burst)>>20, full>>20)
	}
	if m.due(m.cycles, above) {
		t.Error("it tidies what is tidy")
	}
}

// Memory is given back once the daemon rests, as often as that brings something.
func TestMemoryIsTidied(t *testing.T) {
	const much = 10 * above
	m := memory{}
	for i, c := range []struct {
		cycles, held uint64
		due          bool
		left         uint64 // after it was given back
	}{
		{cycles: 5, held: much},                             // it works
		{cycles: 6, held: much},                             // still
		{cycles: 6, held: much, due: true, left: much},      // it rests, with all in use
		{cycles: 7, held: much},                             // not again so soon
		{cycles: 7, held: much, due: true, left: above},     // by now it is not
		{cycles: 8, held: above},                            // there is little
		{cycles: 9, held: much},                             // it works again
		{cycles: 9, held: much, due: true, left: much - 1},  // and so on
		{cycles: 10, held: much},                            //
		{cycles: 10, held: much, due: true, left: much - 1}, // less and less often
		{cycles: 11, held: much}, {cycles: 11, held: much}, {cycles: 11, held: much},
		{cycles: 11, held: much, due: true, left: above},
	} {
		if due := m.due(c.cycles, c.held); due != c.due {
			t.Fatalf("look %d: due %v, want %v (%+v)", i+1, due, c.due, m)
		}
		if c.due {
			m.done(c.cycles+1, c.held, c.left)
		}
	}
}
