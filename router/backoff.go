package router

import (
	"fmt"
	"time"

	"stasis/store"
)

// kind is one kind of call to a node. Each has a backoff of its own, which only a success of that
// kind ends: that a node answers when it is asked how it is says nothing of what it does with what
// it is sent. Where the node has come back, has room again, or a person says so, one try is made at
// once. What is wrong with one crate alone has a pause of its own at the node (failure).
type kind uint8

const (
	putSmall kind = kind(small)
	putLarge kind = kind(large)
	reserves kind = kind(classes)
	discards kind = kind(classes) + 1
	kinds    kind = kind(classes) + 2
)

// pause is for a kind of calls that fail for no reason of a crate's own: none is made before until.
type pause struct {
	tries int
	until time.Duration
	err   string
}

// stumble pauses a kind of calls to the node, which fails as a whole.
func (n *node) stumble(k kind, err error) {
	r := n.r
	r.mu.Lock()
	n.bar(err)
	now := r.clock.Boot()
	n.paused[k].fail(now, err)
	if store.KindOf(err) == store.Denied && n.handle != nil && n.fences.take(now, RetryCap, DeniedCap) {
		// It may have forgotten that this is the mount that used it last, as one put back from a
		// backup has: it is told again, by being opened anew.
		n.retire()
		n.rouse(wakeKeeper)
	}
	r.mu.Unlock()
	if silentError(err) {
		n.suspect()
	}
	r.log.WithField("node", n.name).WithError(err).Debug("calls of one kind are paused")
}

func (p *pause) fail(now time.Duration, err error) {
	p.err = err.Error()
	if now >= p.until {
		p.tries++
		p.until = now + jitter(backoff(RetryFirst, RetryCap, p.tries))
	}
}

// steady ends a pause after a success of its kind.
func (n *node) steady(k kind) {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	n.paused[k] = pause{}
	if k == putSmall || k == putLarge {
		n.refusals, n.barred = 0, ""
		if n.stuck {
			n.stuck, n.short, n.wantRoom = false, "", 0
		}
	}
}

// rests says for how long nothing of a kind is to be tried. Called with mu held.
func (n *node) rests(k kind, now time.Duration) time.Duration { return max(0, n.paused[k].until-now) }

// permit1 has one try of each kind made at once. Called with mu held.
func (n *node) permit1() {
	for k := range n.paused {
		n.paused[k].until = 0
	}
	n.fullUntil = 0
}

// calm has everything that fails at the node tried again at once, one time: a person says so.
// Called with mu held.
func (n *node) calm() {
	n.permit1()
	n.refusals = 0
	clear(n.failing)
	clear(n.kept)
	clear(n.repairs)
	n.fences = allowance{}
	n.alsoFailing, n.alsoKept, n.alsoRepaired = crowd{}, crowd{}, crowd{}
	n.wheres, n.recounts, n.lists, n.counts = allowance{}, allowance{}, allowance{}, allowance{}
	n.atOnce = true
	n.rouseAll()
}

// refuses says why a node that answers takes nothing; empty if it does, or nothing was tried
// often enough to tell. Called with mu held.
func (n *node) refuses() string {
	for k, p := range n.paused {
		idle := kind(k) < reserves && n.queue[k].crates == 0
		if p.tries >= RefusesAfter && !idle && n.online() != nil {
			return "it takes nothing: " + p.err
		}
	}
	return ""
}

// backoff doubles a pause with each try.
func backoff(first, most time.Duration, tries int) time.Duration {
	return min(most, first<<min(max(tries-1, 0), 20))
}

// allowance lets something be done now and then: again after a pause that doubles with each
// time, and begins anew after a quiet while as long as the longest.
type allowance struct {
	times int
	until time.Duration // not before then
}

// take reports whether it may be done now, and if so counts it.
func (a *allowance) take(now, first, most time.Duration) bool {
	if now < a.until {
		return false
	}
	if now-a.until > most {
		a.times = 0
	}
	a.times++
	a.until = now + backoff(first, most, a.times)
	return true
}

// restsBeforeOpening says for how long the store is not to be opened, and counts the opening if it
// may be: one that opens well and fails at once is not opened for ever.
func (n *node) restsBeforeOpening() time.Duration {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	now := n.r.clock.Boot()
	if n.handle != nil || n.opening != nil {
		return 0
	}
	if n.atOnce {
		n.atOnce, n.opens.until = false, now
	}
	if n.opens.take(now, RetryFirst, RetryCap) {
		return 0
	}
	return n.opens.until - now
}

// unavailable is the answer for a node that gave none.
func (n *node) unavailable(op, detail string, err error) error {
	return &store.Error{Kind: store.Unavailable, Op: op, Subject: fmt.Sprintf("on node %q", n.name), Detail: detail, Err: err}
}
