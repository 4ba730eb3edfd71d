package fs

import (
	"testing"

	"stasis/router"
)

// What df says can be written can be written: the smaller place counts, and what shares a
// disk shares its room.
func TestWritable(t *testing.T) {
	const bodies, far, unknown = 1, 2, 0
	dir := func(device uint64, free, capacity int64) router.NodeStatus {
		return router.NodeStatus{Kind: "directory", Device: device, Free: free, Capacity: capacity}
	}
	box := func(device uint64, free int64) router.NodeStatus {
		return router.NodeStatus{Kind: "container", Device: device, Free: free, Capacity: 1 << 40}
	}
	for what, c := range map[string]struct {
		places []router.NodeStatus
		copies int
		room   int64
		want   int64
	}{
		"no place":                           {nil, 1, 100, 0},
		"a place where bodies are adopted":   {[]router.NodeStatus{dir(bodies, 90, 0)}, 1, 100, 90},
		"a full place":                       {[]router.NodeStatus{dir(bodies, 0, 0)}, 1, 100, 0},
		"the smaller of two":                 {[]router.NodeStatus{dir(bodies, 90, 0), dir(far, 40, 0)}, 2, 100, 40},
		"the smaller first":                  {[]router.NodeStatus{dir(far, 40, 0), dir(bodies, 90, 0)}, 2, 100, 40},
		"the larger for one copy":            {[]router.NodeStatus{dir(far, 40, 0), dir(bodies, 90, 0)}, 1, 100, 90},
		"fewer places than copies":           {[]router.NodeStatus{dir(bodies, 90, 0)}, 3, 100, 90},
		"one of two places full":             {[]router.NodeStatus{dir(bodies, 90, 0), dir(far, 0, 0)}, 2, 100, 0},
		"two on the disk of the bodies":      {[]router.NodeStatus{dir(bodies, 100, 0), dir(bodies, 100, 0)}, 2, 100, 50},
		"two on another disk":                {[]router.NodeStatus{dir(far, 100, 0), dir(far, 100, 0)}, 2, 500, 50},
		"rather on two disks":                {[]router.NodeStatus{dir(far, 100, 0), dir(far, 100, 0), dir(bodies, 70, 0)}, 2, 100, 70},
		"two with small shares of a disk":    {[]router.NodeStatus{dir(far, 10, 15), dir(far, 10, 15)}, 2, 500, 10},
		"one with a small share of a disk":   {[]router.NodeStatus{dir(far, 10, 15), dir(far, 100, 0)}, 2, 500, 10},
		"a container beside the bodies":      {[]router.NodeStatus{box(bodies, 80)}, 1, 100, 50},
		"little room for bodies":             {[]router.NodeStatus{dir(far, 90, 0)}, 1, 30, 30},
		"a peer, whose disk nobody knows":    {[]router.NodeStatus{{Kind: "grpc", Device: unknown, Free: 60}}, 1, 100, 60},
		"two peers":                          {[]router.NodeStatus{{Kind: "grpc", Free: 60}, {Kind: "http", Free: 50}}, 2, 100, 50},
		"the bodies' disk overdrawn already": {[]router.NodeStatus{dir(bodies, -5, 0)}, 1, 100, 0},
	} {
		if got := writable(c.places, c.copies, bodies, c.room); got != c.want {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
	}
}
