package fs

import (
	"testing"
	"time"
)

// The sealer leaves the machine to programs that close files one after another, but not
// for ever, and not when somebody waits.
func TestSealerLeavesRoom(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, c := range map[string]struct {
		q    *sealer
		want int
	}{
		"nothing":               {&sealer{}, 0},
		"not rested":            {&sealer{queue: []frozen{{1, ago(sealDelay / 2)}}, last: ago(sealDelay / 2)}, 0},
		"rested":                {&sealer{queue: []frozen{{1, ago(sealDelay)}, {2, ago(sealDelay)}}, last: ago(sealDelay)}, 2},
		"others are closed":     {&sealer{queue: []frozen{{1, ago(2 * sealDelay)}, {2, ago(0)}}, last: ago(0)}, 0},
		"patience ends":         {&sealer{queue: []frozen{{1, ago(sealPatience)}, {2, ago(0)}}, last: ago(0)}, 1},
		"somebody waits":        {&sealer{queue: []frozen{{1, ago(0)}, {2, ago(0)}}, last: ago(0), urgent: true}, 2},
		"too many have gone by": {&sealer{queue: make([]frozen, sealBacklog), last: ago(0)}, sealBatch},
	} {
		waiting := len(c.q.queue)
		batch, rest := c.q.take(now)
		if len(batch) != c.want {
			t.Errorf("%s: %d files are taken, want %d", name, len(batch), c.want)
		}
		if len(batch) == 0 && (rest > 0) != (waiting > 0) || rest > sealPatience {
			t.Errorf("%s: looked at again in %s", name, rest)
		}
	}
}
