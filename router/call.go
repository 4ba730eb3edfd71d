package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stasis/store"
)

// handle is one opened store. A node that is closed and opened again gets a new
// one.
type handle struct {
	st      store.Store
	durable bool
	adopts  bool
	ctx     context.Context // ends when the handle is given up
	cancel  context.CancelFunc
	reads   chan struct{} // bounds the reads under way, so that other calls find a place
	calls   int           // under way, abandoned ones included; guarded by Router.mu
}

// errNoAnswer marks a call that outlived its bound and was abandoned: it is still
// under way.
var errNoAnswer = errors.New("no answer in time")

// call runs fn on the node's store in a goroutine of its own and waits for it at
// most limit. A call that does not come back by then is abandoned: the answer is
// Unavailable around errNoAnswer, and late, unless nil, gets the result when it comes
// after all. The goroutine is counted until then, and Close reports it.
func call[T any](ctx context.Context, n *node, h *handle, limit time.Duration, op string,
	fn func(context.Context, store.Store) (T, error), late func(T, error)) (T, error) {
	var zero T
	r := n.r
	if h == nil {
		return zero, n.unavailable(op, "it is not there", nil)
	}
	if err := ctx.Err(); err != nil {
		return zero, n.unavailable(op, "", err)
	}
	r.mu.Lock()
	if h.calls >= MaxCalls {
		r.mu.Unlock()
		return zero, n.unavailable(op, fmt.Sprintf("%d calls to it are under way already", MaxCalls), nil)
	}
	h.calls++
	type result struct {
		v   T
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(h.ctx, cancel)()
	done := make(chan result)
	gone := make(chan struct{})
	r.background(func() {
		v, err := fn(ctx, h.st)
		r.mu.Lock()
		h.calls--
		r.mu.Unlock()
		select {
		case done <- result{v, err}:
		case <-gone:
			if late != nil {
				late(v, err)
			}
		}
	})
	r.mu.Unlock()
	select {
	case res := <-done:
		return res.v, res.err
	case <-ctx.Done():
	}
	// A store that heeds its context answers now: its own words are better than ours.
	patience := time.NewTimer(callPatience)
	defer patience.Stop()
	select {
	case res := <-done:
		return res.v, res.err
	case <-patience.C:
		close(gone)
		return zero, n.unavailable(op, "no answer within "+limit.String(), errors.Join(errNoAnswer, ctx.Err()))
	}
}

// callPatience is what a call may take to heed the end of its context.
const callPatience = 20 * time.Millisecond

// silentError reports whether an error says that the node did not answer, rather
// than what it answered.
func silentError(err error) bool { return store.KindOf(err) == store.Unavailable }

// wholeError reports whether an error says that the node fails as a whole, not for a reason of one
// crate's.
func wholeError(err error) bool {
	k := store.KindOf(err)
	return k == store.Unavailable || k == store.Denied
}

// background runs f in a goroutine that Close waits for, within its bound. Called
// with mu held.
func (r *Router) background(f func()) {
	r.running++
	go func() {
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.running--
			r.settled()
		}()
		f()
	}()
}

// settled wakes who waits for the calls to end. Called with mu held.
func (r *Router) settled() {
	if r.running == 0 {
		for _, c := range r.quiet {
			close(c)
		}
		r.quiet = nil
	}
}

// waitCalls waits until no call is under way, or ctx ends; it gives how many are.
func (r *Router) waitCalls(ctx context.Context) int {
	r.mu.Lock()
	if r.running == 0 {
		r.mu.Unlock()
		return 0
	}
	c := make(chan struct{})
	r.quiet = append(r.quiet, c)
	r.mu.Unlock()
	select {
	case <-c:
		return 0
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}
