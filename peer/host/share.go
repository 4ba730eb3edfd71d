package host

import (
	"context"
	"errors"
	"fmt"
	"math"

	"stasis/store"
	"stasis/store/booking"
)

// The part of one owner.
//
// Space that is reserved and not drawn costs its holder nothing, so that without a bound one
// owner could have all of it, and have it for ever by renewing. The bound is a part of what
// would be free without the owner, which is what is free and what it has reserved itself: one
// that were a part of what is free alone would shrink while the owner reserves, and refuse a
// large file to one who has reserved a little. The part is large, three quarters: a vault
// that closes a file of 60 GiB reserves these at once, and is to get them of 100 GiB. Whoever
// comes then has a quarter, of which it may reserve three quarters, draw them, and reserve
// again. What is drawn is not in question here: that is what a quota is for.
//
// An owner who is the only one keeps nothing from anybody, and has all.
//
// A renewal is judged as the promise that it is. So what one owner has reserved gives way, with
// its lease, when the others have come to use the rest, or when there are others at all. What
// a put under way has drawn, it keeps: under a reservation that has ended, too, where it counts
// as reserved until the put ends, and so does all of it until the store has it back.

// mayHold is how much one owner may have of what would be free without it.
func (h *Host) mayHold(free int64) int64 {
	if h.alone() {
		return math.MaxInt64
	}
	return free - free/SparedPart
}

// alone reports whether the host has no more than one owner who may reserve.
func (h *Host) alone() bool {
	n := 0
	for _, o := range h.all() {
		if !o.revoked() {
			n++
		}
	}
	return n <= 1
}

// undrawn is what the owner has reserved and not drawn, one copy of it, but under one id.
// What the store still has of reservations that have ended is a part of it.
func (o *owner) undrawn(but store.ReservationID) (rest, there int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, l := range o.leases {
		if n := l.each(l.bytes - l.drawn); id == but {
			there = n
		} else {
			rest += n
		}
	}
	for l := range o.ended {
		rest += min(l.each(l.bytes-l.drawn), noQuota/2-rest) // those which the store has refused may be of any size
	}
	return rest, there
}

// mayPromise is what the owner may reserve beside what it has, where so much is free.
func (o *owner) mayPromise(free int64) int64 {
	rest, _ := o.undrawn(store.ReservationID{})
	return max(0, min(free, o.h.mayHold(free+rest)-rest))
}

// judge refuses a reservation of so many bytes, or the renewal of one as it is if they are 0,
// with which the owner would have more than its part. Called with promising held. Where the
// store does not answer, it is for the store to refuse.
func (o *owner) judge(ctx context.Context, op string, id store.ReservationID, bytes int64) error {
	if o.h.alone() {
		return nil
	}
	rest, there := o.undrawn(id)
	wants := there
	if bytes > 0 {
		o.mu.Lock()
		if l := o.leases[id]; l != nil {
			bytes = max(0, bytes-l.each(l.drawn))
		}
		o.mu.Unlock()
		wants = bytes
	}
	for try := 0; ; try++ {
		st, err := o.h.store.Status(ctx)
		if err != nil {
			if ctx.Err() != nil || !errors.Is(err, store.Unavailable) {
				return err
			}
			return nil
		}
		may := o.h.mayHold(st.Free + rest + there)
		if wants <= may-rest {
			return nil
		}
		if try > 0 {
			o.want()
			return &store.Error{Kind: store.NoSpace, Op: op, Detail: fmt.Sprintf("needs %s, has %s: of what is free one of several owners gets no more without storing it",
				booking.Size(wants-there), booking.Size(max(0, may-rest-there)))}
		}
		o.h.lapseAll(ctx) // others' leases may be over without anybody having looked
	}
}
