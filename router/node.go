package router

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"stasis/router/place"
	"stasis/store"
)

// node is one place that keeps crates, whether it is there or not. What is not
// marked otherwise is guarded by Router.mu.
type node struct {
	r    *Router
	name string // never changes

	spec       NodeSpec
	configured bool
	leaving    bool
	id         store.NodeID // zero until the node was opened once
	formerly   *node        // that led to its store, until this one was heard

	handle   *handle
	retired  chan struct{} // closed when the handle before this one is closed; nil: there was none
	silent   bool          // it did not answer lately
	missing  bool          // its marker is not there
	fences   allowance     // to be opened anew as it denies this mount
	barred   string        // how it refuses this mount, though it answers; empty: it does not
	wrong    int64         // answers of a peer that were not the bytes it had verified
	lies     int           // receipts for other bytes than were sent, since the start or a person's pardon
	lastErr  string
	status   store.Status // as last heard
	record   nodeRecord   // what is known of it while it is away
	recorded time.Time    // when that was last written to the ledger
	seen     time.Time
	mute     time.Duration // not asked for space until then, by Clock.Boot
	mutes    int           // in a row
	question time.Duration // when the question about space under way was asked, by Clock.Boot; 0: none is
	slow     time.Duration // asked last until then, by Clock.Boot
	meter    meter

	at       standing  // how its crates stand to what the ledger has
	recounts allowance // of counting them anew

	heardOf                 store.Cursor // the last event
	comparing, compareAgain bool         // with what it lists
	counting                *handle      // that is asked where it has put what it passed on; nil: none is
	countAll                bool         // all of it is to be asked after
	uncounted               []store.CrateID

	permitted context.Context // ends when sending is paused; nil: nothing was sent yet
	revoke    context.CancelFunc

	grant     grant
	reserving chan struct{} // holds one token: questions about the grant go one at a time
	short     string        // what the node last refused for space; empty: nothing
	fullUntil time.Duration // nothing is sent before then
	refusals  int           // in a row, of space for what is queued
	stuck     bool          // it has no room for what it has promised space for, as without inodes
	stuckFree int64         // what it said to have free then
	wantRoom  int64         // what could be drawn when something was refused; 0: nothing was

	queue    [classes]backlog
	oldest   time.Time // of what is queued; may be older than that
	paused   [kinds]pause
	refilled time.Duration // when a draw last called for a refill
	filling  chan struct{} // closed when the tending of the grant that is under way ends; nil: none is
	inFlight map[store.CrateID]struct{}
	failing  map[store.CrateID]failure
	kept     map[store.CrateID]failure // could not be discarded for a reason of their own

	// Further ones of each.
	alsoFailing, alsoKept, alsoRepaired crowd

	repairs map[store.CrateID]*allowance // that were done, for a node on another machine
	wheres  allowance                    // of asking it again where it has what it was given
	strays  []store.CrateID              // have receipts for leaves that the node has not named
	events  *rate.Limiter                // how much of what it says unasked is heeded
	opens   allowance                    // of its store
	atOnce  bool                         // it is to be opened whatever that says
	lists   allowance                    // of comparing with what it lists, as it asked for
	counts  allowance                    // of asking after all that it has passed on

	pace    pacer
	telling sync.Mutex                 // held while the observer is told of this node's news; guards nothing
	extras  map[store.CrateID]struct{} // what a memory node has a copy of

	// The loops. tried is closed after the first attempt to open.
	ctx     context.Context
	stop    context.CancelFunc
	loops   sync.WaitGroup
	ended   chan struct{} // closed when the loops begun last have ended; nil: none were
	tried   chan struct{}
	wake    [classes + 2]chan struct{}
	opening chan opened // an attempt that has not come back; the keeper's own
	asking  chan answer // a probe that has not come back; the keeper's own
}

const (
	wakeKeeper  = classes
	wakeDiscard = classes + 1
)

// backlog counts what is queued.
type backlog struct{ crates, bytes int64 }

// failure is a crate that does not go to a node for a reason of its own.
type failure struct {
	tries int
	until time.Duration
	err   string
	room  bool // it was refused for space
}

