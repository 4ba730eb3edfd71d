package router

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"stasis/store"
)

// source gives the bytes of a crate to one node: from its body or, where that is gone
// or wrong, from the nodes that have it, at the rate the node may be sent to.
type source struct {
	r     *Router
	n     *node // that is sent to
	crate store.CrateID
	size  int64
	path  string // of the body to be adopted
	far   bool   // the node is on another machine: what it gets is compared

	mu      sync.Mutex
	failed  error // what went wrong on this side
	body    bool  // the bytes came from the body
	differs bool  // the body's bytes are not those recorded
}

// note keeps the first thing that went wrong on this side, to tell it from what goes
// wrong at the node.
func (s *source) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
}

func (s *source) failure() (body, differs bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.body, s.differs, s.failed
}

// OpenAt is store.Source's.
func (s *source) OpenAt(ctx context.Context, offset int64) (io.ReadCloser, error) {
	rc, err := s.open(ctx, offset)
	if err == nil && s.far {
		rc, err = s.compared(ctx, rc, offset)
	}
	if err != nil {
		s.note(err)
		return nil, err
	}
	s.n.r.mu.Lock()
	rate := s.n.spec.Rate
	s.n.r.mu.Unlock()
	return &sourceReader{s: s, rc: rc, ctx: ctx, rate: rate}, nil
}

// compared has bytes compared with what was recorded. Those of copies are already.
func (s *source) compared(ctx context.Context, rc io.ReadCloser, offset int64) (io.ReadCloser, error) {
	if _, copied := rc.(*copyReader); copied {
		return rc, nil
	}
	m, ok, err := s.r.manifest(s.crate)
	if err == nil && (!ok || !m.Known(store.Plain)) {
		err = &store.Error{Kind: store.Unavailable, Op: "read crate", Subject: s.crate.String(), Detail: "its digests are not recorded"}
	}
	if err != nil {
		return nil, errors.Join(err, rc.Close())
	}
	return newComparing(ctx, s, &m, rc, offset), nil
}

func (s *source) open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	if offset < 0 || offset > s.size || offset%store.BlockSize != 0 {
		return nil, &store.Error{Kind: store.Invalid, Op: "read crate", Subject: s.crate.String(), Detail: "not at a block"}
	}
	rc, err := s.openBody(offset)
	s.fromBody(err == nil)
	if err == nil {
		return rc, nil
	}
	m, ok, merr := s.r.manifest(s.crate)
	for looks := 0; looks < AdoptLooks && merr == nil && ok && !m.Placed() && errors.Is(err, os.ErrNotExist); looks++ {
		// A node is adopting the body, and its receipt is about to be recorded.
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(AdoptPause):
		}
		m, ok, merr = s.r.manifest(s.crate)
	}
	if merr != nil {
		return nil, merr
	}
	if !ok {
		return nil, &store.Error{Kind: store.NotFound, Op: "read crate", Subject: s.crate.String(), Detail: "it is not needed any more"}
	}
	if !m.Known(store.Plain) || !m.Placed() {
		return nil, err // nobody else can have it
	}
	return &copyReader{r: s.r, ctx: ctx, m: m, not: s.n, block: offset / store.BlockSize}, nil
}

// fromBody notes whether what is read, and may fail, is the body.
func (s *source) fromBody(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body = is
}

