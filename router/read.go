package router

import (
	"context"
	"fmt"
	"io"
	"time"

	"stasis/store"
)

const opRead = "read crate"

// ReadAt fills p from a crate, from off on; io.EOF, with what there was, at its end.
// Any surviving copy serves; a node that fails or dawdles costs a bounded delay, after
// which the next is asked, and the whole at most ReadLimit, or NearReadLimit while a local
// node is busy with it. NotFound if the crate is not
// registered, or every node that had it says that it has it no more; Corrupt if all have
// it wrong; else Unavailable.
func (r *Router) ReadAt(ctx context.Context, id store.CrateID, p []byte, off int64) (int, error) {
	m, err := r.Manifest(id)
	if err != nil {
		return 0, err
	}
	if off < 0 || off > m.Size {
		return 0, &store.Error{Kind: store.Invalid, Op: opRead, Subject: id.String(), Detail: fmt.Sprintf("at %d of %d bytes", off, m.Size)}
	}
	ctx, cancel := context.WithTimeout(ctx, NearReadLimit)
	defer cancel()
	until := time.Now().Add(ReadLimit)
	var end error
	if left := m.Size - off; int64(len(p)) > left {
		p, end = p[:left], io.EOF
	}
	n := 0
	for n < len(p) {
		if n == 0 {
			r.begin(&m, off, int64(len(p)))
		}
		block, in := (off+int64(n))/store.BlockSize, (off+int64(n))%store.BlockSize
		b, err := r.block(ctx, &m, block, until)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], b[in:])
	}
	return n, end
}

// begin has all blocks of a range fetched at the same time, some at most.
func (r *Router) begin(m *Manifest, off, length int64) {
	first, last := off/store.BlockSize, (off+length-1)/store.BlockSize
	if first == last {
		return
	}
	for i := first; i <= min(last, first+ReadAhead); i++ {
		r.ahead(m, i)
	}
}

// block gives one block of a crate, verified, which nobody may change. Past until it is
// waited for only while a local node is busy with it.
func (r *Router) block(ctx context.Context, m *Manifest, i int64, until time.Time) ([]byte, error) {
	k := blockKey{Crate: m.Crate, Block: i}
	data, f, mine := r.blocks.begin(k)
	if mine {
		r.load(m, k, f)
	}
	if run, readers := r.blocks.follow(m.Crate, i); run > 0 {
		r.readAhead(m, i, run, readers)
	}
	if data != nil {
		return data, nil
	}
	// The fetch goes on while bytes come in: who asks again may find it done.
	late := func(why error) error {
		return &store.Error{Kind: store.Unavailable, Op: opRead, Subject: m.Crate.String(), Detail: "no node gave it in time", Err: why}
	}
	for wait := time.Until(until); ; wait = NearLook {
		t := time.NewTimer(max(wait, 0))
		select {
		case <-f.done:
			t.Stop()
			return f.data, f.err
		case <-ctx.Done():
			t.Stop()
			return nil, late(ctx.Err())
		case <-t.C:
			if !f.busy.Load() {
				return nil, late(context.DeadlineExceeded)
			}
		}
	}
}

// readAhead fetches the blocks behind i, of which the last run were read in order.
func (r *Router) readAhead(m *Manifest, i int64, run, readers int) {
	if i+1 >= store.Blocks(m.Size) {
		return
	}
	room := r.o.CacheBytes / store.BlockSize / 2 / int64(max(1, readers)) // else they go before they are read
	depth := min(int64(r.depth(m)), room, 1<<min(run, 10))
	end := min(i+depth+1, store.Blocks(m.Size))
	most := depth / 2 // while one run is read, the next one comes
	if most < RunLeast {
		for j := i + 1; j < end; j++ {
			r.ahead(m, j)
		}
		return
	}
	first := r.blocks.lacks(m.Crate, i+1, end)
	if end-first >= most || end == store.Blocks(m.Size) {
		r.runAhead(m, first, end, most)
	}
}

// ahead fetches a block that somebody is going to want; who reads it finds out how it went.
func (r *Router) ahead(m *Manifest, i int64) {
	k := blockKey{Crate: m.Crate, Block: i}
	if _, f, mine := r.blocks.begin(k); mine {
		r.load(m, k, f)
	}
}

// load fetches a block in the background, for all who wait for it.
func (r *Router) load(m *Manifest, k blockKey, f *fetching) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.background(func() {
		ctx, cancel := context.WithTimeout(r.ctx, FetchLimit)
		defer cancel()
		data, err := r.loadNow(ctx, m, k, f)
		r.blocks.end(k, f, data, err)
	})
}

func (r *Router) loadNow(ctx context.Context, m *Manifest, k blockKey, on *fetching) ([]byte, error) {
	cached := r.disk != nil && m.Known(store.Plain) && !r.near(m)
	if cached {
		if data := r.fromDisk(m, k.Block); data != nil {
			return data, nil
		}
	}
	data, err := r.fetch(ctx, m, k.Block, nil, on)
	if err == nil && cached {
		r.disk.Put(k, data)
	}
	return data, err
}

// fromDisk gives a block from the cache on disk, verified; nil if it is not there.
func (r *Router) fromDisk(m *Manifest, i int64) []byte {
	if r.disk == nil || !m.Known(store.Plain) {
		return nil
	}
	k := blockKey{Crate: m.Crate, Block: i}
	data := r.disk.Get(k, store.BlockLen(m.Size, i))
	if data == nil {
		return nil
	}
	want, err := r.digest(m, i)
	if err != nil || store.SumBlock(data) != want {
		r.disk.Drop(k)
		return nil
	}
	return data
}

// near reports whether a local node that answers has a crate: it is not worth a place in
// the cache on disk then.
func (r *Router) near(m *Manifest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.nodes {
		if n.online() == nil || !n.configured || !local(n.spec.Kind) {
			continue
		}
		if d := m.Destination(n.id); d != nil && d.State == Verified {
			return true
		}
	}
	return false
}

// spare reports whether the cache may drop blocks of a crate: it is dead, or has a copy.
func (r *Router) spare(c store.CrateID) bool {
	m, ok, err := r.manifest(c)
	return err == nil && (!ok || m.Copies() > 0)
}
