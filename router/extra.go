package router

import (
	"context"
	"time"

	"stasis/store"
)

// offer suggests a crate that was just placed to the memory nodes. They may have more to
// do than they can: then it is not copied.
func (r *Router) offer(c store.CrateID, size int64) {
	if size > ExtraMax {
		return
	}
	select {
	case r.extras <- c:
	default:
	}
}

// extraLoop copies crates to a node that keeps nothing for good. Such copies are not
// recorded and never count; reads are served from them while they last.
func (n *node) extraLoop(ctx context.Context) {
	look := time.NewTicker(ExtraSweep)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-n.r.extras:
			if !n.away() {
				n.copyExtra(ctx, c)
			}
		case <-look.C:
			n.sweepExtras(ctx)
		}
	}
}

// copyExtra makes one such copy, if there is room.
func (n *node) copyExtra(ctx context.Context, c store.CrateID) {
	r := n.r
	m, ok, err := r.manifest(c)
	if err != nil || !ok || !m.Known(store.Plain) {
		return
	}
	r.mu.Lock()
	h := n.online()
	r.mu.Unlock()
	root := m.form(store.Plain).Root
	_, err = call(ctx, n, h, ExtraLimit, "copy crate", func(ctx context.Context, st store.Store) (struct{}, error) {
		id := store.NewReservationID()
		_, err := st.Reserve(ctx, store.ReserveRequest{ID: id, Holder: r.o.Owner, Bytes: store.Charge(m.Size), Lease: time.Minute})
		if err != nil {
			return struct{}{}, err
		}
		src := &source{r: r, n: n, crate: c, size: m.Size}
		_, err = st.Put(ctx, store.PutRequest{Reservation: id, Crate: c, Size: m.Size, Source: src, Expect: &root})
		if e := st.Release(ctx, id); err == nil {
			err = e
		}
		return struct{}{}, err
	}, nil)
	if err != nil {
		return // it is an extra, and what is full or gone is said by the status
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n.extras[c] = struct{}{}
}

// sweepExtras discards extra copies of crates that are dead.
func (n *node) sweepExtras(ctx context.Context) {
	r := n.r
	r.mu.Lock()
	have := make([]store.CrateID, 0, len(n.extras))
	for c := range n.extras {
		have = append(have, c)
	}
	r.mu.Unlock()
	for _, c := range have {
		dead := func() (bool, error) {
			_, ok, err := r.manifest(c)
			return !ok, err
		}
		if still, err := dead(); err != nil || !still {
			continue
		}
		if gone, _ := n.discardOne(ctx, c, dead); !gone {
			return // it is tried again with the next look
		}
		r.mu.Lock()
		delete(n.extras, c)
		r.mu.Unlock()
	}
}
