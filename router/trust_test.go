package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/storetest"
)

// liar is a store on another machine that answers what its tricks make of the answer.
type liar struct {
	store.Store
	put     func(store.PutRequest, []store.Receipt, error) ([]store.Receipt, error)
	reserve func([]store.Share) []store.Share
	status  func(*store.Status)
	list    func(cursor []byte) (store.Page, error)
	verify  func() error
	tell    chan store.Event
	puts    atomic.Int64
	lists   atomic.Int64
	came    atomic.Int64 // bytes
	drops   atomic.Int64 // discards
}

func (l *liar) Close() error { return nil }

func (l *liar) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	l.puts.Add(1)
	if _, asks := r.Source.(asked); !asks {
		l.came.Add(r.Size)
	}
	receipts, err := l.Store.Put(ctx, r)
	if l.put != nil {
		return l.put(r, receipts, err)
	}
	return receipts, err
}

func (l *liar) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	shares, err := l.Store.Reserve(ctx, r)
	if l.reserve != nil && err == nil {
		shares = l.reserve(shares)
	}
	return shares, err
}

func (l *liar) Status(ctx context.Context) (store.Status, error) {
	s, err := l.Store.Status(ctx)
	s.Durable = true
	if l.status != nil {
		l.status(&s)
	}
	return s, err
}

func (l *liar) List(ctx context.Context, cursor []byte) (store.Page, error) {
	l.lists.Add(1)
	if l.list != nil {
		return l.list(cursor)
	}
	return l.Store.List(ctx, cursor)
}

func (l *liar) Verify(ctx context.Context, id store.CrateID, offset, length int64, nonce store.Digest) (store.Digest, error) {
	if l.verify != nil {
		return store.Digest{}, l.verify()
	}
	return l.Store.Verify(ctx, id, offset, length, nonce)
}

func (l *liar) Discard(ctx context.Context, r store.DiscardRequest) error {
	l.drops.Add(1)
	return l.Store.Discard(ctx, r)
}

func (l *liar) Events(ctx context.Context, _ store.Cursor, give func(store.Event) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-l.tell:
			if err := give(e); err != nil {
				return err
			}
		}
	}
}

// besideLiar is a rig with an honest node, "disk", and the liar.
func besideLiar(t *testing.T, f func(*rig, *liar)) {
	t.Helper()
	farRig(t, 1, func(g *rig, links []*link) {
		l := &liar{Store: links[0].Store, tell: make(chan store.Event)}
		g.places = nil
		g.place("disk", gib)
		g.extra = []NodeSpec{{Name: "liar", Kind: "grpc", Durable: true, Open: func(context.Context, store.NodeID) (store.Store, error) { return l, nil }}}
		f(g, l)
	})
}

func (g *rig) node(name string) NodeStatus {
	for _, n := range g.r.Status(context.Background()) {
		if n.Name == name {
			return n
		}
	}
	return NodeStatus{}
}

// forge makes a receipt for consistent sums of other bytes.
func forge(r store.PutRequest, rcs []store.Receipt) []store.Receipt {
	h := store.Hasher{}
	_, _ = h.Write(bytes.Repeat([]byte{7}, int(r.Size)))
	out := slices.Clone(rcs)
	for i := range out {
		out[i].Sums = h.Sums()
	}
	return out
}

// A receipt for other bytes is not counted and changes nothing, whatever the size and the
// attempt; the second bars the node, which says so, and what was meant for it goes elsewhere
// until a person trusts it again.
func TestForgedReceipts(t *testing.T) {
	for _, size := range []int{4096, 300 << 10, 3*mib + 5} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			besideLiar(t, func(g *rig, l *liar) {
				first := true
				l.put = func(r store.PutRequest, rcs []store.Receipt, err error) ([]store.Receipt, error) {
					if err != nil {
						return nil, err
					}
					if first { // so that there is a second attempt
						first = false
						return nil, &store.Error{Kind: store.Unavailable, Op: "put"}
					}
					return forge(r, rcs), nil
				}
				g.place("other", gib)
				g.places[1].unplug(true)
				g.start()
				crates, _ := g.add(two, size, size)
				g.waitCopies(1, crates...)
				g.until("barred", func() bool { return g.node("liar").State == Unreachable })
				if why := g.node("liar").LastError; !strings.Contains(why, "stasis resume") {
					t.Errorf("the status says %q", why)
				}
				for _, c := range crates {
					if m, err := g.r.Manifest(c.ID); err != nil || m.form(store.Plain).Root != c.Root() || m.Retired {
						t.Errorf("%+v, %v", m, err)
					}
				}
				puts := l.puts.Load()
				g.places[1].unplug(false)
				g.stop()
				g.start() // it is remembered
				g.waitCopies(2, crates...)
				if n := l.puts.Load(); n != puts || l.drops.Load() != 0 {
					t.Errorf("%d puts to a node that is barred, %d discards", n-puts, l.drops.Load())
				}
				more, _ := g.add(two, size)
				g.waitCopies(2, more...)
				if n := l.puts.Load(); n != puts {
					t.Error("a node that is barred was chosen")
				}
				l.put = nil
				if err := g.r.Resume("liar"); err != nil {
					t.Fatal(err)
				}
				g.waitCopies(3, crates...)
				g.until("no leak", func() bool { return g.leak() == nil })
			})
		})
	}
}

