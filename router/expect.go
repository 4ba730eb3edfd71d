package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"stasis/store"
	"stasis/store/ledger"
)

// What another machine is sent, this one knows. Before the first byte of a crate leaves, its
// bytes are hashed here and the digests recorded and synced; each send compares what it reads
// with them, block by block, and stops before one that differs; and a receipt can only agree.
// So neither a peer nor the way to it can ever say what a crate is.

// expect sees to it that the digests of jobs are recorded, and gives those of which they are.
// The ledger is to be synced before anything is sent. Senders of other nodes wait meanwhile
// for what this one hashes.
func (n *node) expect(ctx context.Context, k class, jobs []*job) (ready []*job, err error) {
	r := n.r
	order := slices.Clone(jobs)
	slices.SortFunc(order, func(a, b *job) int { return bytes.Compare(a.crate[:], b.crate[:]) })
	var unlock []func()
	defer func() {
		for _, u := range unlock {
			u()
		}
	}()
	var hashed []*job
	for _, j := range order {
		if j.m.Known(store.Plain) {
			continue
		}
		u, err := r.hashing.Lock(ctx, j.crate)
		if err != nil {
			return nil, n.unavailable("hash crate", "", err)
		}
		unlock = append(unlock, u)
		m, ok, err := r.manifest(j.crate)
		if err != nil {
			return nil, err
		}
		if j.stale = !ok || m.Retired; j.stale {
			continue
		}
		if j.m = m; m.Known(store.Plain) {
			continue
		}
		if j.sums, j.err = r.hash(ctx, unpaced{j.src}, j.size); j.err != nil {
			j.src.note(j.err)
			continue
		}
		hashed = append(hashed, j)
	}
	if err := r.recordDigests(hashed); err != nil {
		return nil, err
	}
	for _, j := range jobs {
		switch {
		case j.stale: // the next look at the queue takes it out
		case j.err != nil:
			n.fault(ctx, k, j)
		default:
			ready = append(ready, j)
		}
	}
	return ready, nil
}

// recordDigests records the checksums of jobs: those of several blocks in records of their own
// first.
func (r *Router) recordDigests(jobs []*job) error {
	var short []*job
	for _, j := range jobs {
		if j.size <= store.BlockSize {
			short = append(short, j)
			continue
		}
		if err := r.recordLongDigests(j); err != nil {
			return err
		}
	}
	for at := 0; at < len(short); at += r.keys {
		if err := r.recordRoots(short[at:min(at+r.keys, len(short))]); err != nil {
			return err
		}
	}
	return nil
}

func (r *Router) recordLongDigests(j *job) error {
	r.sealing <- struct{}{}
	defer func() { <-r.sealing }()
	// A node's receipt may have come meanwhile, with the same sums.
	m, ok, err := r.manifest(j.crate)
	if err != nil || !ok || m.Known(store.Plain) {
		j.m, j.stale = m, !ok
		return err
	}
	if err := r.recordSums(j.crate, j.sums); err != nil {
		return err
	}
	if err := r.recordRoots([]*job{j}); err != nil || !j.stale {
		return err
	}
	return r.sweepLater(j.crate)
}

// recordRoots writes the roots of at most r.keys crates into their manifests.
func (r *Router) recordRoots(jobs []*job) error {
	_, err := r.shared.Update(func(tx *ledger.Tx) error {
		for _, j := range jobs {
			m, ok, err := manifestTx(tx, j.crate)
			if err != nil {
				return err
			}
			if j.stale = !ok; !ok {
				continue
			}
			if m.know(store.Plain, j.sums) {
				tx.Put(manifestKey(j.crate), m.encode())
			}
			j.m = m
		}
		return nil
	})
	return err
}

// know takes the checksums of a form into the manifest and reports whether it had none.
func (m *Manifest) know(form store.Form, sums store.Checksums) bool {
	f := m.form(form)
	if f == nil {
		m.Forms = append(m.Forms, FormInfo{Form: form, Size: sums.Size})
		f = &m.Forms[len(m.Forms)-1]
	}
	if f.Root != (store.Digest{}) {
		return false
	}
	f.Root = sums.Root()
	if f.single() {
		f.Block = sums.Blocks[0]
	}
	return true
}

// blockBuffers hold a block each, for senders.
var blockBuffers = sync.Pool{New: func() any { b := make([]byte, store.BlockSize); return &b }}

// comparing gives the bytes of a body on, a block at a time, once they are found to be those
// that were recorded: not one byte of another block leaves.
type comparing struct {
	s     *source
	m     *Manifest
	ctx   context.Context
	from  io.ReadCloser
	block int64 // that comes next
	known []store.Digest

	mu   sync.Mutex // Close may come amid a Read
	buf  *[]byte    // nil once it was given back
	rest []byte     // of it
}

func newComparing(ctx context.Context, s *source, m *Manifest, from io.ReadCloser, offset int64) *comparing {
	return &comparing{s: s, m: m, ctx: ctx, from: from, block: offset / store.BlockSize, buf: blockBuffers.Get().(*[]byte)}
}

func (c *comparing) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.rest) == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *comparing) next() (err error) {
	if c.buf == nil {
		return os.ErrClosed
	}
	if c.block >= store.Blocks(c.m.Size) {
		return io.EOF
	}
	if len(c.known) == 0 {
		if c.known, err = c.s.r.digestsFrom(c.m, c.block); err != nil {
			c.s.fromBody(false)
			return err
		}
	}
	b := (*c.buf)[:store.BlockLen(c.m.Size, c.block)]
	if _, err := io.ReadFull(c.from, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return c.s.changed(c.block)
		}
		return err
	}
	var same bool
	if err := c.s.r.compute(c.ctx, func() { same = store.SumBlock(b) == c.known[0] }); err != nil {
		return err
	}
	if !same {
		return c.s.changed(c.block)
	}
	c.known, c.rest = c.known[1:], b
	c.block++
	return nil
}

func (c *comparing) Close() error {
	err := c.from.Close() // which ends a Read that waits
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.buf != nil {
		blockBuffers.Put(c.buf)
		c.buf, c.rest = nil, nil
	}
	return err
}

// changed notes that a body has other bytes than were recorded of it.
func (s *source) changed(block int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.differs = true
	return &store.Error{Kind: store.Corrupt, Op: "read the body of crate", Subject: s.crate.String(), Detail: fmt.Sprintf("block %d is not what was recorded", block)}
}
