package router

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/ledger"
)

// placing is a peer that keeps a position. Its batches stop after the first crate until they are let on.
type placing struct {
	store.Store
	mu      sync.Mutex
	at      store.Position
	listed  func() // called when it is asked for a list; nil: nothing is
	stopped chan store.CrateID
	goOn    chan struct{}
}

func (p *placing) moved() store.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = store.Position{Count: p.at.Count + 1, Mark: rand.Uint64()}
	return p.at
}

func (p *placing) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	rcs, err := p.Store.Put(ctx, r)
	if err == nil {
		at := p.moved()
		for i := range rcs {
			rcs[i].Position = at
		}
	}
	return rcs, err
}

func (p *placing) PutBatch(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	out := make([]store.PutResult, len(rs))
	for i, r := range rs {
		out[i].Receipts, out[i].Err = p.Put(ctx, r)
		if i == 0 && p.stopped != nil {
			p.stopped <- r.Crate
			<-p.goOn
		}
	}
	return out
}

func (p *placing) List(ctx context.Context, cursor []byte) (store.Page, error) {
	if p.listed != nil {
		p.listed()
	}
	return p.Store.List(ctx, cursor)
}

func (p *placing) Status(ctx context.Context) (store.Status, error) {
	s, err := p.Store.Status(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Position = p.at
	return s, err
}

// A peer is put back in the middle of one call that puts several crates, and looked at in between,
// where it is found where it is known to be. Two receipts of that call are for the same count with
// different marks, which no one history gives.
func TestTwoMarksForOneCount(t *testing.T) {
	g := newRig(t, gib, gib)
	g.places[1].kind = "grpc"
	p := &placing{Store: lasting{g.places[1].mem}}
	specs := g.specs()[1]
	specs.Open = func(context.Context, store.NodeID) (store.Store, error) { return p, nil }
	g.places = g.places[:1]
	g.extra = []NodeSpec{specs}
	g.start()
	first, _ := g.add(two, 4096)
	g.waitCopies(2, first...)
	g.settledPositions()
	time.Sleep(ProbeEvery + time.Second)
	kept := p.at
	p.stopped, p.goOn = make(chan store.CrateID), make(chan struct{})
	crates, _ := g.add(two, 4096, 4097, 4098, 4099)
	lost := <-p.stopped
	p.stopped = nil
	// It is put back to what it was before the call.
	if err := p.Store.Discard(context.Background(), store.DiscardRequest{Crate: lost, Holder: g.owner()}); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.at = kept
	p.mu.Unlock()
	time.Sleep(2*ProbeEvery + time.Second) // and looked at
	close(p.goOn)
	g.until("what was lost is there again", func() bool {
		_, err := p.Store.Stat(context.Background(), lost)
		return err == nil && g.r.unsure.Load() == 0
	})
	for _, c := range crates {
		g.waitCopies(2, c)
	}
}

// What a call has put on a node before its copies became unknown may be gone, and a count that was
// made since has not looked for it: its receipt is not recorded.
func TestReceiptFromBeforeCount(t *testing.T) {
	g := newRig(t, gib, gib)
	g.places[1].kind = "grpc"
	p := &placing{Store: lasting{g.places[1].mem}}
	spec := g.specs()[1]
	spec.Open = func(context.Context, store.NodeID) (store.Store, error) { return p, nil }
	g.places = g.places[:1]
	g.extra = []NodeSpec{spec}
	g.start()
	first, _ := g.add(two, 4096, 4097, 4098)
	g.waitCopies(2, first...)
	g.settledPositions()
	time.Sleep(ProbeEvery + time.Second)
	p.mu.Lock()
	kept := p.at
	p.mu.Unlock()
	n := g.r.byName("n1")
	g.r.mu.Lock()
	doubts := n.at.doubts
	g.r.mu.Unlock()
	p.stopped, p.goOn = make(chan store.CrateID), make(chan struct{})
	crates, _ := g.add(two, 4096, 4097)
	lost := <-p.stopped
	p.stopped = nil
	if err := p.Store.Discard(context.Background(), store.DiscardRequest{Crate: lost, Holder: g.owner()}); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.at = store.Position{Count: kept.Count - 1, Mark: 1} // put back further than it is known to be
	p.mu.Unlock()
	g.until("it is noticed and counted", func() bool {
		g.r.mu.Lock()
		defer g.r.mu.Unlock()
		return n.at.doubts > doubts && n.at.unsure == ""
	})
	close(p.goOn)
	g.until("what was lost is there again", func() bool {
		_, err := p.Store.Stat(context.Background(), lost)
		return err == nil && g.copies(lost) == 2
	})
	g.waitCopies(2, crates...)
	g.settledPositions()
}

// Receipts of one call, in any order, and the positions that they tell of.
func TestReceiptPositions(t *testing.T) {
	at := func(count, mark uint64) store.Position { return store.Position{Count: count, Mark: mark} }
	for name, c := range map[string]struct {
		ps   []store.Position
		base store.Position
		want bool // the copies are unknown
	}{
		"further":                  {[]store.Position{at(6, 1), at(7, 2)}, at(7, 2), false},
		"in another order":         {[]store.Position{at(7, 2), at(6, 1)}, at(7, 2), false},
		"one for both":             {[]store.Position{at(7, 2), at(7, 2)}, at(7, 2), false},
		"none":                     {[]store.Position{{}, {}}, at(5, 0), false},
		"a repeat":                 {[]store.Position{at(5, 0)}, at(5, 0), false},
		"two marks":                {[]store.Position{at(6, 1), at(6, 2)}, at(6, 1), true},
		"two marks further back":   {[]store.Position{at(6, 1), at(8, 3), at(6, 2)}, at(8, 3), true},
		"another mark at the base": {[]store.Position{at(5, 1)}, at(5, 0), true},
		"it is further back":       {[]store.Position{at(4, 1)}, at(5, 0), true},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			g.start()
			n := newNode(g.r, "n")
			n.at = standing{base: at(5, 0), recorded: at(5, 0), known: true}
			n.receipted(c.ps, n.vantage())
			if is := n.at.unsure != ""; is != c.want || n.at.base != c.base {
				t.Errorf("unknown: %v, %s; %+v", is, n.at.unsure, n.at.base)
			}
			g.r.unsure.Store(0)
		})
	}
}

