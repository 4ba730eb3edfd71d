package router

import (
	"context"
	"errors"
	"time"

	"stasis/store"
)

// listen hears what a node tells unasked, for as long as its store is open.
func (n *node) listen(h *handle, t store.Teller) {
	for pause := RetryFirst; ; pause = min(2*pause, EventRetry) {
		begun := time.Now()
		err := t.Events(h.ctx, n.cursor(), func(e store.Event) error {
			n.happened(h, e)
			return h.ctx.Err()
		})
		if h.ctx.Err() != nil {
			return
		}
		if time.Since(begun) > EventRetry {
			pause = RetryFirst // it worked for a while
		}
		if silentError(err) {
			n.suspect()
		}
		n.r.log.WithField("node", n.name).WithError(err).Debug("events broke off")
		w := time.NewTimer(jitter(pause))
		select {
		case <-h.ctx.Done():
			w.Stop()
			return
		case <-w.C:
		}
	}
}

func (n *node) cursor() store.Cursor {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	return n.heardOf
}

// happened deals with one event. What it means is in the ledger before the next is asked
// for; only what is found by comparing takes its time.
func (n *node) happened(h *handle, e store.Event) {
	r := n.r
	if n.events.WaitN(h.ctx, weight(e)) != nil {
		return // the store is closed; what it said is said again to the next
	}
	switch {
	case e.Kind == store.EventDamaged && e.Crate != nil:
		if _, err := r.damaged(n, *e.Crate, errTold); err != nil && !errors.Is(err, errInFlight) {
			r.log.WithField("node", n.name).WithField("crate", *e.Crate).WithError(err).Error("record a damaged copy")
			n.reconcile(h)
		}
	case e.Kind == store.EventCopies && e.Crate != nil:
		n.recount(h, *e.Crate)
	case e.Kind == store.EventGap:
		n.reconcile(h)
		n.recount(h, store.CrateID{})
	case e.Kind == store.EventSpace:
		r.mu.Lock()
		n.wantRoom, n.short = 0, ""
		n.room()
		n.rouse(small, large, wakeKeeper)
		r.mu.Unlock()
		r.o.Observer.NodesChanged()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Incarnation != "" {
		n.heardOf = e.Cursor
	}
}

// errTold is why a copy is struck that a node has said to be damaged.
var errTold = errors.New("its node says so")

// weight is how much an event counts, by what it has done.
func weight(e store.Event) int {
	switch e.Kind {
	case store.EventGap, store.EventSpace:
		return EventWeight
	}
	return 1
}

// reconcile compares the ledger with what a node lists, in the background, one time after
// the other. Events that come meanwhile call for it once more.
func (n *node) reconcile(h *handle) {
	r := n.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.comparing {
		n.compareAgain = true
		return
	}
	n.comparing = true
	r.background(func() {
		for n.await(h, &n.lists) {
			if err := n.compare(h); err != nil && h.ctx.Err() == nil {
				r.log.WithField("node", n.name).WithError(err).Warn("compare with what the node lists")
			}
			r.mu.Lock()
			again := n.compareAgain && h.ctx.Err() == nil
			n.compareAgain, n.comparing = false, again
			r.mu.Unlock()
			if !again {
				return
			}
		}
		r.mu.Lock()
		n.comparing = false
		r.mu.Unlock()
	})
}

// await waits until something may be done that a node has asked for; false if its store is closed
// before.
func (n *node) await(h *handle, a *allowance) bool {
	first, most := CompareFirst, CompareMost
	if n.near() {
		first, most = RetryFirst, RetryCap // it is this program that asks for it
	}
	for {
		n.r.mu.Lock()
		now := n.r.clock.Boot()
		may, rest := a.take(now, first, most), a.until-now
		n.r.mu.Unlock()
		if may {
			return h.ctx.Err() == nil
		}
		t := time.NewTimer(rest)
		select {
		case <-h.ctx.Done():
			t.Stop()
			return false
		case <-t.C:
		}
	}
}

// compare compares the ledger with all that the node lists. The error says that it did not list all
// of it.
func (n *node) compare(h *handle) error {
	r := n.r
	log := r.log.WithField("node", n.name)
	c := checker{r: r, report: func(f Finding) {
		if f.Problem {
			log.WithField("crate", f.Crate).Warn(f.Text)
		}
	}}
	r.mu.Lock()
	c.lists = []*listing{{n: n, h: h, id: n.id, kind: n.spec.Kind}}
	r.mu.Unlock()
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	defer context.AfterFunc(h.ctx, cancel)()
	if err := c.run(ctx); err != nil {
		return err
	}
	if l := c.lists[0]; l.broken || l.open {
		return n.unavailable("list crates", "not all of it could be looked at", nil)
	}
	return ctx.Err()
}