// A receipt counts for the leaves that were named when space was promised, each once.
func TestUnnamedLeaves(t *testing.T) {
	besideLiar(t, func(g *rig, l *liar) {
		other := store.NodeID{1, 2, 3}
		l.put = func(_ store.PutRequest, rcs []store.Receipt, err error) ([]store.Receipt, error) {
			if err == nil {
				again := rcs[0]
				again.Leaf = other
				rcs = append(rcs, again, again, rcs[0])
			}
			return rcs, err
		}
		g.start()
		crates, _ := g.add(two, 4096)
		g.waitCopies(2, crates...)
		time.Sleep(2 * time.Minute)
		if n := g.copies(crates[0].ID); n != 2 || g.node("liar").State != Online {
			t.Errorf("%d copies, the node is %s", n, g.node("liar").State)
		}
		// It says where: then it counts.
		l.reserve = func(s []store.Share) []store.Share {
			more := s[0]
			more.Leaf = other
			return append(s, more)
		}
		more, _ := g.add(two, 4096)
		g.waitCopies(3, more...)
		// None that fits.
		l.put = func(_ store.PutRequest, rcs []store.Receipt, err error) ([]store.Receipt, error) {
			for i := range rcs {
				rcs[i].Leaf = store.NodeID{9}
			}
			return rcs, err
		}
		more, _ = g.add(two, 4096)
		time.Sleep(time.Minute)
		if n := g.copies(more[0].ID); n != 1 || g.node("liar").State != Online {
			t.Errorf("%d copies, the node is %s", n, g.node("liar").State)
		}
	})
}

// A node that says Conflict gets that crate no more, and nothing else happens: the crate has its
// copy elsewhere, or waits for a place.
func TestConflictBarsACrate(t *testing.T) {
	for _, spare := range []bool{true, false} {
		besideLiar(t, func(g *rig, l *liar) {
			l.put = func(store.PutRequest, []store.Receipt, error) ([]store.Receipt, error) {
				return nil, &store.Error{Kind: store.Conflict, Op: "put"}
			}
			if spare {
				g.place("other", gib)
			}
			g.start()
			var all []storetest.Crate
			for range 20 {
				crates, _ := g.add(two, 4096)
				all = append(all, crates...)
			}
			if spare {
				g.waitCopies(2, all...)
			}
			time.Sleep(time.Minute)
			g.seen.mu.Lock()
			if len(g.seen.retired) > 0 {
				t.Errorf("%d crates were retired", len(g.seen.retired))
			}
			g.seen.mu.Unlock()
			if n := l.puts.Load(); n > 20 || l.drops.Load() > 0 {
				t.Errorf("%d puts of 20 crates, %d discards", n, l.drops.Load())
			}
			if spare {
				return
			}
			m, err := g.r.Manifest(all[0].ID)
			if err != nil || m.Copies() != 1 || m.Outstanding() != 0 {
				t.Errorf("%+v, %v", m, err)
			}
			l.put = nil
			for _, c := range all { // it was kept from the router that it has them
				if err := l.Store.Discard(context.Background(), store.DiscardRequest{Crate: c.ID}); err != nil {
					t.Fatal(err)
				}
			}
			if err := g.r.Resume("liar"); err != nil {
				t.Fatal(err)
			}
			g.waitCopies(2, all...)
			g.until("no leak", func() bool { return g.leak() == nil })
		})
	}
}

// A listing that is none ends soon, and what a node asks for by events is done now and then.
func TestEndlessListing(t *testing.T) {
	page := func(from uint64, n int, next bool) store.Page {
		var p store.Page
		for i := range n {
			var id store.CrateID
			k := from + uint64(i)
			for b := range 8 {
				id[b] = byte(k >> (56 - 8*b))
			}
			p.Crates = append(p.Crates, store.CrateInfo{ID: id, Size: 1})
		}
		if next {
			p.Next = []byte{1}
		}
		return p
	}
	at := uint64(0)
	for name, list := range map[string]func([]byte) (store.Page, error){
		"ascends for ever": func([]byte) (store.Page, error) { at++; return page(at, 1, true), nil },
		"is empty":         func([]byte) (store.Page, error) { return page(0, 0, true), nil },
		"repeats itself":   func([]byte) (store.Page, error) { return page(1, 100, true), nil },
		"descends":         func([]byte) (store.Page, error) { at--; return page(1<<40+at, 1, true), nil },
	} {
		t.Run(name, func(t *testing.T) {
			besideLiar(t, func(g *rig, l *liar) {
				l.list = list
				g.start()
				crates, _ := g.add(two, 4096)
				g.waitCopies(2, crates...)
				found := 0
				sum, err := g.r.Check(context.Background(), false, func(f Finding) { found++ })
				if err != nil || sum.Problems > 0 || l.lists.Load() > 2*ListPages {
					t.Errorf("%+v, %v, %d pages", sum, err, l.lists.Load())
				}
				n := l.lists.Load()
				for range 1000 {
					l.tell <- store.Event{Kind: store.EventGap}
				}
				time.Sleep(10 * time.Minute)
				if more := l.lists.Load() - n; more > 5*(ListPages+2) {
					t.Errorf("%d pages in ten minutes of gaps", more)
				}
			})
		})
	}
}

