package depot

import (
	"context"
	"io"
	"slices"
	"sync"

	"stasis/router"
	"stasis/store"
	"stasis/store/blocks"
)

const (
	opRead    = "open crate"
	opVerify  = "verify crate"
	opDiscard = "discard crate"
)

// held gives the manifest of a crate that must be there.
func (s *Store) held(op string, id store.CrateID) (router.Manifest, error) {
	m, there, err := s.find(id)
	if err == nil && !there {
		err = &store.Error{Kind: store.NotFound, Op: op, Subject: id.String()}
	}
	return m, err
}

// Open is store.Store's. Any copy serves.
func (s *Store) Open(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	leave, err := s.enter(ctx, opRead)
	if err != nil {
		return nil, err
	}
	defer leave()
	m, err := s.held(opRead, id)
	if err != nil {
		return nil, err
	}
	if length, err = blocks.Range(opRead, id, m.Size, offset, length); err != nil {
		return nil, err
	}
	r := &reader{s: s, id: id, at: offset, end: offset + length}
	r.ctx, r.cancel = context.WithCancel(ctx)
	if length > 0 {
		// The first bytes now, so that what can't be read is told of here.
		if _, err := r.fill(); err != nil {
			r.cancel()
			return nil, err
		}
	}
	return r, nil
}

// reader gives a range of a crate, a block at a time. Read and Close may be called from
// different goroutines.
type reader struct {
	s      *Store
	id     store.CrateID
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	at, end int64 // of what follows rest
	buf     []byte
	rest    []byte
	err     error // sticks
	closed  bool
}

// fill reads on when nothing is left. Called with mu held, or before anybody has the reader.
func (r *reader) fill() ([]byte, error) {
	switch {
	case r.closed:
		return nil, &store.Error{Kind: store.Invalid, Op: opRead, Subject: r.id.String(), Detail: "read after close"}
	case r.err != nil:
		return nil, r.err
	case len(r.rest) > 0:
		return r.rest, nil
	case r.at >= r.end:
		return nil, io.EOF
	}
	n := min(r.end-r.at, store.BlockSize-r.at%store.BlockSize)
	if r.buf == nil {
		r.buf = make([]byte, min(r.end-r.at, store.BlockSize))
	}
	leave, err := r.s.enter(r.ctx, opRead)
	if err == nil {
		n, err = r.read(n)
		leave()
	}
	if err != nil {
		r.err = err
		return nil, err
	}
	r.rest = r.buf[:n]
	r.at += n
	return r.rest, nil
}

func (r *reader) read(n int64) (int64, error) {
	got, err := r.s.router.ReadAt(r.ctx, r.id, r.buf[:n], r.at)
	if err == io.EOF && int64(got) == n {
		err = nil
	}
	return int64(got), err
}

// Read gives verified bytes.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rest, err := r.fill()
	if err != nil {
		return 0, err
	}
	n := copy(p, rest)
	r.rest = rest[n:]
	return n, nil
}

// WriteTo spares the copy that Read makes.
func (r *reader) WriteTo(w io.Writer) (total int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		rest, err := r.fill()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(rest)
		total += int64(n)
		r.rest = rest[n:]
		if err != nil {
			return total, err
		}
	}
}

// Close ends it.
func (r *reader) Close() error {
	r.cancel() // ends a read under way
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}

// Verify is store.Store's: every leaf that can be reached reads its copy.
func (s *Store) Verify(ctx context.Context, id store.CrateID, offset, length int64, nonce store.Digest) (store.Digest, error) {
	leave, err := s.enter(ctx, opVerify)
	if err != nil {
		return store.Digest{}, err
	}
	defer leave()
	m, err := s.held(opVerify, id)
	if err != nil {
		return store.Digest{}, err
	}
	if length, err = blocks.Range(opVerify, id, m.Size, offset, length); err != nil {
		return store.Digest{}, err
	}
	return s.router.Prove(ctx, id, offset, length, nonce)
}

// Stat is store.Store's.
func (s *Store) Stat(ctx context.Context, id store.CrateID) (store.CrateInfo, error) {
	leave, err := s.enter(ctx, "stat crate")
	if err != nil {
		return store.CrateInfo{}, err
	}
	defer leave()
	m, err := s.held("stat crate", id)
	if err != nil {
		return store.CrateInfo{}, err
	}
	return info(&m), nil
}

// Discard is store.Store's. Nodes that don't answer do it when they are back.
func (s *Store) Discard(ctx context.Context, r store.DiscardRequest) error {
	leave, err := s.enter(ctx, opDiscard)
	if err != nil {
		return err
	}
	defer leave()
	unlock, err := s.crates.Lock(ctx, r.Crate)
	if err != nil {
		return blocks.Ended(opDiscard, r.Crate, err)
	}
	defer unlock()
	m, there, err := s.find(r.Crate)
	if err != nil {
		return err
	}
	if err := s.router.Forget(ctx, r.Crate); err != nil {
		return err
	}
	if there {
		s.book.Freed(store.Charge(m.Size))
	}
	return nil
}

// List is store.Store's. The cursor is the last id of the page before.
func (s *Store) List(ctx context.Context, cursor []byte) (page store.Page, err error) {
	leave, err := s.enter(ctx, "list crates")
	if err != nil {
		return page, err
	}
	defer leave()
	var last store.CrateID
	if cursor != nil && copy(last[:], cursor) != len(cursor) || cursor != nil && len(cursor) != len(last) {
		return page, &store.Error{Kind: store.Invalid, Op: "list crates", Detail: "the cursor is not one of this store's"}
	}
	for {
		ms, err := s.router.Manifests(last, pageCrates)
		if err != nil {
			return page, err
		}
		for i := range ms {
			if !visible(&ms[i]) {
				continue
			}
			if len(page.Crates) == store.MaxPage {
				id := page.Crates[store.MaxPage-1].ID
				page.Next = id[:]
				return page, nil
			}
			page.Crates = append(page.Crates, info(&ms[i]))
		}
		if len(ms) < pageCrates {
			return page, nil
		}
		last = ms[len(ms)-1].Crate
	}
}

// Status is store.Store's. Free is what every node could promise that one reservation would
// lie on. Unavailable if no node answers.
func (s *Store) Status(ctx context.Context) (store.Status, error) {
	const op = "tell the status"
	leave, err := s.enter(ctx, op)
	if err != nil {
		return store.Status{}, err
	}
	defer leave()
	if err := s.book.Bury(ctx); err != nil { // what has lapsed holds nothing
		return store.Status{}, err
	}
	u, err := s.book.Usage(ctx)
	if err != nil {
		return store.Status{}, err
	}
	out := store.Status{Leaf: s.o.ID, Durable: true, Leaves: 1, Used: u.Used, Reserved: u.Reserved, Crates: u.Crates}
	var free []int64
	bounded := true
	for _, n := range s.router.StatusNear(ctx) {
		if !n.Configured || !n.Durable {
			continue
		}
		out.Leaves++
		out.Damage += n.Damage
		out.Capacity += n.Capacity
		bounded = bounded && n.Capacity > 0
		if n.State == router.Online || n.State == router.Full {
			free = append(free, n.Free)
		}
	}
	if len(free) == 0 {
		return store.Status{}, &store.Error{Kind: store.Unavailable, Op: op, Subject: "of the depot", Detail: "none of its nodes answers"}
	}
	copies := s.policyOf(terms{}).Copies
	if out.Capacity /= int64(copies); !bounded {
		out.Capacity = 0
	}
	slices.Sort(free)
	slices.Reverse(free)
	out.Free = free[min(copies, len(free))-1]
	return out, nil
}
