package storetest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"

	"stasis/store"
)

func testReopen(e *env) {
	r := e.reserve(8 << 20)
	var cs []Crate
	for _, n := range edges {
		if c := e.Crate(n); n < 2*mib {
			e.put(r, c)
			cs = append(cs, c)
		}
	}
	gone := cs[0]
	if err := e.s.Discard(e.ctx, store.DiscardRequest{Crate: gone.ID}); err != nil {
		e.Fatal(err)
	}
	released := e.reserve(1 << 20)
	if err := e.s.Release(e.ctx, released); err != nil {
		e.Fatal(err)
	}
	was, leaf := e.account(), e.status().Leaf
	shares, err := e.s.Reserve(e.ctx, store.ReserveRequest{ID: r, Bytes: 8 << 20})
	if err != nil {
		e.Fatal(err)
	}
	for range 2 {
		e.reopen()
		e.unchanged(was)
		if got := e.status().Leaf; got != leaf {
			e.Errorf("the leaf id changed from %s to %s", leaf, got)
		}
		e.lacks(gone.ID)
		for _, c := range cs[1:] {
			e.has(c)
		}
		again, err := e.s.Reserve(e.ctx, store.ReserveRequest{ID: r, Bytes: 8 << 20})
		if err != nil || again[0].Drawn != shares[0].Drawn || again[0].Bytes != shares[0].Bytes {
			e.Errorf("the reservation came back as %+v, %v; was %+v", again, err, shares)
		}
		_, err = e.s.Renew(e.ctx, released)
		e.fails(err, store.NotFound)
	}
	e.put(r, e.Crate(mib))
}

func testDiscard(e *env) {
	empty := e.account()
	r, cs := e.crates(3*mib+1, 100)
	if err := e.s.Release(e.ctx, r); err != nil {
		e.Fatal(err)
	}
	c := cs[0]
	rc, err := e.s.Open(e.ctx, c.ID, 0, -1)
	if err != nil {
		e.Fatal(err)
	}
	head := make([]byte, 10)
	if _, err := io.ReadFull(rc, head); err != nil {
		e.Fatal(err)
	}
	for range 2 {
		if err := e.s.Discard(e.ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
			e.Fatalf("discard: %v", err)
		}
		e.lacks(c.ID)
	}
	// A reader that is under way gets right bytes, or an error, never wrong ones.
	rest, err := io.ReadAll(rc)
	if err == nil && len(rest) != len(c.Data)-10 {
		e.Errorf("a reader of a discarded crate ended early and without error, after %d bytes", len(rest)+10)
	}
	if !bytes.Equal(append(head, rest...), c.Data[:len(rest)+10]) {
		e.Error("a reader of a discarded crate got wrong bytes")
	}
	if err := rc.Close(); err != nil {
		e.Errorf("close: %v", err)
	}
	e.has(cs[1])
	e.put(e.reserve(c.Charge()), c) // the same id with the same bytes may come back
	e.has(c)
	for _, c := range cs {
		if err := e.s.Discard(e.ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
			e.Fatal(err)
		}
	}
	e.unchanged(empty)
}

