package router

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"stasis/router/place"
	"stasis/store"
	"stasis/store/booking"
)

// Draw promises the space of one content on as many nodes as its policy wants. What
// the grants cover is a matter of memory alone; a node whose grant is too small is
// asked, within ReserveLimit, and one that does not answer gets its copy later.
//
// NoSpace, or Quota, if so many nodes refused that fewer than the policy's least are
// left. On any error nothing is held any more, q.Held included unless q.Keep.
func (r *Router) Draw(ctx context.Context, q DrawRequest) (Plan, error) {
	if q.Bytes <= 0 || q.Resident < 0 || q.Resident > q.Bytes {
		if !q.Keep {
			r.Return(q.Held)
		}
		return Plan{}, &store.Error{Kind: store.Invalid, Op: opDraw, Detail: fmt.Sprintf("%d bytes, %d of them resident", q.Bytes, q.Resident)}
	}
	if q.Bytes <= store.Charge(SmallCrate) {
		q.Resident = 0 // it is not going to be adopted
	}
	d := draw{r: r, q: q}
	d.want = place.Want{Copies: max(1, q.Policy.Copies), Zones: q.Policy.Zones, Bytes: q.Bytes, Avoid: q.Policy.Avoid, Exclude: q.Exclude}
	return d.run(ctx)
}

const opDraw = "reserve space"

// draw is one Draw under way. The parts of places, which Choose sees, and of shares,
// which are ours, belong together by index.
type draw struct {
	r       *Router
	q       DrawRequest
	want    place.Want
	places  []place.Node
	shares  []share
	now     time.Duration
	until   time.Time  // when nodes are not waited for any more; zero: none was asked yet
	refused store.Kind // the best of what refusing nodes said; 0: none refused
}

// share is what a draw has taken at one node.
type share struct {
	n        *node
	bytes    int64 // promised
	resident int64
	held     Target // what q.Held had there
	asked    int64  // by how much the grant grew for it
}

func (d *draw) run(ctx context.Context) (Plan, error) {
	r := d.r
	r.mu.Lock()
	if r.closed || r.o.ReadOnly {
		if !d.q.Keep {
			r.giveBack(d.q.Held)
		}
		r.mu.Unlock()
		if r.o.ReadOnly {
			return Plan{}, &store.Error{Kind: store.Denied, Op: opDraw, Detail: "the vault is open for reading only"}
		}
		return Plan{}, errClosed(opDraw)
	}
	d.gather()
	for {
		choice := place.Choose(d.places, d.want)
		asks, mute := d.take(choice)
		if mute {
			continue
		}
		if len(asks) > 0 {
			r.mu.Unlock()
			d.ask(ctx, asks)
			r.mu.Lock()
			d.now = r.clock.Boot()
			if err := ctx.Err(); err != nil {
				return Plan{}, d.fail(&store.Error{Kind: store.Unavailable, Op: opDraw, Err: err})
			}
			continue
		}
		least := min(max(1, d.q.Policy.Least), d.want.Copies)
		if d.refused != 0 && len(choice.Chosen) < least {
			return Plan{}, d.fail(&store.Error{Kind: d.refused, Op: opDraw, Detail: choice.Short,
				Hint: "free some space, add a node, or want fewer copies"})
		}
		if err := d.wanting(choice); err != nil {
			return Plan{}, d.fail(err)
		}
		plan := d.finish(choice)
		r.mu.Unlock()
		return plan, nil
	}
}

// gather makes the candidates, with what the content holds there already. Called with
// mu held.
func (d *draw) gather() {
	r := d.r
	d.places = make([]place.Node, 0, len(r.nodes))
	d.shares = make([]share, 0, len(r.nodes))
	held := d.q.Held.Targets
	d.now = r.clock.Boot()
	for _, n := range r.nodes {
		if !n.configured || n.id.IsZero() {
			continue
		}
		s := share{n: n}
		for i := range held {
			if held[i].Node == n.id && held[i].Reserved {
				s.bytes, s.resident, s.held = held[i].Bytes, held[i].Resident, held[i]
			}
		}
		p := place.Node{ID: n.id, Name: n.name, Zone: n.spec.Zone, Durable: n.durable(), Health: n.health(),
			Free: n.drawableAt(d.now), Total: n.status.Capacity, Held: s.bytes}
		if h := n.online(); h != nil && h.adopts && d.q.Resident > 0 {
			p.Adopts = true
			p.Free += d.q.Resident
		}
		d.places = append(d.places, p)
		d.shares = append(d.shares, s)
	}
	if !d.q.Keep {
		d.partWith()
	}
}

