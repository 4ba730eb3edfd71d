package depot

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"stasis/router"
	"stasis/store"
)

// way is what a crate's sender allows for it beyond this depot: so many further peers one
// after the other, none of which are to keep it at the barred places.
type way struct {
	hops   int
	barred []store.NodeID
}

func (w way) equal(o way) bool { return w.hops == o.hops && slices.Equal(w.barred, o.barred) }

// plain reports whether a crate goes as one that came from a vault: under the space that is
// held for all such, of which a peer is told that it came through this depot and no other.
func (w way) plain() bool { return w.hops >= router.MaxHops }

// hopsOf is through how many further peers something may go. What came through a peer has
// at least one behind it.
func hopsOf(r store.ReserveRequest) int {
	most := router.MaxHops
	if len(r.Path) > 0 {
		most--
	}
	return min(r.Hops, most)
}

// originOf is what stands in a manifest as its origin: the form of a crate, and through how
// many further peers it may go.
func originOf(f store.Form, hops int) uint64 { return uint64(f) | uint64(hops+1)<<8 }

func formOf(m *router.Manifest) store.Form { return store.Form(m.Origin & 0xff) }

// wayOf is how a crate may go on. What is recorded without it came before it was recorded.
func wayOf(m *router.Manifest) way {
	hops := int(m.Origin>>8) - 1
	switch {
	case hops < 0 && len(m.Barred) == 0:
		hops = router.MaxHops
	case hops < 0:
		hops = 1
	}
	return way{hops, m.Barred}
}

// onward is a peer as the router gets it. The router holds space there for all crates at
// once, and asks for it in the name of this depot alone: what one sender says of paths and
// hops is not in it. A crate that has come through other peers goes by a reservation of its
// own, which says all that its sender has said, and binds nothing else.
type onward struct {
	store.Store
	s *Store

	mu   sync.Mutex
	last store.ReserveRequest // for all crates
}

var (
	_ store.Batcher    = (*onward)(nil)
	_ store.Fencer     = (*onward)(nil)
	_ store.Teller     = (*onward)(nil)
	_ store.Unverified = (*onward)(nil)
)

// onwards has the router get the peers among the nodes so.
func (s *Store) onwards(specs []router.NodeSpec) []router.NodeSpec {
	out := slices.Clone(specs)
	for i := range out {
		if router.Local(out[i].Kind) {
			continue
		}
		open := out[i].Open
		out[i].Open = func(ctx context.Context, want store.NodeID) (store.Store, error) {
			st, err := open(ctx, want)
			if err != nil {
				return nil, err
			}
			return &onward{Store: st, s: s}, nil
		}
	}
	return out
}

// Reserve is store.Store's.
func (o *onward) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	o.mu.Lock()
	o.last = r
	o.mu.Unlock()
	return o.Store.Reserve(ctx, r)
}

// way is how a crate may go on.
func (o *onward) way(id store.CrateID) (way, error) {
	m, err := o.s.router.Manifest(id)
	return wayOf(&m), err
}

// reserve asks for the space of crates that go the same way, under an id of their own.
func (o *onward) reserve(ctx context.Context, id store.ReservationID, w way, bytes int64) error {
	if w.hops <= 0 {
		return &store.Error{Kind: store.Invalid, Op: opPut, Detail: "its sender allows no further peer"}
	}
	o.mu.Lock()
	r := o.last
	o.mu.Unlock()
	r.ID, r.Holder, r.Bytes, r.Lease = id, o.s.o.Owner, bytes, store.DefaultLease
	r.Path = []store.NodeID{o.s.o.ID}
	r.Hops = w.hops - 1
	r.Exclude = slices.Clone(r.Exclude)
	for _, b := range w.barred {
		if !slices.Contains(r.Exclude, b) && len(r.Exclude) < maxIDs {
			r.Exclude = append(r.Exclude, b)
		}
	}
	_, err := o.Store.Reserve(ctx, r)
	return err
}