func newNode(r *Router, name string) *node {
	n := &node{r: r, name: name, silent: true, reserving: make(chan struct{}, 1),
		inFlight: make(map[store.CrateID]struct{}), failing: make(map[store.CrateID]failure), kept: make(map[store.CrateID]failure), extras: make(map[store.CrateID]struct{}),
		repairs: make(map[store.CrateID]*allowance), events: rate.NewLimiter(EventRate, EventBurst)}
	n.reserving <- struct{}{}
	for i := range n.wake {
		n.wake[i] = make(chan struct{}, 1)
	}
	return n
}

// rouse wakes one of the node's loops.
func (n *node) rouse(which ...class) {
	for _, w := range which {
		select {
		case n.wake[w] <- struct{}{}:
		default:
		}
	}
}

func (n *node) rouseAll() { n.rouse(small, large, wakeKeeper, wakeDiscard) }

// suspect has the keeper look at a node that failed to answer.
func (n *node) suspect() {
	n.r.mu.Lock()
	silent := n.silent
	n.r.mu.Unlock()
	if !silent {
		n.rouse(wakeKeeper)
	}
}

// online gives the handle of a node that answers, else nil. Called with mu held.
func (n *node) online() *handle {
	if n.silent {
		return nil
	}
	return n.handle
}

// health is how the node is for placement. Called with mu held.
func (n *node) health() place.Health {
	switch {
	case n.leaving:
		return place.Leaving
	case n.distrusted():
		return place.Barred
	case n.lost():
		return place.Gone
	case n.online() != nil && n.refuses() == "":
		return place.Online
	case n.r.clock.Now().Sub(n.seen) > Grace:
		return place.Gone
	}
	return place.Silent
}

// durable is what is known of the leaf. Called with mu held.
func (n *node) durable() bool {
	switch {
	case n.handle != nil:
		return n.handle.durable
	case !n.id.IsZero():
		return n.record.durable
	}
	return false
}

// drawable is what this vault could still draw there. Called with mu held.
func (n *node) drawable() int64 { return n.drawableAt(n.r.clock.Boot()) }

func (n *node) drawableAt(now time.Duration) int64 { return n.status.Free + n.grant.available(now) }

// begin starts the loops of a configured node. Called with mu held.
func (n *node) begin(ctx context.Context) {
	if n.stop != nil {
		return
	}
	ctx, n.stop = context.WithCancel(ctx)
	n.ctx = ctx
	n.tried = make(chan struct{})
	loops := []func(context.Context){n.keep}
	if !n.r.o.ReadOnly {
		if n.spec.Durable {
			loops = append(loops, func(c context.Context) { n.send(c, small) },
				func(c context.Context) { n.send(c, large) }, n.discardLoop)
		} else {
			loops = append(loops, n.extraLoop)
		}
	}
	before, ended := n.ended, make(chan struct{})
	n.ended = ended
	var these sync.WaitGroup
	for _, f := range loops {
		n.loops.Add(1)
		these.Add(1)
		go func() {
			defer n.loops.Done()
			defer these.Done()
			if before != nil {
				<-before // what a keeper or sender has of its own has one owner
			}
			f(ctx)
		}()
	}
	go func() { these.Wait(); close(ended) }()
}

// halt ends the loops and gives up the store; it waits for neither. Called with
// mu held.
func (n *node) halt() {
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
	n.retire()
}

// sleep waits for the pause, a wake-up, or the end.
func (n *node) sleep(ctx context.Context, which class, pause time.Duration) {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-n.wake[which]:
	}
}

// jitter takes up to a quarter off a pause.
func jitter(d time.Duration) time.Duration { return d - time.Duration(rand.Int64N(int64(d)/4+1)) }

// pacer keeps a rate over everything that is sent to a node.
type pacer struct {
	mu   sync.Mutex
	free time.Time // when what was sent so far is paid for
}

// wait pays for n bytes at rate bytes a second.
func (p *pacer) wait(ctx context.Context, n int, rate int64) error {
	if rate <= 0 {
		return nil
	}
	now := time.Now()
	p.mu.Lock()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	due := p.free
	p.mu.Unlock()
	if d := due.Sub(now); d > paceSlack {
		t := time.NewTimer(d - paceSlack)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	return nil
}

// paceSlack is how far a node may run ahead of its rate.
const paceSlack = 100 * time.Millisecond