// Of two that record a position, the one that began with an older one does not put it over the newer.
func TestOlderPositionOverNewer(t *testing.T) {
	g := newRig(t, gib)
	g.start()
	g.settledPositions()
	n := g.r.byName("n0")
	id := n.nodeID()
	move := func(count uint64) {
		g.r.mu.Lock()
		defer g.r.mu.Unlock()
		n.at.base = store.Position{Count: count, Mark: count}
	}
	move(7)
	done := make(chan error)
	_, err := g.r.local.Update(func(tx *ledger.Tx) error {
		go func() { done <- n.recordPosition() }() // it has seen that there is something to record, and waits
		time.Sleep(50 * time.Millisecond)
		move(8)
		_, _ = n.positionTx(tx)
		return nil
	})
	if err == nil {
		err = <-done
	}
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := g.r.local.Get(positionKey(id))
	if p, bad := decodePosition(v); err != nil || bad != nil || p.Count != 8 {
		t.Errorf("the ledger has %+v, %v, %v", p, err, bad)
	}
}

// A node that is put back again while it is counted, to where the count began, has given a receipt
// for a position beyond that: the count is not taken, and receipts from before it are not either.
func TestPutBackAmidCount(t *testing.T) {
	g := newRig(t, gib, gib)
	g.places[1].kind = "grpc"
	p := &placing{Store: lasting{g.places[1].mem}}
	spec := g.specs()[1]
	spec.Open = func(context.Context, store.NodeID) (store.Store, error) { return p, nil }
	g.places = g.places[:1]
	g.extra = []NodeSpec{spec}
	g.start()
	crates, _ := g.add(two, 4096, 4097)
	g.waitCopies(2, crates...)
	g.settledPositions()
	n := g.r.byName("n1")
	var from vantage
	p.listed = func() {
		from = n.vantage()
		over := n.changing()
		p.mu.Lock()
		ahead := store.Position{Count: p.at.Count + 1, Mark: 1}
		p.mu.Unlock()
		g.r.mu.Lock()
		n.receipted([]store.Position{ahead}, from)
		g.r.mu.Unlock()
		over(nil)
	}
	g.r.mu.Lock()
	n.at.counting = true // by this test
	n.doubtAll(wasPutBack)
	h := n.handle
	g.r.mu.Unlock()
	if err := n.takeStock(context.Background(), h); err != errAnotherMoved || !n.doubted(from) {
		t.Errorf("%v, doubted: %v", err, n.doubted(from))
	}
	p.listed = nil
	if err := n.takeStock(context.Background(), h); err != nil {
		t.Error(err)
	}
	g.settledPositions()
	g.waitCopies(2, crates...)
}
