package host

import (
	"context"
	"time"

	"stasis/store"
)

// tend looks after what nobody asks for: leases that are over, uploads that nobody
// resumes, puts whose outcome is not known.
func (h *Host) tend() {
	defer close(h.tended)
	t := time.NewTicker(tendEvery)
	defer t.Stop()
	for {
		select {
		case <-h.quit.Done():
			return
		case <-t.C:
			for _, o := range h.all() {
				if h.quit.Err() == nil {
					o.tend()
				}
			}
			h.tendStore()
		}
	}
}

// tendStore looks whether the store is where it should be.
func (h *Host) tendStore() {
	ctx, cancel := context.WithTimeout(h.quit, undoLimit)
	defer cancel()
	if err := h.watch(ctx); err != nil && h.quit.Err() == nil {
		h.log.WithError(err).Warn("the peer's store could not be looked at; it is tried again")
	}
}

func (o *owner) tend() {
	ctx, cancel := context.WithTimeout(o.h.quit, undoLimit)
	defer cancel()
	log := o.h.log.WithField("owner", o.id.String()[:16])
	o.mu.Lock()
	ending := len(o.ended)
	o.mu.Unlock()
	if err := o.lapse(ctx); err != nil {
		log.WithError(err).Warn("lapsed reservations could not be ended; it is tried again")
	}
	o.mu.Lock()
	freed := ending > len(o.ended)
	o.mu.Unlock()
	if freed {
		o.h.spaceFreed()
	}
	if err := o.remirror(ctx); err != nil {
		log.WithError(err).Warn("reservations could not be brought in step with the store; it is tried again")
	}
	if o.revoked() {
		o.shutOut(ctx)
	}
	now := o.h.o.Clock.Boot()
	o.dropPartials(func(p *partial) bool { return now-p.rested > PartialKept })
	for _, id := range o.overdue() {
		if err := o.settle(ctx, id); err != nil {
			log.WithError(err).WithField("crate", id.String()).Warn("an interrupted put could not be looked into; it is tried again")
		}
	}
}

// overdue are the puts whose outcome should be clear by now.
func (o *owner) overdue() (ids []store.CrateID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, u := range o.unsettled {
		if time.Since(u.since) >= settleAfter {
			ids = append(ids, id)
		}
	}
	return ids
}
