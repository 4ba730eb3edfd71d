package storetest

import (
	"os"
	"os/exec"

	"stasis/store"
)

// positions are those that a store has told, with what it does between them.
type positions struct {
	e     *env
	last  store.Position
	marks map[uint64]bool
}

// testPosition: each change of the crates gives a position with a greater count and a mark of
// its own, a call that changes none leaves it, and it outlives the store.
func testPosition(e *env) {
	p := e.positions()
	r := e.reserve(1 << 20)
	p.same("a reservation")
	a, b := e.Crate(1000), e.Crate(mib/2)
	for _, c := range []Crate{a, b} {
		got, err := e.s.Put(e.ctx, c.Put(r))
		if err != nil {
			e.Fatal(err)
		}
		p.moved("a put")
		p.receipts("a put", got)
		if got, err = e.s.Put(e.ctx, c.Put(r)); err != nil {
			e.Fatal(err)
		}
		p.same("a repeat")
		p.receipts("a repeat", got)
	}
	if batcher, ok := e.s.(store.Batcher); ok {
		var rs []store.PutRequest
		for range 5 {
			rs = append(rs, e.Crate(3000).Put(r))
		}
		got := batcher.PutBatch(e.ctx, rs)
		p.moved("a batch")
		for _, res := range got {
			if res.Err != nil {
				e.Fatal(res.Err)
			}
			p.receipts("a batch", res.Receipts)
		}
	}
	c := e.Crate(2000)
	wrong := c.Put(r)
	wrong.Expect = &store.Digest{1}
	if _, err := e.s.Put(e.ctx, wrong); err == nil {
		e.Error("other bytes than expected are taken")
	}
	p.notBelow("a put that was refused")
	for range 2 {
		if err := e.s.Discard(e.ctx, store.DiscardRequest{Crate: a.ID}); err != nil {
			e.Fatal(err)
		}
		if p.moved("a discard"); e.Failed() {
			return
		}
		if err := e.s.Discard(e.ctx, store.DiscardRequest{Crate: a.ID}); err != nil {
			e.Fatal(err)
		}
		p.same("a discard of what is not there")
		a = b
	}
	if err := e.s.Release(e.ctx, r); err != nil {
		e.Fatal(err)
	}
	p.same("the end of a reservation")
	if _, ok := e.s.(store.Fencer); ok {
		e.fence()
		p.moved("a fence")
	}
	if e.inst.Reopen == nil {
		return
	}
	for range 2 {
		e.s = e.inst.Reopen(e)
		p.same("an opening")
	}
}

// testPositionBack: a copy that is put back has the position that it had when it was made, and
// goes on unlike what it goes back behind.
func testPositionBack(e *env) {
	p := e.positions()
	if e.inst.Path == "" {
		e.Skip("it can't be copied")
	}
	r, cs := e.crates(1000, 2000)
	p.moved("puts")
	stop := func() {
		if err := e.s.Close(); err != nil {
			e.Fatal(err)
		}
	}
	copied := e.inst.Path + ".copy"
	stop()
	e.copy(e.inst.Path, copied)
	then := p.last
	histories := make(map[store.Position]int)
	for round := range 3 {
		e.s = e.inst.Reopen(e)
		if now := e.status().Position; now != then {
			e.Fatalf("put back it is at %v, and was at %v", now, then)
		}
		if round > 0 {
			e.has(cs[0])
			e.has(cs[1])
		}
		e.tokens = nil
		if err := e.s.(store.Fencer).Fence(e.ctx, nil, store.NewToken(), true); err != nil {
			e.Fatal(err)
		}
		for i := range 4 {
			if i == 2 {
				if err := e.s.Discard(e.ctx, store.DiscardRequest{Crate: cs[0].ID}); err != nil {
					e.Fatal(err)
				}
			} else {
				c := e.Crate(500)
				if _, err := e.s.Reserve(e.ctx, store.ReserveRequest{ID: r, Bytes: 1 << 20}); err != nil {
					e.Fatal(err)
				}
				e.put(r, c)
			}
			now := e.status().Position
			if other, known := histories[now]; known && other != round {
				e.Errorf("in rounds %d and %d it is at %v, with other crates", other, round, now)
			}
			if histories[now] = round; now.Count <= then.Count {
				e.Errorf("it goes from %v to %v", then, now)
			}
		}
		stop()
		if err := os.RemoveAll(e.inst.Path); err != nil {
			e.Fatal(err)
		}
		e.copy(copied, e.inst.Path)
	}
	e.s = e.inst.Reopen(e)
}

func (e *env) copy(from, to string) {
	e.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		e.Fatalf("copy the store: %v: %s", err, out)
	}
}

// positions begins with where the store is; it skips the test for one that keeps none.
func (e *env) positions() *positions {
	e.Helper()
	p := &positions{e: e, last: e.status().Position, marks: make(map[uint64]bool)}
	if p.last == (store.Position{}) {
		e.Skip("this store keeps no position")
	}
	p.marks[p.last.Mark] = true
	return p
}

func (p *positions) same(after string) {
	p.e.Helper()
	if now := p.e.status().Position; now != p.last {
		p.e.Errorf("after %s it is at %v, and was at %v", after, now, p.last)
		p.last = now
	}
}

func (p *positions) moved(after string) {
	p.e.Helper()
	now := p.e.status().Position
	if now.Count <= p.last.Count || p.marks[now.Mark] {
		p.e.Errorf("after %s it is at %v, and was at %v", after, now, p.last)
	}
	p.last, p.marks[now.Mark] = now, true
}

func (p *positions) notBelow(after string) {
	p.e.Helper()
	now := p.e.status().Position
	if now.Count < p.last.Count {
		p.e.Errorf("after %s it is at %v, and was at %v", after, now, p.last)
	}
	p.last, p.marks[now.Mark] = now, true
}

// receipts checks those of a call that nothing followed.
func (p *positions) receipts(of string, rs []store.Receipt) {
	p.e.Helper()
	for _, r := range rs {
		if r.Position != p.last {
			p.e.Errorf("a receipt of %s says %v, the status %v", of, r.Position, p.last)
		}
	}
}
