package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"stasis/store"
)

// fetch is one block on its way from the nodes: they are asked one after the other, and
// one that dawdles is joined by the next.
type fetch struct {
	r       *Router
	m       *Manifest
	block   int64
	want    *store.Digest // nil: nobody has recorded it yet
	from    []candidate
	answers chan found
	on      *fetching // who waits for it; nil: nobody but the caller
	begun   time.Time
	asked   []*asking
	open    int // of asked, have not answered
	errs    []error
}

// asking is one node being asked. Times count from the beginning of the fetch.
type asking struct {
	candidate
	begun time.Duration
	moved atomic.Int64 // when its last bytes came, in nanoseconds; at first as begun
	late  bool         // it was found to dawdle, or has answered
	over  bool         // it has answered
}

// found is what one node answered.
type found struct {
	*asking
	data []byte
	err  error
}

// fetch gets a block from the nodes. not, unless nil, is left out; on, unless nil, is who
// waits for it.
func (r *Router) fetch(ctx context.Context, m *Manifest, i int64, not *node, on *fetching) ([]byte, error) {
	f := fetch{r: r, m: m, block: i, on: on, begun: time.Now()}
	if m.Known(store.Plain) {
		d, err := r.digest(m, i)
		if err != nil {
			return nil, err
		}
		f.want = &d
	}
	f.from = r.candidates(m, not)
	f.answers = make(chan found, len(f.from))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return f.run(ctx)
}

func (f *fetch) run(ctx context.Context) ([]byte, error) {
	for f.next(ctx); f.open > 0; {
		if f.on != nil {
			f.on.busy.Store(f.busy())
		}
		t := time.NewTimer(f.patience())
		select {
		case a := <-f.answers:
			t.Stop()
			f.open--
			a.late, a.over = true, true // nothing more is expected of it
			if a.err == nil {
				return a.data, nil
			}
			f.errs = append(f.errs, fmt.Errorf("node %q: %w", a.n.name, a.err))
			if ctx.Err() == nil {
				f.r.blame(a.n, a.err)
			}
			f.next(ctx)
		case <-t.C:
			f.hedge(ctx)
			if f.stuck() {
				return nil, f.late(errNoAnswer)
			}
		case <-ctx.Done():
			t.Stop()
			return nil, f.late(ctx.Err())
		}
	}
	return nil, f.r.unread(f.m, f.errs)
}

func (f *fetch) late(why error) error {
	errs := append(f.errs, why)
	return &store.Error{Kind: store.Unavailable, Op: opRead, Subject: f.m.Crate.String(), Detail: "no node gave it in time", Err: errors.Join(errs...)}
}

// next asks the next node, if there is one left.
func (f *fetch) next(ctx context.Context) {
	if len(f.asked) == len(f.from) {
		return
	}
	a := &asking{candidate: f.from[len(f.asked)], begun: time.Since(f.begun)}
	a.moved.Store(int64(a.begun))
	f.asked = append(f.asked, a)
	f.open++
	f.r.askFor(ctx, f, a)
}

// pause is how long a node may let one wait without a byte.
func (f *fetch) pause() time.Duration { return pauseFor(len(f.from)) }

// pauseFor is that, where so many nodes may have to be waited for in turn.
func pauseFor(nodes int) time.Duration {
	return min(HedgeAfter, ReadLimit/time.Duration(nodes+1))
}

// due is when the node asked last has to have answered, from the beginning.
func (f *fetch) due(a *asking) time.Duration {
	return min(time.Duration(a.moved.Load())+f.pause(), a.begun+HedgeBlock)
}

// patience is until when there is nothing to be decided.
func (f *fetch) patience() time.Duration {
	now := time.Since(f.begun)
	last := f.asked[len(f.asked)-1]
	if !last.late {
		return max(f.due(last)-now, time.Millisecond)
	}
	end := ReadLimit
	for _, a := range f.asked {
		end = max(end, time.Duration(a.moved.Load())+HedgeAfter)
	}
	if end < now {
		return NearLook
	}
	return max(end-now, time.Millisecond)
}

// hedge asks the next node if the one asked last dawdles.
func (f *fetch) hedge(ctx context.Context) {
	last := f.asked[len(f.asked)-1]
	if last.late || time.Since(f.begun) < f.due(last) {
		return
	}
	last.late = true
	f.r.dawdles(last.n)
	f.next(ctx)
}

// stuck reports whether nobody has anything to expect any more: nodes that go on sending
// are waited for, for who asks again, and so is a local node that is busy.
func (f *fetch) stuck() bool {
	now := time.Since(f.begun)
	for _, a := range f.asked {
		if now < ReadLimit || !a.late || now < time.Duration(a.moved.Load())+HedgeAfter {
			return false
		}
	}
	return !f.busy()
}

// busy reports whether a local node that answers when it is asked how it is has this
// question left to answer: its disk is slow, and not away.
func (f *fetch) busy() bool {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	for _, a := range f.asked {
		if !a.over && a.n.online() != nil && local(a.n.spec.Kind) {
			return true
		}
	}
	return false
}

// candidate is a node to be asked for a block.
type candidate struct {
	n        *node
	h        *handle
	rank     int
	far      int  // how long it takes, in powers of two
	verified bool // the node has said that it has it
}