// partWith gives back what the content holds at nodes that are none any more. Called with mu
// held.
func (d *draw) partWith() {
	for _, t := range d.q.Held.Targets {
		if !slices.ContainsFunc(d.shares, func(s share) bool { return s.n.id == t.Node }) {
			d.r.giveBackTarget(t)
		}
	}
}

// wanting is the error of a choice that has fewer targets than q.Places, or none that has
// promised anything. Called with mu held.
func (d *draw) wanting(c place.Choice) error {
	switch {
	case d.q.Places == 0:
		return nil
	case len(c.Chosen) < d.q.Places:
		return &store.Error{Kind: store.NoSpace, Op: opDraw, Detail: c.Short, Hint: "free some space, add a node, or want fewer copies"}
	case !slices.ContainsFunc(c.Chosen, func(i int) bool { return d.shares[i].bytes >= d.q.Bytes }):
		return &store.Error{Kind: store.Unavailable, Op: opDraw, Detail: "no node that has room answers"}
	}
	return nil
}

// take takes from the grants what they cover and gives the candidates that must be
// asked. mute: one of those turned out to be silent, so that the choice is to be made
// anew. Called with mu held.
func (d *draw) take(c place.Choice) (asks []int, mute bool) {
	d.adopter(c)
	now := d.now
	for _, i := range c.Chosen {
		s := &d.shares[i]
		if d.places[i].Health != place.Online {
			continue
		}
		g := &s.n.grant
		if need := d.q.Bytes - s.bytes; need > 0 {
			if g.available(now) < need && s.n.deaf(now) {
				d.places[i].Health = place.Silent
				mute = true
				continue
			}
			if g.available(now) < need {
				asks = append(asks, i)
				continue
			}
			g.promised += need
			s.bytes += need
			d.places[i].Held = s.bytes
		}
		if g.available(now) < target(s.n.drawableAt(now))/2 {
			s.n.refill(now)
		}
	}
	return asks, mute
}

// adopter has the first chosen node that adopts take over the body, and no other.
// Called with mu held.
func (d *draw) adopter(c place.Choice) {
	adopts := -1
	if d.q.Resident > 0 {
		if k := slices.IndexFunc(c.Chosen, func(i int) bool { return d.places[i].Adopts && d.places[i].Health == place.Online }); k >= 0 {
			adopts = c.Chosen[k]
		}
	}
	for i := range d.shares {
		want := int64(0)
		if i == adopts {
			want = d.q.Resident
		}
		s := &d.shares[i]
		s.n.grant.resident += want - s.resident
		s.resident = want
	}
}

// ask asks nodes to grow the grant, all at the same time.
func (d *draw) ask(ctx context.Context, asks []int) {
	if d.until.IsZero() {
		d.until = time.Now().Add(ReserveLimit)
	}
	fair := time.Until(d.until) > AnswerLimit
	ctx, cancel := context.WithDeadline(ctx, d.until)
	defer cancel()
	errs := make([]error, len(asks))
	var wg sync.WaitGroup
	for k, i := range asks {
		wg.Go(func() {
			s := &d.shares[i]
			need := d.q.Bytes - s.bytes
			var asked int64
			asked, errs[k] = s.n.grow(ctx, ReserveLimit, need)
			s.asked += asked
			if errs[k] == nil {
				s.bytes += need
			}
		})
	}
	wg.Wait()
	d.r.mu.Lock()
	defer d.r.mu.Unlock()
	for k, i := range asks {
		d.heed(i, errs[k], fair)
	}
}

// heed takes a node's answer; fair says that it had the time to give one. Called with mu
// held.
func (d *draw) heed(i int, err error, fair bool) {
	s, p := &d.shares[i], &d.places[i]
	p.Held = s.bytes
	switch kind := store.KindOf(err); {
	case err == nil:
		s.n.short = ""
	case kind == store.NoSpace, kind == store.Quota:
		p.Refused = "has no room for " + size(d.q.Bytes)
		if kind == store.Quota {
			p.Refused = "refused " + size(d.q.Bytes) + ": over quota"
		}
		s.n.refused(p.Refused)
		if d.refused == 0 || kind == store.NoSpace {
			d.refused = kind
		}
	default:
		// It may have the space: the copy is queued, and reserved when it answers.
		p.Health = place.Silent
		if fair {
			s.n.hush()
		}
	}
}

