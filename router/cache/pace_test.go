package cache

import (
	"testing"
	"time"
)

// What comes at the speed of most links is kept whole; of what comes faster as much is kept,
// in stretches.
func TestPace(t *testing.T) {
	const block, blocks = 1 << 20, 2000
	for _, c := range []struct {
		rate        int64 // bytes a second that come
		least, most int   // blocks that are kept
	}{
		{KeepRate, blocks, blocks},
		{KeepRate / 10, blocks, blocks},
		{4 * KeepRate, blocks / 4, blocks/4 + KeepBurst/block + 1},
		{1 << 40, KeepBurst / block, KeepBurst / block},
	} {
		var p pace
		now := time.Now()
		kept, stretches, before := 0, 0, false
		for range blocks {
			now = now.Add(time.Duration(float64(block) / float64(c.rate) * float64(time.Second)))
			is := p.allows(block, now)
			if is {
				kept++
			}
			if is && !before {
				stretches++
			}
			before = is
		}
		if kept < c.least || kept > c.most || kept/stretches < KeepBurst/block/2 {
			t.Errorf("at %d MiB a second %d blocks are kept in %d stretches", c.rate>>20, kept, stretches)
		}
	}
}
