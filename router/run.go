package router

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"stasis/store"
)

// run is several blocks that follow one another, on their way in one stream: what a reader
// in order is going to want, at less cost than a question for each. It asks one node, and
// waits for it no longer than the fetch of a block does; the blocks that it has not brought
// when it ends are fetched each by itself.
type run struct {
	r     *Router
	m     *Manifest
	first int64 // block
	under []*fetching
	keep  bool // what came goes into the cache on disk
	// The block that is coming: when its first byte was due to be sent, and when bytes of the
	// run came last; both after begun, in nanoseconds.
	begun       time.Time
	block, last atomic.Int64

	mu   sync.Mutex
	came int  // blocks
	over bool // no more may come
}

// runAhead fetches blocks from first up to but not end that nobody has, in runs of so many.
func (r *Router) runAhead(m *Manifest, first, end, most int64) {
	var under []*fetching
	from := first
	flush := func(next int64) {
		switch len(under) {
		case 0:
		case 1:
			r.load(m, blockKey{Crate: m.Crate, Block: from}, under[0])
		default:
			r.loadRun(m, from, under)
		}
		under, from = nil, next
	}
	for i := first; i < end; i++ {
		k := blockKey{Crate: m.Crate, Block: i}
		_, f, mine := r.blocks.begin(k)
		if !mine {
			flush(i + 1)
			continue
		}
		if r.disk != nil && r.disk.Has(k) {
			r.load(m, k, f)
			flush(i + 1)
			continue
		}
		if under = append(under, f); int64(len(under)) == most {
			flush(i + 1)
		}
	}
	flush(end)
}

// loadRun fetches blocks in the background, for all who wait for them.
func (r *Router) loadRun(m *Manifest, first int64, under []*fetching) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.background(func() {
		q := &run{r: r, m: m, first: first, under: under, keep: r.disk != nil && m.Known(store.Plain) && !r.near(m), begun: time.Now()}
		ctx, cancel := context.WithTimeout(r.ctx, FetchLimit)
		defer cancel()
		q.stream(ctx)
		for i := q.end(); i < len(under); i++ {
			r.load(m, q.key(i), under[i])
		}
	})
}

func (q *run) key(i int) blockKey { return blockKey{Crate: q.m.Crate, Block: q.first + int64(i)} }

// end has no further blocks come, and gives how many have.
func (q *run) end() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = true
	return q.came
}

// stream asks the node that is asked first for a block too.
func (q *run) stream(ctx context.Context) {
	r := q.r
	from := r.candidates(q.m, nil)
	if len(from) == 0 || !q.m.Known(store.Plain) {
		return
	}
	c := from[0]
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var dawdles atomic.Bool
	pause := pauseFor(len(from))
	var watch *time.Timer
	made := make(chan struct{})
	watch = time.AfterFunc(pause, func() {
		<-made
		due := min(time.Duration(q.last.Load())+pause, time.Duration(q.block.Load())+HedgeBlock)
		if wait := due - time.Since(q.begun); wait > 0 {
			watch.Reset(wait)
			return
		}
		dawdles.Store(true)
		cancel()
	})
	close(made)
	defer watch.Stop()
	err := q.ask(ctx, c)
	switch {
	case err == nil:
	case dawdles.Load():
		r.dawdles(c.n)
	case ctx.Err() == nil:
		r.blame(c.n, err)
		if c.verified {
			r.doubt(c.n, q.m, err)
		}
	}
}

// ask reads the blocks from one node, as far as they come.
func (q *run) ask(ctx context.Context, c candidate) error {
	leave, err := c.h.enter(ctx, c.n)
	if err != nil {
		return err
	}
	s := c.n.clockIn()
	var began atomic.Bool
	_, err = call(ctx, c.n, c.h, FetchLimit, opRead, func(ctx context.Context, st store.Store) (struct{}, error) {
		began.Store(true)
		defer leave() // not before it is over, be it abandoned or not
		return struct{}{}, q.read(ctx, c.n, &s, st)
	}, nil)
	if !began.Load() {
		leave()
	}
	c.n.clockOff()
	return err
}

func (q *run) read(ctx context.Context, n *node, s *stopwatch, st store.Store) error {
	start := q.first * store.BlockSize
	end := min(start+int64(len(q.under))*store.BlockSize, q.m.Size)
	rc, err := store.OpenUnverified(ctx, st, q.m.Crate, start, end-start)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = rc.Close() }) // ends a read that hangs
	defer func() { stop(); _ = rc.Close() }()
	moving := movingReader{rc, func() { s.bytes(); q.last.Store(int64(time.Since(q.begun))) }}
	var digests []store.Digest
	for i := range q.under {
		block := q.first + int64(i)
		if len(digests) == 0 {
			if digests, err = q.r.digestsFrom(q.m, block); err != nil {
				return err
			}
		}
		want := digests[0]
		digests = digests[1:]
		data := make([]byte, store.BlockLen(q.m.Size, block))
		if _, err := io.ReadFull(moving, data); err != nil {
			return brokeOff(q.m.Crate, err)
		}
		if store.SumBlock(data) != want {
			return wrongBlock(q.m.Crate, block)
		}
		if !q.give(i, data) {
			return nil
		}
		n.clockBlock(s, time.Since(q.begun), int64(len(data)))
		q.block.Store(int64(time.Since(q.begun)))
	}
	return nil
}

// give hands a block to who waits for it; false if the run has ended meanwhile.
func (q *run) give(i int, data []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over {
		return false
	}
	q.came++
	q.r.blocks.end(q.key(i), q.under[i], data, nil)
	if q.keep {
		q.r.disk.Put(q.key(i), data)
	}
	return true
}

// enter takes one of the places for reads at a node.
func (h *handle) enter(ctx context.Context, n *node) (leave func(), err error) {
	select {
	case h.reads <- struct{}{}:
		return sync.OnceFunc(func() { <-h.reads }), nil
	case <-ctx.Done():
		return nil, n.unavailable(opRead, fmt.Sprintf("%d reads of it are under way already", MaxReads), ctx.Err())
	}
}

func brokeOff(id store.CrateID, err error) error {
	if store.KindOf(err) != 0 {
		return err
	}
	return &store.Error{Kind: store.Unavailable, Op: opRead, Subject: id.String(), Detail: "its stream broke off", Err: err}
}

func wrongBlock(id store.CrateID, block int64) error {
	return &store.Error{Kind: store.Corrupt, Op: opRead, Subject: id.String(), Detail: fmt.Sprintf("block %d is wrong", block)}
}