// hush has draws not ask a node for a while, and the keeper look at it. Called with mu held.
func (n *node) hush() {
	n.mutes++
	n.mute = n.r.clock.Boot() + backoff(MuteFor, MuteMost, n.mutes)
	n.rouse(wakeKeeper)
}

// deaf reports whether a question about space would most likely be in vain: an earlier one
// was, or is waiting. Called with mu held.
func (n *node) deaf(now time.Duration) bool {
	return now < n.mute || n.question != 0 && now-n.question > AnswerLimit
}

// finish makes the plan and gives back what it does not need. Called with mu held.
func (d *draw) finish(c place.Choice) Plan {
	plan := Plan{Wanted: d.want.Copies + len(d.q.Exclude), Short: c.Short, Targets: make([]Target, 0, len(c.Chosen))}
	var waiting []string
	for _, i := range c.Chosen {
		s := &d.shares[i]
		t := Target{Node: d.places[i].ID, Bytes: d.q.Bytes}
		if s.bytes >= d.q.Bytes {
			t.Reserved, t.Resident = true, s.resident
			s.n.grant.promised -= s.bytes - d.q.Bytes
			s.bytes, s.resident = 0, 0 // the plan's now
		}
		if d.places[i].Health != place.Online {
			why := "does not answer"
			if s.n.refuses() != "" {
				why = "takes nothing at the moment"
			}
			waiting = append(waiting, fmt.Sprintf("node %q %s", d.places[i].Name, why))
		}
		plan.Targets = append(plan.Targets, t)
	}
	switch len(waiting) {
	case 0:
	case 1:
		plan.Waiting = waiting[0] + "; its copy is made when it is back"
	default:
		plan.Waiting = strings.Join(waiting, ", ") + "; their copies are made when they are back"
	}
	if d.q.Keep {
		d.partWith()
	}
	d.release()
	return plan
}

// fail gives everything back, and shrinks the grants that had grown. Called with mu
// held, which it gives up.
func (d *draw) fail(err error) error {
	if d.q.Keep {
		for i := range d.shares {
			s := &d.shares[i]
			s.n.grant.promised += s.held.Bytes
			s.n.grant.resident += s.held.Resident
		}
	}
	d.release()
	d.r.mu.Unlock()
	ctx, cancel := context.WithTimeout(d.r.ctx, ReserveLimit)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range d.shares {
		if s.asked > 0 {
			wg.Go(func() {
				if e := s.n.shrink(ctx, s.asked); e != nil {
					// The keeper shrinks it soon, or it lapses.
					d.r.log.WithField("node", s.n.name).WithError(e).Debug("space of a failed draw not given back yet")
				}
			})
		}
	}
	wg.Wait()
	return err
}

// release gives back what the shares still hold. Called with mu held.
func (d *draw) release() {
	for i := range d.shares {
		s := &d.shares[i]
		s.n.grant.promised -= s.bytes
		s.n.grant.resident -= s.resident
		s.bytes, s.resident = 0, 0
	}
}

// Return gives back what a plan holds.
func (r *Router) Return(p Plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.giveBack(p)
}

// giveBack is Return. Called with mu held.
func (r *Router) giveBack(p Plan) {
	for _, t := range p.Targets {
		r.giveBackTarget(t)
	}
}

func (r *Router) giveBackTarget(t Target) {
	if n := r.byID[t.Node]; n != nil && t.Reserved {
		n.grant.promised -= t.Bytes
		n.grant.resident -= t.Resident
	}
}

// refused notes that the node had no room for something, so that it is looked at when
// it has more. Called with mu held.
func (n *node) refused(why string) {
	n.short = why
	n.wantRoom = max(1, n.drawable())
}

// refill has the grant tended in the background, so that draws need not wait for the node.
// It does not wait for the keeper, who may be waiting for the node. Called with mu held.
func (n *node) refill(now time.Duration) {
	if now-n.refilled < RefillEvery || now < n.mute {
		return
	}
	n.refilled = now
	n.tendSoon()
}

// size writes a number of bytes for people.
func size(n int64) string { return booking.Size(n) }