func (s *source) openBody(offset int64) (io.ReadCloser, error) {
	if s.r.isRotten(s.crate) {
		return nil, &store.Error{Kind: store.Corrupt, Op: "read the body of crate", Subject: s.crate.String()}
	}
	b, err := s.r.o.Bodies.Body(s.crate)
	if err != nil {
		return nil, err
	}
	f, err := b.open()
	if err != nil {
		return nil, &store.Error{Kind: store.Unavailable, Op: "read the body of crate", Subject: s.crate.String(), Err: err}
	}
	if b.Adoptable {
		// It is the crate from end to end: bytes behind it would be a mistake that the store
		// sees.
		_, err := f.Seek(b.Offset+offset, io.SeekStart)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
	return &part{SectionReader: io.NewSectionReader(f, b.Offset+offset, s.size-offset), f: f}, nil
}

// part is a part of a file.
type part struct {
	*io.SectionReader
	f io.Closer
}

func (p *part) Close() error { return p.f.Close() }

// sourceReader keeps the rate, and notes what goes wrong on this side.
type sourceReader struct {
	s    *source
	rc   io.ReadCloser
	ctx  context.Context
	rate int64
}

// pacedRead is how much is read between two looks at the rate, in bytes.
const pacedRead = 64 << 10

func (r *sourceReader) Read(p []byte) (int, error) {
	if r.rate > 0 {
		p = p[:min(len(p), pacedRead)]
	}
	n, err := r.rc.Read(p)
	if err != nil && err != io.EOF && !errors.Is(err, os.ErrClosed) {
		r.s.note(err)
	}
	if perr := r.s.n.pace.wait(r.ctx, n, r.rate); perr != nil && err == nil {
		err = perr
	}
	return n, err
}

func (r *sourceReader) Close() error { return r.rc.Close() }

// copyReader gives a crate from the nodes that have it, each block verified.
type copyReader struct {
	r     *Router
	ctx   context.Context
	m     Manifest
	not   *node // is not asked
	block int64
	rest  []byte
}

func (c *copyReader) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		if c.block >= store.Blocks(c.m.Size) {
			return 0, io.EOF
		}
		b, err := c.r.fetch(c.ctx, &c.m, c.block, c.not, nil)
		if err != nil {
			if b = c.r.fromDisk(&c.m, c.block); b == nil {
				return 0, err
			}
		}
		c.rest = b
		c.block++
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *copyReader) Close() error { return nil }

// hash reads a whole source in the background's share of the processor.
func (r *Router) hash(ctx context.Context, s store.Source, size int64) (store.Checksums, error) {
	rc, err := s.OpenAt(ctx, 0)
	if err != nil {
		return store.Checksums{}, err
	}
	defer rc.Close()
	var h store.Hasher
	buf := make([]byte, min(size, store.BlockSize))
	for left := size; left > 0; {
		n, err := io.ReadFull(rc, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return store.Checksums{}, &store.Error{Kind: store.Unavailable, Op: "read crate", Err: err}
		}
		if err := r.compute(ctx, func() { _, _ = h.Write(buf[:n]) }); err != nil {
			return store.Checksums{}, err
		}
		left -= int64(n)
	}
	return h.Sums(), nil
}

// compute runs f, which computes and does not wait, when one of the places for
// computing in the background is free.
func (r *Router) compute(ctx context.Context, f func()) error {
	select {
	case r.cpu <- struct{}{}:
	case <-ctx.Done():
		return &store.Error{Kind: store.Unavailable, Op: "verify crate", Err: ctx.Err()}
	}
	defer func() { <-r.cpu }()
	f()
	return nil
}

func (r *Router) isRotten(c store.CrateID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, rotten := r.rotten[c]
	return rotten
}

// markRotten has a body not used any more as what nodes are sent: it can't be read or, if differs,
// has other bytes than were recorded.
func (r *Router) markRotten(c store.CrateID, differs bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rotten) < MaxRotten {
		r.rotten[c] = r.rotten[c] || differs
	}
}

// differs reports whether a body was found to have other bytes than were recorded.
func (r *Router) differs(c store.CrateID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rotten[c]
}

// unpaced is a source that is read on this machine, which no rate is meant for.
type unpaced struct{ s *source }

// OpenAt is store.Source's.
func (u unpaced) OpenAt(ctx context.Context, offset int64) (io.ReadCloser, error) {
	return u.s.open(ctx, offset)
}

// bodySource gives the body's bytes alone.
type bodySource struct{ s *source }

// OpenAt is store.Source's.
func (b bodySource) OpenAt(_ context.Context, offset int64) (io.ReadCloser, error) {
	return b.s.openBody(offset)
}