func testList(e *env) {
	if got := e.list(); len(got) != 0 {
		e.Errorf("an empty store lists %d crates", len(got))
	}
	n := 40
	if Soak() {
		n = store.MaxPage*2 + 3
	} else if _, ok := e.s.(store.Batcher); ok {
		n = store.MaxPage + 3
	}
	r := e.reserve(int64(n) * store.Charge(1))
	want := make([]store.CrateInfo, n)
	reqs := make([]store.PutRequest, n)
	for i := range n {
		c := e.Crate(1 + e.IntN(100))
		reqs[i] = c.Put(r)
		want[i] = store.CrateInfo{ID: c.ID, Size: int64(len(c.Data)), Root: c.Root()}
	}
	e.putAll(reqs)
	slices.SortFunc(want, func(a, b store.CrateInfo) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	if got := e.list(); !slices.Equal(got, want) {
		e.Errorf("listed %d crates in some order, want these %d in the order of their ids", len(got), len(want))
	}
	// What comes and goes between two pages shifts nothing.
	if n > store.MaxPage {
		page, err := e.s.List(e.ctx, nil)
		if err != nil {
			e.Fatal(err)
		}
		for _, c := range want[store.MaxPage-2 : store.MaxPage] {
			if err := e.s.Discard(e.ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
				e.Fatal(err)
			}
		}
		rest, err := e.s.List(e.ctx, page.Next)
		if err != nil || !slices.Equal(rest.Crates, want[store.MaxPage:min(n, 2*store.MaxPage)]) {
			e.Errorf("the second page has %d crates, %v", len(rest.Crates), err)
		}
	}
	_, err := e.s.List(e.ctx, []byte("nobody made this cursor"))
	e.fails(err, store.Invalid)
}

// putAll stores many, in batches if the store likes them.
func (e *env) putAll(reqs []store.PutRequest) {
	e.Helper()
	if b, ok := e.s.(store.Batcher); ok {
		for part := range slices.Chunk(reqs, 256) {
			for _, res := range b.PutBatch(e.ctx, part) {
				if res.Err != nil {
					e.Fatalf("put batch: %v", res.Err)
				}
			}
		}
		return
	}
	together(8, func(k int) {
		for i := k; i < len(reqs); i += 8 {
			if _, err := e.s.Put(e.ctx, reqs[i]); err != nil {
				e.Errorf("put: %v", err)
			}
		}
	})
}

func testSameCrateAtOnce(e *env) {
	was := e.account()
	c := e.Crate(mib + 1)
	r := e.reserve(c.Charge()) // for one, not for many
	together(8, func(int) {
		receipts, err := e.s.Put(e.ctx, c.Put(r))
		if err != nil {
			e.Errorf("put: %v", err)
			return
		}
		if len(receipts) == 0 || receipts[0].Sums.Root() != c.Root() {
			e.Error("wrong receipt")
		}
	})
	e.has(c)
	if now := e.account(); now.used != was.used+c.Charge() || now.crates != was.crates+1 {
		e.Errorf("the accounts are %+v, were %+v", now, was)
	}
}

// testConcurrent lets many holders reserve, put, read and discard at once, and
// compares with what each of them knows.
func testConcurrent(e *env) {
	empty := e.account()
	rounds := 15
	if Soak() {
		rounds = 150
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Add(1)
	go func() { // the promise, watched all along
		defer wg.Done()
		for {
			select {
			case <-stop:
				return
			default:
			}
			st, err := e.s.Status(e.ctx)
			if err != nil || st.Used < 0 || st.Reserved < 0 || st.Free < 0 || st.Used+st.Reserved > Capacity {
				e.Errorf("status %+v, %v", st, err)
				return
			}
		}
	}()
	together(6, func(k int) {
		g := NewGen(uint64(k) + 1)
		var mine []Crate
		r := store.NewReservationID()
		reserve := func() bool {
			_, err := e.s.Reserve(e.ctx, store.ReserveRequest{ID: r, Bytes: 2 << 20})
			if err != nil && !errors.Is(err, store.NoSpace) {
				e.Errorf("reserve: %v", err)
			}
			return err == nil
		}
		release := func() {
			if err := e.s.Release(e.ctx, r); err != nil {
				e.Errorf("release: %v", err)
			}
			r = store.NewReservationID()
		}
		for range rounds {
			if !reserve() {
				continue
			}
			c := g.Crate(1 + g.IntN(mib+mib/2))
			c.ID = store.NewCrateID()
			req := c.Put(r)
			broken := g.IntN(4) == 0
			if broken {
				req.Source = BreakingSource(c.Data, int64(g.IntN(len(c.Data))))
			}
			_, err := e.s.Put(e.ctx, req)
			if broken != (err != nil) {
				e.Errorf("put: %v", err)
			}
			if err == nil {
				mine = append(mine, c)
			}
			release()
			if len(mine) > 3 {
				old := mine[0]
				mine = mine[1:]
				if err := e.s.Discard(e.ctx, store.DiscardRequest{Crate: old.ID}); err != nil {
					e.Errorf("discard: %v", err)
				}
				if _, err := e.s.Stat(e.ctx, old.ID); !errors.Is(err, store.NotFound) {
					e.Errorf("discarded, and stat says %v", err)
				}
			}
			for _, c := range mine {
				from := g.IntN(len(c.Data))
				p, err := e.read(c.ID, int64(from), -1)
				if err != nil || !bytes.Equal(p, c.Data[from:]) {
					e.Errorf("read: %d bytes, %v", len(p), err)
				}
			}
		}
		for _, c := range mine {
			if err := e.s.Discard(e.ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
				e.Errorf("discard: %v", err)
			}
		}
	})
	close(stop)
	wg.Wait()
	e.unchanged(empty)
	if left := e.list(); len(left) != 0 {
		e.Errorf("%d crates left", len(left))
	}
}

func testClose(e *env) {
	r, cs := e.crates(100)
	c := e.Crate(2 * mib)
	req := c.Put(e.reserve(c.Charge()))
	going, wait := make(chan struct{}), make(chan struct{})
	req.Source = GatedSource(c.Data, mib, going, wait)
	put := make(chan error, 1)
	go func() { _, err := e.s.Put(e.ctx, req); put <- err }()
	e.soon("the put's first block", func() { <-going })
	closed := make(chan error, 1)
	go func() { closed <- e.s.Close() }()
	close(wait)
	e.soon("close", func() {
		if err := <-closed; err != nil {
			e.Errorf("close: %v", err)
		}
	})
	// The put was under way: it ended well, or with an error, but it has ended.
	e.soon("the put", func() { <-put })
	if err := e.s.Close(); err != nil {
		e.Errorf("a second close: %v", err)
	}
	_, err := e.s.Put(e.ctx, e.Crate(1).Put(r))
	e.fails(err, store.Unavailable)
	_, err = e.s.Stat(e.ctx, cs[0].ID)
	e.fails(err, store.Unavailable)
	_, err = e.s.Open(e.ctx, cs[0].ID, 0, -1)
	e.fails(err, store.Unavailable)
	_, err = e.s.Status(e.ctx)
	e.fails(err, store.Unavailable)
	_, err = e.s.Reserve(e.ctx, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 1})
	e.fails(err, store.Unavailable)
	e.fails(e.s.Discard(e.ctx, store.DiscardRequest{Crate: cs[0].ID}), store.Unavailable)
}
