package fs

import (
	"context"

	"stasis/fs/names"
	"stasis/router"
)

// Statfs is the size of the vault. Sizes are in bytes.
type Statfs struct {
	Total, Free     int64
	Files, FreeFile uint64
}

// freeFiles is how many more files statfs(2) promises: the ledger's only bound is the
// disk.
const freeFiles = 1 << 32

// Statfs says what can still be written under the vault's policy: as much as the wanted
// number of places has room for, or all of them if there are fewer.
func (s *FS) Statfs(ctx context.Context) (Statfs, error) {
	files, bytes, err := s.tree.Counters()
	if err != nil {
		return Statfs{}, err
	}
	pol, err := s.effective(names.Root)
	if err != nil {
		return Statfs{}, err
	}
	room, err := s.bodies.Room()
	if err != nil {
		return Statfs{}, err
	}
	var places []router.NodeStatus
	for _, n := range s.router.Status(ctx) {
		if n.Durable && n.Configured && !n.Refuses && (n.State == router.Online || n.State == router.Full) {
			places = append(places, n)
		}
	}
	free := writable(places, pol.Copies, s.bodies.Device(), room)
	return Statfs{Total: bytes + free, Free: free, Files: uint64(files) + freeFiles, FreeFile: freeFiles}, nil
}

// writable is how many bytes of content find room in the wanted number of places, or in
// all of them if there are fewer, with bodies on a device that has room for so much. What
// lies on one disk shares it: two copies there take twice the room.
func writable(places []router.NodeStatus, copies int, bodies uint64, room int64) int64 {
	disks := diskRoom(places, bodies, room)
	takes := make(map[uint64]int64) // how often each byte is on a disk
	fits := func(n router.NodeStatus) int64 {
		if n.Device == 0 {
			return n.Free
		}
		return min(n.Free, disks[n.Device]/(takes[n.Device]+1))
	}
	free, adopted := room, false
	for range min(copies, len(places)) {
		best := 0
		for i, n := range places {
			if fits(n) > fits(places[best]) {
				best = i
			}
		}
		n := places[best]
		free = min(free, fits(n))
		adopted = adopted || n.Kind == directoryKind && n.Device == bodies
		takes[n.Device]++
		places = append(append([]router.NodeStatus{}, places[:best]...), places[best+1:]...)
	}
	if len(takes) == 0 {
		return 0
	}
	if !adopted {
		// The body is there until the copies are.
		free = min(free, room/(takes[bodies]+1))
	}
	return max(0, free)
}

// directoryKind is the kind of the nodes that a body on their disk becomes a copy of.
const directoryKind = "directory"

// diskRoom is what the disks that places lie on have room for, as far as is known. The
// capacity of a place bounds it alone, not the disk.
func diskRoom(places []router.NodeStatus, bodies uint64, room int64) map[uint64]int64 {
	bounded, open := make(map[uint64]int64), make(map[uint64]int64)
	for _, n := range places {
		if n.Capacity == 0 {
			open[n.Device] = max(open[n.Device], n.Free)
		} else {
			bounded[n.Device] += n.Free
		}
	}
	for d, n := range bounded {
		if _, known := open[d]; !known {
			open[d] = n
		}
	}
	open[bodies] = room
	return open
}
