package depot

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"stasis/router"
	"stasis/store"
	"stasis/store/storetest"
)

// asked remembers what a peer was asked for, and stays open when its caller closes it.
type asked struct {
	*Store
	mu  sync.Mutex
	all []store.ReserveRequest
}

func (a *asked) Close() error { return nil }

func (a *asked) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	a.mu.Lock()
	a.all = append(a.all, r)
	a.mu.Unlock()
	return a.Store.Reserve(ctx, r)
}

func (a *asked) requests() []store.ReserveRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all)
}

// passingOn is a depot with a peer as its only node.
func passingOn(t *testing.T, to *rig, clock *storetest.Clock) (*rig, *asked) {
	t.Helper()
	peer := &asked{Store: to.s}
	g := &rig{t: t, dir: t.TempDir(), id: store.NewNodeID(), policy: router.Policy{Copies: 1, Least: 1}, clock: clock}
	g.specs = []router.NodeSpec{{Name: "peer", Kind: "grpc", Durable: true, Open: func(context.Context, store.NodeID) (store.Store, error) { return peer, nil }}}
	g.open()
	return g, peer
}

// reserved makes a reservation as r says.
func (g *rig) reserved(r store.ReserveRequest) (store.ReservationID, error) {
	r.ID, r.Bytes = store.NewReservationID(), max(r.Bytes, 8<<20)
	_, err := g.s.Reserve(g.t.Context(), r)
	return r.ID, err
}

// What one sender says of paths and hops holds for what it sends, and for nothing else: not
// for the space that a peer keeps for all.
func TestOneSendersPathBindsNobodyElse(t *testing.T) {
	gen := storetest.NewGen(storetest.Seed(t))
	back := newRig(t, 1, 256<<20, router.Policy{Copies: 1, Least: 1}, nil)
	front, peer := passingOn(t, back, nil)
	leaf := back.ids[0]
	for name, hostile := range map[string]store.ReserveRequest{
		"a path that names a leaf behind the peer": {Path: []store.NodeID{leaf}, Hops: router.MaxHops},
		"a path that names the peer":               {Path: []store.NodeID{back.id}, Hops: router.MaxHops},
		"no hops":                                  {},
		"one hop":                                  {Hops: 1},
		"an exclusion of the leaf":                 {Exclude: []store.NodeID{leaf}, Hops: router.MaxHops},
		"a path of strangers":                      {Path: slices.Repeat([]store.NodeID{store.NewNodeID()}, 300), Hops: 2},
	} {
		t.Run(name, func(t *testing.T) {
			poison, err := front.reserved(hostile)
			if err == nil {
				defer func() { _ = front.s.Release(t.Context(), poison) }()
				for _, size := range []int{5000, 2 << 20} {
					_, err := front.s.Put(t.Context(), gen.Crate(size).Put(poison))
					if nowhere := slices.Contains(hostile.Path, leaf); nowhere && !errors.Is(err, store.NoSpace) || !nowhere && err != nil {
						t.Errorf("its own put: %v", err)
					}
				}
			}
			for _, size := range []int{5000, 2 << 20} {
				c := gen.Crate(size)
				id, err := front.reserved(store.ReserveRequest{Hops: router.MaxHops})
				if err != nil {
					t.Fatalf("another's reservation: %v", err)
				}
				receipts, err := front.s.Put(t.Context(), c.Put(id))
				if err != nil || len(receipts) != 1 || receipts[0].Leaf != leaf {
					t.Fatalf("another's put: %+v, %v", receipts, err)
				}
				if err := front.s.Release(t.Context(), id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	grants := make(map[store.ReservationID][]store.ReserveRequest)
	for _, r := range peer.requests() {
		grants[r.ID] = append(grants[r.ID], r)
	}
	for id, rs := range grants {
		for _, r := range rs[1:] {
			if r.Hops != rs[0].Hops || !slices.Equal(r.Path, rs[0].Path) || !slices.Equal(r.Exclude, rs[0].Exclude) {
				t.Errorf("the terms of %s were %+v and then %+v", id, rs[0], r)
			}
		}
	}
}

// What has come through peers goes to none of the places that it came through, however far
// on they are, and through no more peers than its sender allows.
func TestAPathGoesOnWithItsCrates(t *testing.T) {
	gen := storetest.NewGen(storetest.Seed(t))
	back := newRig(t, 2, 256<<20, router.Policy{Copies: 2, Least: 1}, nil)
	front, peer := passingOn(t, back, nil)
	for i, leaf := range back.ids {
		for _, size := range []int{5000, 2 << 20} {
			id, err := front.reserved(store.ReserveRequest{Path: []store.NodeID{leaf}, Hops: 3})
			if err != nil {
				t.Fatal(err)
			}
			receipts, err := front.s.Put(t.Context(), gen.Crate(size).Put(id))
			if err != nil || len(receipts) != 1 || receipts[0].Leaf != back.ids[1-i] {
				t.Errorf("%d bytes that came through leaf %d: %+v, %v", size, i, receipts, err)
			}
		}
	}
	told := 0
	for _, r := range peer.requests() {
		if len(r.Exclude) > 0 {
			told++
			if r.Hops != 2 || !slices.Equal(r.Path, []store.NodeID{front.id}) {
				t.Errorf("a crate with 3 hops goes on with %+v", r)
			}
		} else if r.Hops != router.MaxHops-1 || !slices.Equal(r.Path, []store.NodeID{front.id}) {
			t.Errorf("the space for all is asked for with %+v", r)
		}
	}
	if told == 0 {
		t.Error("no crate said what it had come through")
	}
	if st, err := back.s.Status(t.Context()); err != nil || st.Crates != 4 {
		t.Errorf("the peer behind has %+v, %v", st, err)
	}
	if _, err := front.reserved(store.ReserveRequest{}); !errors.Is(err, store.NoSpace) {
		t.Errorf("what may go no further went on: %v", err)
	}
	back.s.mu.Lock()
	defer back.s.mu.Unlock()
	if n := len(back.s.given); n > 1 {
		t.Errorf("%d reservations are left at the peer behind, beside the space for all", n-1)
	}
}
