package host

import (
	"context"
	"time"

	"stasis/peer/wire"
	"stasis/store"
)

// relay passes on to owners what the store tells of their crates. It knows them by inner ids,
// from which there is no way back: all crates are gone through for many events at a time.
func (h *Host) relay(t store.Teller) {
	heard := make(chan store.Event, relayAhead)
	go func() {
		defer close(heard)
		for h.quit.Err() == nil {
			err := t.Events(h.quit, store.Cursor{}, func(e store.Event) error {
				select {
				case heard <- e:
					return nil
				case <-h.quit.Done():
					return h.quit.Err()
				}
			})
			if h.quit.Err() == nil {
				h.log.WithError(err).Debug("the store's events broke off")
				wait(h.quit, relayPause)
			}
		}
	}()
	for e := range heard {
		kinds := make(map[store.CrateID]string)
		gap := false
		note := func(e store.Event) {
			switch {
			case e.Kind == store.EventGap:
				gap = true
			case e.Kind == store.EventSpace:
				h.spaceFreed()
			case e.Crate != nil && (e.Kind == store.EventDamaged || e.Kind == store.EventCopies):
				kinds[*e.Crate] = e.Kind
			}
		}
		note(e)
		for more := time.After(relayGather); more != nil; {
			select {
			case e, ok := <-heard:
				if ok {
					note(e)
				} else {
					more = nil
				}
			case <-more:
				more = nil
			}
		}
		begun := time.Now()
		for _, o := range h.all() {
			if gap {
				o.events.add(wire.Event{Kind: wire.EventGap})
			} else if err := o.hear(kinds); err != nil {
				h.log.WithError(err).Warn("an owner could not be told what became of its crates")
			}
		}
		wait(h.quit, relayShare*time.Since(begun))
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// hear tells the owner of those crates that are its own.
func (o *owner) hear(kinds map[store.CrateID]string) error {
	if len(kinds) == 0 {
		return nil
	}
	return o.h.each(o.key(tableCrate), func(k, _ []byte) error {
		id := store.CrateID(k[len(k)-16:])
		if kind := kinds[innerCrate(o.id, id)]; kind != "" {
			o.events.add(wire.Event{Kind: kind, Crate: &id})
		}
		return o.h.quit.Err()
	})
}
