package integration

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"stasis/peer/wire"
	"stasis/store"
)

// crookSession is an owner's view of a crook.
type crookSession struct {
	wire.Session
	c *crook
}

func (s crookSession) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	l, rnd := s.c.count(callReserve)
	a := &said{ask: r}
	if l == nil || !l.idle {
		a.shares, a.err = s.Session.Reserve(ctx, r)
	}
	a = s.c.tell(l, rnd, a)
	return a.shares, a.err
}

func (s crookSession) Renew(ctx context.Context, id store.ReservationID) (time.Time, error) {
	l, rnd := s.c.count(callRenew)
	a := &said{}
	a.at, a.err = s.Session.Renew(ctx, id)
	a = s.c.tell(l, rnd, a)
	return a.at, a.err
}

func (s crookSession) Release(ctx context.Context, id store.ReservationID) error {
	l, rnd := s.c.count(callRelease)
	a := &said{}
	if l == nil || !l.idle {
		a.err = s.Session.Release(ctx, id)
	}
	return s.c.tell(l, rnd, a).err
}

// tapped is a source whose bytes are counted and summed.
type tapped struct {
	store.Source
	c *crook
}

func (t tapped) OpenAt(ctx context.Context, offset int64) (io.ReadCloser, error) {
	rc, err := t.Source.OpenAt(ctx, offset)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(rc, counting{t.c}), rc}, nil
}

type counting struct{ c *crook }

func (n counting) Write(p []byte) (int, error) {
	n.c.received.Add(int64(len(p)))
	return len(p), nil
}

// takes notes that a crate comes.
func (c *crook) takes(r *store.PutRequest) {
	c.mu.Lock()
	c.minted[r.Crate] = true
	c.mu.Unlock()
	r.Source = tapped{Source: r.Source, c: c}
}

// waste takes the bytes of a crate from an offset, keeps none, and gives the receipt of one
// who keeps them.
func (s crookSession) waste(ctx context.Context, r store.PutRequest, offset int64) ([]store.Receipt, error) {
	rc, err := r.Source.OpenAt(ctx, offset)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	var h store.Hasher
	if _, err := io.Copy(&h, rc); err != nil {
		return nil, err
	}
	st, err := s.Session.Status(ctx)
	if err != nil {
		return nil, err
	}
	sums := h.Sums()
	s.c.mu.Lock()
	s.c.lost[sums.Root()] = true
	s.c.mu.Unlock()
	return []store.Receipt{{Leaf: st.Leaf, Sums: sums, Time: time.Now()}}, nil
}

func (s crookSession) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	l, rnd := s.c.count(callPut)
	s.c.takes(&r)
	a := &said{crate: r.Crate, size: r.Size}
	switch {
	case l != nil && l.from != nil:
		if a.receipts, a.err = s.waste(ctx, r, l.from(rnd, r.Size)); a.err != nil {
			return nil, a.err
		}
	case l != nil && l.idle:
		if a.receipts, a.err = s.waste(ctx, r, 0); a.err != nil {
			return nil, a.err
		}
	default:
		if a.receipts, a.err = s.Session.Put(ctx, r); a.err != nil {
			return nil, a.err // where its bytes are wanted from, mostly
		}
	}
	a = s.c.tell(l, rnd, a)
	return a.receipts, a.err
}

func (s crookSession) PutBatch(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	lies, rnds := make([]*untruth, len(rs)), make([]*rand.Rand, len(rs))
	var kept []store.PutRequest
	for i := range rs {
		lies[i], rnds[i] = s.c.count(callPut)
		s.c.takes(&rs[i])
		if lies[i] == nil || !lies[i].idle {
			kept = append(kept, rs[i])
		}
	}
	results := s.Session.PutBatch(ctx, kept)
	out := make([]store.PutResult, len(rs))
	for i, r := range rs {
		var one store.PutResult
		if lies[i] == nil || !lies[i].idle {
			one, results = results[0], results[1:]
		} else {
			one.Receipts, one.Err = s.waste(ctx, r, 0)
		}
		a := &said{crate: r.Crate, size: r.Size, receipts: one.Receipts, err: one.Err}
		if a.err == nil {
			a = s.c.tell(lies[i], rnds[i], a)
		}
		out[i] = store.PutResult{Receipts: a.receipts, Err: a.err}
		if out[i].Err == nil && len(out[i].Receipts) == 0 {
			out[i].Receipts = []store.Receipt{}
		}
	}
	l, rnd := s.c.count(callBatch)
	return s.c.tell(l, rnd, &said{results: out}).results
}

