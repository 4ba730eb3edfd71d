package host

import (
	"context"
	"runtime"
	"sync"

	"stasis/peer/guard"
	"stasis/store/blocks"
)

// lanes are what owners share of a host. Whoever takes several takes them in this order, after
// the locks of crates: memory, uploads or readers; brief, light or heavy; the lock of a
// reservation; blocks. So nobody waits in a circle, and nobody holds a turn while he waits for a
// sender or for a crate that another call has: of what owners share, who waits for a sender holds
// memory and a place among uploads, in his own lane, and nothing else, in the store behind the host
// neither.
type lanes struct {
	memory  *guard.Lanes // bytes of small crates, and of large ones that don't go by way of the spool
	uploads *guard.Lanes // large crates that come in
	readers *guard.Lanes // crates that are read or verified
	streams *guard.Lanes // of events
	// Turns. Of the short ones each owner has one at once. One of blocks is a block to be read
	// and hashed: there are as many as processors, and everybody waits for his.
	brief, light, heavy, blocks *guard.Lanes
}

func newLanes() lanes {
	of := func(anOwner, pool int64) *guard.Lanes {
		return guard.NewLanes(anOwner*guard.Owners+pool, anOwner, guard.Owners)
	}
	return lanes{
		memory: of(MemoryAnOwner, MemoryPool), uploads: of(UploadsAnOwner, UploadsPool), readers: of(ReadersAnOwner, ReadersPool),
		streams: of(StreamsAnOwner, StreamsPool),
		brief:   of(BriefAnOwner, BriefPool), light: of(LightAnOwner, LightPool), heavy: of(HeavyAnOwner, HeavyPool),
		blocks: of(0, int64(runtime.GOMAXPROCS(0))),
	}
}

// turn waits for one place in the owner's lane; nil has none to wait for.
func (o *owner) turn(ctx context.Context, l *guard.Lanes) (done func(), err error) {
	if l == nil {
		return func() {}, nil
	}
	if err := l.Acquire(ctx, o.lane, 1); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { l.Release(o.lane, 1) }), nil
}

// paced has each block that is read with the context wait for its turn.
func (o *owner) paced(ctx context.Context) context.Context {
	return blocks.Paced(ctx, func(ctx context.Context) (func(), error) { return o.turn(ctx, o.h.lanes.blocks) })
}