// own makes an error about a reservation for a few crates one about these: the space that
// is held for all others is not in question. A put that waits for one of them hears of it.
func (o *onward) own(id store.CrateID, err error) error {
	if k := store.KindOf(err); k != store.NoSpace && k != store.Quota && k != store.NotFound && k != store.Invalid {
		return err
	}
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	if a := o.s.puts[id]; a != nil {
		a.refused[o] = err
		select {
		case a.news <- struct{}{}:
		default:
		}
	}
	return &store.Error{Kind: store.Invalid, Op: opPut, Subject: id.String(), Detail: "the peer has no place for it beside those that it came through", Err: err}
}

func (o *onward) release(ctx context.Context, id store.ReservationID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	if err := o.Store.Release(ctx, id); err != nil {
		o.s.log.WithError(err).Debug("the space of a crate that was passed on is not given back yet; it lapses")
	}
}

// Put is store.Store's.
func (o *onward) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	w, err := o.way(r.Crate)
	if err != nil || w.plain() {
		return o.Store.Put(ctx, r)
	}
	// The crate's id names the reservation, so that a transfer that broke off goes on under it.
	id := store.ReservationID(r.Crate)
	if err := o.reserve(ctx, id, w, store.Charge(r.Size)); err != nil {
		return nil, o.own(r.Crate, err)
	}
	r.Reservation = id
	receipts, err := o.Store.Put(ctx, r)
	if !errors.Is(err, store.Unavailable) {
		o.release(ctx, id)
	}
	return receipts, o.own(r.Crate, err)
}

// PutBatch is store.Batcher's.
func (o *onward) PutBatch(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	out := make([]store.PutResult, len(rs))
	var ways []way
	var of [][]int
	for i := range rs {
		w, err := o.way(rs[i].Crate)
		if err != nil || w.plain() {
			w = way{hops: router.MaxHops}
		}
		k := slices.IndexFunc(ways, w.equal)
		if k < 0 {
			k = len(ways)
			ways, of = append(ways, w), append(of, nil)
		}
		of[k] = append(of[k], i)
	}
	for k, w := range ways {
		o.putSome(ctx, w, rs, of[k], out)
	}
	return out
}

// putSome puts those of a batch that go the same way.
func (o *onward) putSome(ctx context.Context, w way, rs []store.PutRequest, which []int, out []store.PutResult) {
	part := make([]store.PutRequest, len(which))
	bytes := int64(0)
	for k, i := range which {
		part[k] = rs[i]
		bytes += store.Charge(rs[i].Size)
	}
	if !w.plain() {
		id := store.NewReservationID()
		if err := o.reserve(ctx, id, w, bytes); err != nil {
			for _, i := range which {
				out[i].Err = o.own(rs[i].Crate, err)
			}
			return
		}
		defer o.release(ctx, id)
		for k := range part {
			part[k].Reservation = id
		}
	}
	for k, res := range o.putAll(ctx, part) {
		if !w.plain() {
			res.Err = o.own(part[k].Crate, res.Err)
		}
		out[which[k]] = res
	}
}

func (o *onward) putAll(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	if b, ok := o.Store.(store.Batcher); ok {
		return b.PutBatch(ctx, rs)
	}
	out := make([]store.PutResult, len(rs))
	for i := range rs {
		out[i].Receipts, out[i].Err = o.Store.Put(ctx, rs[i])
	}
	return out
}

// Fence is store.Fencer's; nothing where the store admits everybody.
func (o *onward) Fence(ctx context.Context, known []store.Token, next store.Token, takeOver bool) error {
	if f, ok := o.Store.(store.Fencer); ok {
		return f.Fence(ctx, known, next, takeOver)
	}
	return nil
}

// Events is store.Teller's; none come where the store tells nothing.
func (o *onward) Events(ctx context.Context, after store.Cursor, give func(store.Event) error) error {
	if t, ok := o.Store.(store.Teller); ok {
		return t.Events(ctx, after, give)
	}
	<-ctx.Done()
	return &store.Error{Kind: store.Unavailable, Op: "follow events", Err: context.Cause(ctx)}
}

// OpenUnverified is store.Unverified's.
func (o *onward) OpenUnverified(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	return store.OpenUnverified(ctx, o.Store, id, offset, length)
}
