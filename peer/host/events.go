package host

import (
	"context"
	"sync"
	"time"

	"stasis/peer/wire"
	"stasis/store"
)

// ring remembers the last events of an owner. Their sequence starts at 1 with each
// incarnation of the host.
type ring struct {
	mu          sync.Mutex
	incarnation string
	last        uint64 // the sequence of the newest
	events      []wire.Event
	changed     chan struct{} // closed when there is another, or the end
	ended       bool
}

func (r *ring) init(incarnation string) {
	r.incarnation, r.changed = incarnation, make(chan struct{})
}

func (r *ring) add(e wire.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	e.Cursor = wire.Cursor{Incarnation: r.incarnation, Sequence: r.last}
	if r.events = append(r.events, e); len(r.events) > EventsKept {
		r.events = append(r.events[:0:0], r.events[1:]...)
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// forget drops all events. Whoever comes back finds a gap.
func (r *ring) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) > 0 {
		r.last++ // a cursor at the end would find none
		r.events = nil
	}
}

// end ends all that follow.
func (r *ring) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.ended = true
		close(r.changed)
	}
}

// next gives the events behind a cursor, or one that says Gap if they are not all known
// any more, and where to wait for others.
func (r *ring) next(after wire.Cursor) (events []wire.Event, wait <-chan struct{}, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := wire.Cursor{Incarnation: r.incarnation, Sequence: r.last}
	oldest := r.last - uint64(len(r.events)) + 1
	if after.Incarnation != r.incarnation || after.Sequence > r.last || after.Sequence+1 < oldest {
		return []wire.Event{{Cursor: now, Kind: wire.EventGap}}, r.changed, r.ended
	}
	return append(events, r.events[after.Sequence+1-oldest:]...), r.changed, r.ended
}

// follow gives events as they come, and a sign of life while none does.
func (r *ring) follow(ctx context.Context, at wire.Cursor, give func(wire.Event) error) error {
	beat := time.NewTicker(wire.EventsHeartbeat)
	defer beat.Stop()
	for {
		events, wait, ended := r.next(at)
		for _, e := range events {
			if err := give(e); err != nil {
				return err
			}
			at = e.Cursor
		}
		if ended {
			return errClosed("follow events")
		}
		select {
		case <-wait:
		case <-beat.C:
			if err := give(wire.Event{Cursor: at, Kind: wire.EventAlive}); err != nil {
				return err
			}
		case <-ctx.Done():
			return &store.Error{Kind: store.Unavailable, Op: "follow events", Err: context.Cause(ctx)}
		}
	}
}

// spaceFreed tells those who were refused for space that there may be some again.
func (h *Host) spaceFreed() {
	for _, o := range h.all() {
		o.mu.Lock()
		wants := o.wants
		o.wants = false
		o.mu.Unlock()
		if wants {
			o.events.add(wire.Event{Kind: wire.EventSpace})
		}
	}
}
