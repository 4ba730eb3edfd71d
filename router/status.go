package router

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"stasis/store"
)

// Pending tells what still has to be sent.
func (r *Router) Pending() Pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	var p Pending
	for _, n := range r.nodes {
		for _, q := range n.queue {
			p.Crates += q.crates
			p.Bytes += q.bytes
		}
		if !n.oldest.IsZero() && (p.Oldest.IsZero() || n.oldest.Before(p.Oldest)) {
			p.Oldest = n.oldest
		}
	}
	return p
}

// Busy reports whether crates are being sent or read.
func (r *Router) Busy() bool {
	if r.blocks.coming() > 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.nodes, func(n *node) bool { return len(n.inFlight) > 0 })
}

// NodeName gives the name of the node with an id, or the id itself if no node of the
// vault has it.
func (r *Router) NodeName(id store.NodeID) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.byID[id]; n != nil {
		return n.name
	}
	return id.String()
}

// Status tells of every node, the configured ones first and in order. Nodes that
// answer within StatusLimit are told of with fresh figures, the others as last heard.
func (r *Router) Status(ctx context.Context) []NodeStatus {
	r.refresh(ctx, func(*node) bool { return true })
	return r.tellAll()
}

// StatusNear is Status with fresh figures of this machine's nodes alone. What a peer is asked
// for may make it ask in turn.
func (r *Router) StatusNear(ctx context.Context) []NodeStatus {
	r.refresh(ctx, (*node).near)
	return r.tellAll()
}

// StatusNow is Status with no fresh figures at all.
func (r *Router) StatusNow() []NodeStatus { return r.tellAll() }

func (r *Router) tellAll() []NodeStatus {
	dead := r.countDead()
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]NodeStatus, 0, len(r.nodes))
	devices := make(map[uint64]string)
	for _, n := range r.nodes {
		s := n.tell()
		s.Discards = dead[n.id]
		if d := n.status.Device; d != 0 && n.handle != nil && s.Durable {
			if other := devices[d]; other != "" {
				s.Warning = fmt.Sprintf("it is on the same disk as node %q: if the disk fails, both are gone", other)
			} else {
				devices[d] = n.name
			}
		}
		out = append(out, s)
	}
	return out
}

// Knock has the nodes that are silent looked at now instead of at their next turn, and
// waits for a moment for them: a disk may have been mounted just before.
func (r *Router) Knock(ctx context.Context) {
	for end := r.clock.Boot() + KnockLimit; r.silentNodes() > 0 && r.clock.Boot() < end; {
		t := time.NewTimer(KnockPoll)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// silentNodes wakes the keepers of silent nodes and counts them.
func (r *Router) silentNodes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	silent := 0
	for _, n := range r.nodes {
		if n.configured && n.online() == nil {
			n.atOnce = true
			n.rouse(wakeKeeper)
			silent++
		}
	}
	return silent
}

// refresh asks some nodes for their figures.
func (r *Router) refresh(ctx context.Context, which func(*node) bool) {
	r.mu.Lock()
	nodes := append([]*node(nil), r.nodes...)
	r.mu.Unlock()
	var wg sync.WaitGroup
	for _, n := range nodes {
		r.mu.Lock()
		h := n.online()
		r.mu.Unlock()
		if h == nil || !which(n) {
			continue
		}
		wg.Go(func() {
			s, from, err := n.askStatus(ctx, h, StatusLimit)
			if err == nil {
				s, err = n.plausible(s)
			}
			if err != nil {
				n.suspect()
				return
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if n.handle == h {
				n.stands(s.Position, from)
				n.status, n.seen = s, r.clock.Now()
			}
		})
	}
	wg.Wait()
}

// countDead counts what is to be discarded on each node, some thousands at most.
func (r *Router) countDead() map[store.NodeID]int64 {
	out := make(map[store.NodeID]int64)
	r.mu.Lock()
	nodes := append([]*node(nil), r.nodes...)
	r.mu.Unlock()
	for _, n := range nodes {
		id := n.nodeID()
		pairs, err := r.shared.Scan(deadPrefix(id), after(deadPrefix(id)), 0)
		if err == nil {
			out[id] = int64(len(pairs))
		}
	}
	return out
}

// tell gives what is known of a node. Called with mu held.
func (n *node) tell() NodeStatus {
	s := NodeStatus{Name: n.name, ID: n.id, Kind: n.spec.Kind, Zone: n.spec.Zone, Configured: n.configured,
		Durable: n.durable(), Seen: n.seen, Damage: n.status.Damage,
		Crates: n.status.Crates, Bytes: n.status.Used, Capacity: n.status.Capacity, Device: n.status.Device}
	if !n.configured {
		s.Kind, s.Zone = n.record.kind, n.record.zone
	}
	if n.id.IsZero() {
		s.Durable = n.spec.Durable
	}
	spare := max(0, n.grant.room()-n.grant.promised)
	if !n.grant.synced {
		spare = 0
	}
	s.Free = n.status.Free + spare
	s.Reserved = max(0, n.status.Reserved-spare)
	for _, q := range n.queue {
		s.PendingCrates += q.crates
		s.PendingBytes += q.bytes
	}
	s.State, s.LastError = n.state()
	s.Stuck = s.State == Full && n.stuck
	s.Unknown, s.Uncounted = n.unknown(), n.at.unsure != "" && n.at.quiet
	s.Barred, s.Refuses = n.distrusted(), s.State == Online && n.refuses() != ""
	if h, held := n.held(); held && h.why == "" {
		s.Paused, s.PausedUntil = true, h.until
		if s.State == Online || s.State == Full {
			s.LastError = h.String()
		}
	}
	return s
}

// unknown says why the copies on a node are not known; empty if they are. Called with mu held.
func (n *node) unknown() string {
	if n.at.unsure == "" {
		return ""
	}
	why := "its copies are counted anew and don't count until that is done: " + n.at.unsure
	if n.at.failed != "" {
		why += "; that has failed so far, and is tried again, at once after `stasis resume` with its name: " + n.at.failed
	}
	return why
}

// state is what a node is in one word, and why. Called with mu held.
func (n *node) state() (NodeState, string) {
	switch {
	case n.leaving:
		return Draining, n.lastErr
	case n.online() == nil && n.missing:
		return Missing, n.lastErr
	case n.online() == nil:
		return Unreachable, n.lastErr
	case n.distrusted():
		h, _ := n.held()
		return Unreachable, h.why
	case n.barred != "":
		return Unreachable, n.barred
	case n.short != "":
		return Full, n.short
	case n.refuses() != "":
		return Online, n.refuses()
	case n.at.unsure != "" && !n.at.quiet:
		return Online, n.unknown()
	}
	if n.queue[small].crates+n.queue[large].crates == 0 {
		if n.wrong > 0 {
			return Online, fmt.Sprintf("%d of its answers were wrong since the vault was opened; what it has is made again, and somebody should look at its disk", n.wrong)
		}
		return Online, ""
	}
	if n.lastErr == "" {
		// What keeps a crate from going there is worth saying too.
		newest := time.Duration(-1)
		for _, f := range n.failing {
			if f.until > newest {
				newest = f.until
				n.lastErr = f.err
			}
		}
	}
	return Online, n.lastErr
}
