package depot

import (
	"context"
	"sync"
	"time"

	"stasis/store"
)

var _ store.Teller = (*Store)(nil)

// news are the crates whose copies have changed since somebody was told.
type news struct {
	mu    sync.Mutex
	of    map[store.CrateID]struct{}
	lost  bool // there were too many
	space bool
	roomy time.Time     // when it was said last that there is room
	wake  chan struct{} // holds one value when there is something
}

func (n *news) init() { n.of, n.wake = make(map[store.CrateID]struct{}), make(chan struct{}, 1) }

func (n *news) stir() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *news) add(id store.CrateID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.of) >= MaxNews {
		n.of, n.lost = make(map[store.CrateID]struct{}), true
	}
	n.of[id] = struct{}{}
	n.stir()
}

func (n *news) room() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now := time.Now(); now.Sub(n.roomy) >= RoomEvery { // two depots must not rouse each other without end
		n.space, n.roomy = true, now
		n.stir()
	}
}

func (n *news) take() (of map[store.CrateID]struct{}, lost, space bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	of, lost, space = n.of, n.lost, n.space
	n.of, n.lost, n.space = make(map[store.CrateID]struct{}), false, false
	return of, lost, space
}

// Events is store.Teller's, for one listener. What happened before it listens it does not
// hear of: the events have no cursor.
func (s *Store) Events(ctx context.Context, _ store.Cursor, give func(store.Event) error) error {
	for {
		of, lost, space := s.news.take()
		if lost {
			if err := give(store.Event{Kind: store.EventGap}); err != nil {
				return err
			}
		}
		for id := range of {
			if err := give(store.Event{Kind: s.kind(id), Crate: &id}); err != nil {
				return err
			}
		}
		if space {
			if err := give(store.Event{Kind: store.EventSpace}); err != nil {
				return err
			}
		}
		select {
		case <-s.news.wake:
		case <-ctx.Done():
			return &store.Error{Kind: store.Unavailable, Op: "follow events", Err: context.Cause(ctx)}
		}
	}
}

// kind tells whether a crate has other copies now, or none that is right any more.
func (s *Store) kind(id store.CrateID) string {
	if m, there, err := s.find(id); err == nil && (!there || m.Copies() == 0) {
		return store.EventDamaged
	}
	return store.EventCopies
}
