package host

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"stasis/store"
)

// tend looks after what nobody asks for: leases that are over, uploads that nobody
// resumes, puts whose outcome is not known. Each owner has rounds of its own: however long one
// takes, the others' leases end in time.
func (h *Host) tend() {
	defer close(h.tended)
	var rounds sync.WaitGroup
	defer rounds.Wait()
	t := time.NewTicker(tendEvery)
	defer t.Stop()
	for {
		select {
		case <-h.quit.Done():
			return
		case <-t.C:
			for _, o := range h.all() {
				if o.tending.CompareAndSwap(false, true) {
					rounds.Go(func() {
						defer o.tending.Store(false)
						o.tend()
					})
				}
			}
			h.tendStore()
		}
	}
}

// round does something for each of all. It goes on behind one that fails, but not where that is
// because the store does not answer or because the time is over: the next would fail as well. The
// error is the first; whoever gets it warns once, however many there are. They should come in no
// fixed order, so that one can't stand before the others for ever.
func round[T any](ctx context.Context, all []T, do func(T) error) error {
	var first error
	failed := 0
	for i, x := range all {
		err := do(x)
		if err == nil {
			continue
		}
		if first == nil {
			first = err
		}
		failed++
		if ctx.Err() != nil || errors.Is(err, store.Unavailable) {
			failed += len(all) - i - 1
			break
		}
	}
	if failed > 1 {
		return fmt.Errorf("%d of %d are left: %w", failed, len(all), first)
	}
	return first
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
	if err := o.book.Bury(ctx); err != nil {
		log.WithError(err).Warn("lapsed reservations could not be ended; it is tried again")
	}
	o.mu.Lock()
	ending := len(o.ended)
	o.mu.Unlock()
	if err := o.remirror(ctx); err != nil {
		log.WithError(err).Warn("reservations could not be brought in step with the store; it is tried again")
	}
	o.mu.Lock()
	freed := ending > len(o.ended)
	o.mu.Unlock()
	if freed {
		o.h.spaceFreed()
	}
	if o.revoked() {
		o.shutOut(ctx)
	}
	now := o.h.o.Clock.Boot()
	o.dropPartials(func(p *partial) bool { return now-p.rested > PartialKept })
	if err := o.settleThose(ctx, func(u outcome) bool { return time.Since(u.since) >= settleAfter }); err != nil {
		log.WithError(err).Warn("interrupted puts could not be looked into; it is tried again")
	}
}