// candidates orders the nodes that may have a crate: those that answer first, of them
// the local ones, then the nearest; then the slow and the silent.
func (r *Router) candidates(m *Manifest, not *node) []candidate {
	known := m.Known(store.Plain)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Boot()
	var out []candidate
	for _, n := range r.nodes {
		if n == not || n.handle == nil || !n.configured {
			continue
		}
		c := candidate{n: n, h: n.handle, far: n.meter.far(now)}
		d := m.Destination(n.id)
		_, extra := n.extras[m.Crate]
		switch {
		case d != nil && d.State == Verified:
			c.verified = true
		case extra && known:
		case d != nil && d.State == Planned && !m.Placed() && local(n.spec.Kind):
			// A body may have been adopted just before a crash, and its store has the checksums
			// that the ledger may never have got.
		case d != nil && d.State == Damaged && known:
			c.rank = 8 // a right block of it is better than none
		default:
			continue
		}
		if !local(n.spec.Kind) {
			c.rank++
		}
		if n.slow > now {
			c.rank += 2
		}
		if n.silent || n.distrusted() {
			c.rank += 4
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b candidate) int {
		if a.rank != b.rank {
			return a.rank - b.rank
		}
		return a.far - b.far
	})
	return out[:min(len(out), ReadSources)]
}

// askFor asks one node for the block; the answer comes into f.answers.
func (r *Router) askFor(ctx context.Context, f *fetch, a *asking) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.background(func() {
		data, err := r.askNode(ctx, f, a)
		if err != nil && a.verified && ctx.Err() == nil {
			r.doubt(a.n, f.m, err)
		}
		f.answers <- found{a, data, err}
	})
}

func (r *Router) askNode(ctx context.Context, f *fetch, a *asking) ([]byte, error) {
	id, i := f.m.Crate, f.block
	leave, err := a.h.enter(ctx, a.n)
	if err != nil {
		return nil, err
	}
	var began atomic.Bool
	s := a.n.clockIn()
	data, err := call(ctx, a.n, a.h, FetchLimit, opRead, func(ctx context.Context, st store.Store) ([]byte, error) {
		began.Store(true)
		defer leave() // not before it is over, be it abandoned or not
		length := store.BlockLen(f.m.Size, i)
		var rc io.ReadCloser
		var err error
		if f.want != nil {
			rc, err = store.OpenUnverified(ctx, st, id, i*store.BlockSize, length)
		} else {
			rc, err = st.Open(ctx, id, i*store.BlockSize, length)
		}
		if err != nil {
			return nil, err
		}
		stop := context.AfterFunc(ctx, func() { _ = rc.Close() }) // ends a read that hangs
		defer func() { stop(); _ = rc.Close() }()
		data := make([]byte, length)
		moving := movingReader{rc, func() { s.bytes(); a.moved.Store(int64(time.Since(f.begun))) }}
		if _, err := io.ReadFull(moving, data); err != nil {
			return nil, brokeOff(id, err)
		}
		return data, nil
	}, nil)
	if !began.Load() {
		leave()
	}
	a.n.clockOut(&s, int64(len(data)), err)
	if err != nil {
		return nil, err
	}
	if f.want != nil && store.SumBlock(data) != *f.want {
		return nil, wrongBlock(id, i)
	}
	return data, nil
}

// movingReader tells of bytes that came.
type movingReader struct {
	io.Reader
	moved func()
}

func (m movingReader) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if n > 0 {
		m.moved()
	}
	return n, err
}

// blame has a node asked last for a while that does not answer or, being far away, lies:
// each block would cost the way there.
func (r *Router) blame(n *node, err error) {
	if silentError(err) || !n.near() && store.KindOf(err) == store.Corrupt {
		r.dawdles(n)
	}
}

// dawdles has a node asked last for a while.
func (r *Router) dawdles(n *node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.slow = r.clock.Boot() + SlowFor
	n.rouse(wakeKeeper)
}

// unread is the error when no node gave a block.
func (r *Router) unread(m *Manifest, errs []error) error {
	missing, wrong := 0, 0
	for _, err := range errs {
		switch store.KindOf(err) {
		case store.NotFound:
			missing++
		case store.Corrupt:
			wrong++
		}
	}
	had, damaged := 0, 0
	for _, d := range m.Destinations {
		switch {
		case d.State == Verified && d.Durable:
			had++
		case d.State == Damaged:
			damaged++
		}
	}
	e := &store.Error{Kind: store.Unavailable, Op: opRead, Subject: m.Crate.String(), Err: errors.Join(errs...)}
	switch {
	case len(errs) == 0 && had > 0:
		e.Detail, e.Hint = "no node that has a copy answers", "see `stasis status`"
	case had == 0 && damaged > 0 && damaged <= missing+wrong:
		e.Kind, e.Detail = store.Corrupt, "every copy is damaged"
	case had == 0 && damaged > 0:
		e.Detail = "every copy that answers is damaged"
	case had == 0:
		e.Detail = "no node has a copy yet"
	case missing == len(errs) && missing >= had:
		e.Kind = store.NotFound
	case missing+wrong == len(errs) && missing+wrong >= had:
		e.Kind = store.Corrupt
	}
	return e
}