// A node that says again and again that a copy is damaged gets it again now and then.
func TestDamageIsBounded(t *testing.T) {
	besideLiar(t, func(g *rig, l *liar) {
		l.verify = func() error { return &store.Error{Kind: store.Corrupt, Op: "verify"} }
		g.start()
		crates, _ := g.add(two, 8*mib)
		c := crates[0]
		g.waitCopies(2, c)
		begun, before := time.Now(), l.came.Load()
		for time.Since(begun) < 5*time.Minute {
			l.tell <- store.Event{Kind: store.EventDamaged, Crate: &c.ID}
			time.Sleep(100 * time.Millisecond)
		}
		if n := (l.came.Load() - before) / (8 * mib); n < 2 || n > 7 {
			t.Errorf("it was sent %d times in five minutes", n)
		}
		l.verify = nil
		g.waitCopiesWithin(RepairMost, 2, c)
	})
}

// waitCopiesWithin is waitCopies with a limit of its own.
func (g *rig) waitCopiesWithin(limit time.Duration, n int, c storetest.Crate) {
	g.t.Helper()
	for end := time.Now().Add(limit); g.copies(c.ID) != n; time.Sleep(time.Second) {
		if time.Now().After(end) {
			g.t.Fatalf("%d copies, not %d", g.copies(c.ID), n)
		}
	}
}

// Figures of one node that can't be meant change nothing for the others, and another store at
// its place is none of the vault's.
func TestAbsurdStatus(t *testing.T) {
	const most = 1<<63 - 1
	for name, absurd := range map[string]func(*store.Status){
		"huge": func(s *store.Status) {
			s.Free, s.Capacity, s.Used, s.Reserved, s.Crates, s.Damage, s.Leaves = most, most, most, most, most, most, 1<<31-1
		},
		"negative": func(s *store.Status) {
			s.Free, s.Capacity, s.Used, s.Reserved, s.Crates, s.Damage, s.Leaves = -most, -most, -most, -most, -most, -most, -5
		},
	} {
		t.Run(name, func(t *testing.T) {
			besideLiar(t, func(g *rig, l *liar) {
				l.status = absurd
				if name == "huge" {
					l.reserve = func(s []store.Share) []store.Share { s[0].Bytes = most; return s }
				} else {
					l.reserve = func(s []store.Share) []store.Share { s[0].Drawn = most; return s }
				}
				g.start()
				crates, _ := g.add(Policy{Copies: 1}, 4096, 3*mib)
				g.waitCopies(1, crates...)
				for range 5 {
					time.Sleep(ProbeEvery)
					for _, n := range g.r.Status(context.Background()) {
						if n.Free < 0 || n.Free > 2*MaxFigure || n.Reserved < 0 || n.Bytes < 0 || n.Capacity < 0 {
							t.Errorf("%+v", n)
						}
					}
				}
				more, _ := g.add(two, 4096)
				g.until("the honest node has it", func() bool { return g.copies(more[0].ID) >= 1 })
			})
		})
	}
	besideLiar(t, func(g *rig, l *liar) {
		g.start()
		crates, _ := g.add(two, 4096)
		g.waitCopies(2, crates...)
		id := g.node("liar").ID
		l.status = func(s *store.Status) { s.Leaf = store.NodeID{7} }
		g.until("it is none of ours", func() bool {
			n := g.node("liar")
			return n.State == Unreachable && n.ID == id && strings.Contains(n.LastError, "replaced on purpose") && strings.Contains(n.LastError, "--force")
		})
		l.status = nil
		g.until("it is back", func() bool { return g.node("liar").State == Online })
	})
}

// What a batch brings into doubt is one crate's matter, and errors that only a client finds are
// lies, too.
func TestClientsFindLies(t *testing.T) {
	besideLiar(t, func(g *rig, l *liar) {
		l.put = func(_ store.PutRequest, _ []store.Receipt, err error) ([]store.Receipt, error) {
			return nil, errors.Join(err, &store.Error{Kind: store.Invalid, Op: "put", Err: store.ErrWrongReceipt})
		}
		g.start()
		g.add(two, 4096, 8192)
		g.until("barred", func() bool { return g.node("liar").State == Unreachable })
	})
}
