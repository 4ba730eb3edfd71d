package router

import (
	"time"

	"stasis/store"
)

// grant is the reservation that is held on one node ahead of need. It is plain
// arithmetic, guarded by Router.mu.
//
// What remains of it at the store is room. Of that, promised belongs to plans and
// queued crates. The figures err on the side of less room than there is: a put that
// was under way while the store answered may be taken off twice, until the next
// answer sets it right.
type grant struct {
	id       store.ReservationID
	leaves   []store.NodeID // on which the node has promised it; never changed in place
	bytes    int64          // granted in all; while an answer is outstanding the least it may be
	noted    int64          // what the ledger has of bytes: more, so that it need not follow
	drawn    int64          // charged by crates stored under it; the most it may be
	promised int64          // drawn by Draw, or queued with space, and not yet stored
	resident int64          // of promised, lies in bodies that the node will adopt
	acked    int64          // charges acknowledged since the last question began
	deadline time.Duration
	renewed  time.Duration
	synced   bool          // the store has confirmed the figures since it was opened
	unsure   bool          // drawn may be too much: something was stored since the last answer
	stirred  time.Duration // when something was stored last, by Clock.Boot
}

// room is what the store still keeps for us.
func (g *grant) room() int64 { return max(0, g.bytes-g.drawn) }

// live reports whether the lease lasts long enough to draw on.
func (g *grant) live(now time.Duration) bool {
	return g.synced && now < g.deadline-GrantMargin
}

// available is what may be drawn now without asking anybody.
func (g *grant) available(now time.Duration) int64 {
	if !g.live(now) {
		return 0
	}
	return max(0, g.room()-g.promised)
}

// ask begins a question for so much room and gives the figure for it. What shrinks
// counts as gone from now on, what grows only with the answer.
func (g *grant) ask(room int64) (bytes int64) {
	g.acked = 0
	bytes = g.drawn + room
	g.bytes = min(g.bytes, bytes)
	return bytes
}

// answer takes the store's figures, for a question asked at the given time.
func (g *grant) answer(p promise, asked time.Duration) {
	g.bytes, g.leaves = p.bytes, p.leaves
	g.drawn = p.drawn + g.acked
	g.unsure = g.acked > 0
	g.acked = 0
	g.deadline = asked + GrantLease
	g.renewed = asked
	g.synced = true
}

// stored takes off a crate that the store acknowledged. If the crate was there already,
// which nobody can tell from here, it drew nothing: the next answer sets that right.
func (g *grant) stored(charge int64, now time.Duration) {
	g.unsure, g.stirred = true, now
	g.drawn += charge
	g.acked += charge
}

// restart begins anew under another id: nothing is granted yet, what is promised
// stays promised.
func (g *grant) restart(id store.ReservationID) {
	*g = grant{id: id, promised: g.promised, resident: g.resident}
}

// target is how much a grant should keep unpromised on a node where free bytes
// could be drawn in all.
func target(free int64) int64 {
	t := min(GrantTarget, free/GrantFraction) &^ 4095
	if t < 64<<10 {
		return 0
	}
	return t
}