func (s crookSession) Open(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	return s.open(ctx, id, offset, length, s.Session.Open)
}

func (s crookSession) OpenUnverified(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	return s.open(ctx, id, offset, length, s.Session.OpenUnverified)
}

func (s crookSession) open(ctx context.Context, id store.CrateID, offset, length int64,
	open func(context.Context, store.CrateID, int64, int64) (io.ReadCloser, error)) (io.ReadCloser, error) {
	l, rnd := s.c.count(callOpen)
	rc, err := open(ctx, id, offset, length)
	a := &said{crate: id, err: err}
	if err == nil {
		a.body = rc
	}
	a = s.c.tell(l, rnd, a)
	if a.err != nil {
		if rc != nil {
			rc.Close()
		}
		return nil, a.err
	}
	if rc == nil {
		return io.NopCloser(a.body), nil
	}
	return struct {
		io.Reader
		io.Closer
	}{a.body, rc}, nil
}

func (s crookSession) Verify(ctx context.Context, id store.CrateID, offset, length int64, nonce store.Digest) (store.Digest, error) {
	l, rnd := s.c.count(callVerify)
	a := &said{crate: id}
	a.digest, a.err = s.Session.Verify(ctx, id, offset, length, nonce)
	a = s.c.tell(l, rnd, a)
	return a.digest, a.err
}

func (s crookSession) Stat(ctx context.Context, id store.CrateID) (store.CrateInfo, error) {
	l, rnd := s.c.count(callStat)
	a := &said{crate: id}
	a.info, a.err = s.Session.Stat(ctx, id)
	a = s.c.tell(l, rnd, a)
	return a.info, a.err
}

func (s crookSession) Discard(ctx context.Context, r store.DiscardRequest) error {
	l, rnd := s.c.count(callDiscard)
	a := &said{crate: r.Crate}
	if l == nil || !l.idle {
		a.err = s.Session.Discard(ctx, r)
	}
	return s.c.tell(l, rnd, a).err
}

func (s crookSession) List(ctx context.Context, cursor []byte) (store.Page, error) {
	l, rnd := s.c.count(callList)
	a := &said{cursor: cursor}
	if a.page, a.err = s.Session.List(ctx, cursor); a.err != nil && l != nil {
		a.page, a.err = store.Page{}, nil // a cursor that a lie made up
	}
	a = s.c.tell(l, rnd, a)
	return a.page, a.err
}

func (s crookSession) Status(ctx context.Context) (store.Status, error) {
	l, rnd := s.c.count(callStatus)
	a := &said{}
	a.status, a.err = s.Session.Status(ctx)
	a = s.c.tell(l, rnd, a)
	return a.status, a.err
}

func (s crookSession) Fence(ctx context.Context, known []store.Token, next store.Token, takeOver bool) error {
	l, rnd := s.c.count(callFence)
	a := &said{err: s.Session.Fence(ctx, known, next, takeOver)}
	return s.c.tell(l, rnd, a).err
}

// Events has events between the true ones that never happened.
func (s crookSession) Events(ctx context.Context, after wire.Cursor, give func(wire.Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	var one sync.Mutex
	last := after
	say := func(e wire.Event) error {
		one.Lock()
		defer one.Unlock()
		if e.Incarnation != "" {
			last = e.Cursor
		}
		return give(e)
	}
	all.Go(func() {
		defer cancel()
		for {
			pause := 50 * time.Millisecond
			p := s.c.plan.Load()
			if p != nil && p.events > 0 {
				pause = p.events
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			if p == nil || p.events == 0 {
				continue
			}
			l, rnd := s.c.count(callEvent)
			if l == nil {
				continue
			}
			one.Lock()
			a := s.c.tell(l, rnd, &said{event: wire.Event{Cursor: last, Kind: wire.EventAlive}})
			one.Unlock()
			if a.err != nil || say(a.event) != nil {
				return
			}
		}
	})
	return s.Session.Events(ctx, after, say)
}
