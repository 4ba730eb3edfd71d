package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"stasis/store"
)

// foretell finds out what bytes a node that is not on this machine must get, if nobody
// knows yet: else what was spoilt on its way would be recorded as right. They are hashed
// in the same read that sends them, and the receipt is compared. A crate that may lie at
// the node in part is hashed before: without the digest the node would begin anew.
func (n *node) foretell(ctx context.Context, k class, j *job) {
	if j.m.Known(store.Plain) {
		return
	}
	r := n.r
	r.mu.Lock()
	root, known := r.foretold[j.crate]
	_, partly := n.partly[j.crate]
	// What was queued before the start may have been begun then.
	whole := !known && k == large && !partly && j.queued.After(r.begun) && len(n.partly) < MaxForetold
	if whole {
		n.partly[j.crate] = struct{}{}
	}
	r.mu.Unlock()
	if !known && !whole {
		sums, err := r.hash(ctx, unpaced{j.src}, j.size)
		if known = err == nil; known { // else the source most likely fails again when the node reads it
			root = sums.Root()
			r.remember(j.crate, root)
		}
	}
	if known {
		j.foretold = &root
	} else {
		j.src.learnt = newLearnt(j.size)
	}
}

// remember keeps a digest for all nodes and attempts.
func (r *Router) remember(c store.CrateID, root store.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.foretold) < MaxForetold {
		r.foretold[c] = root
	}
}

// forget drops what was foretold of crates that have a receipt, or came out differently.
func (r *Router) forget(jobs []*job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, j := range jobs {
		if j.err == nil || store.KindOf(j.err) == store.Corrupt {
			delete(r.foretold, j.crate)
		}
	}
}

// confirm sees to it that the receipts of a crate whose digest nobody knew before have that
// of what was sent. A copy that is another is given up.
func (j *job) confirm(ctx context.Context, st store.Store, res store.PutResult) store.PutResult {
	if res.Err != nil || j.src.learnt == nil {
		return res
	}
	root, err := j.src.Digest(ctx)
	if err != nil {
		return store.PutResult{Err: err}
	}
	for _, rc := range res.Receipts {
		if rc.Sums.Root() == root {
			continue
		}
		err := st.Discard(ctx, store.DiscardRequest{Crate: j.crate, Holder: j.src.r.o.Owner})
		return store.PutResult{Err: &store.Error{Kind: store.Corrupt, Op: "push crate", Subject: j.crate.String(),
			Detail: fmt.Sprintf("leaf %s has other bytes than were sent", rc.Leaf), Err: err}}
	}
	return res
}

// learnt is what has been learnt of a crate while its bytes were sent: the digests of the
// blocks that went by, each zero until then.
type learnt struct {
	mu     sync.Mutex
	size   int64
	blocks []store.Digest
	differ bool // a block had other bytes when it was read again
}

func newLearnt(size int64) *learnt {
	return &learnt{size: size, blocks: make([]store.Digest, store.Blocks(size))}
}

func (l *learnt) put(i int64, d store.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.differ = l.differ || l.blocks[i] != (store.Digest{}) && l.blocks[i] != d
	l.blocks[i] = d
}

// missing is the first block that has not gone by, -1 if all have.
func (l *learnt) missing() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, d := range l.blocks {
		if d == (store.Digest{}) {
			return int64(i)
		}
	}
	return -1
}

// Digest is wire.Digester's: that of all bytes, of which those that were not sent yet are
// read now.
func (s *source) Digest(ctx context.Context) (store.Digest, error) {
	l := s.learnt
	if l == nil {
		return store.Digest{}, &store.Error{Kind: store.Invalid, Op: "hash crate", Subject: s.crate.String(), Detail: "it is not hashed while it is sent"}
	}
	for i := l.missing(); i >= 0; i = l.missing() {
		if err := s.learn(ctx, i); err != nil {
			s.note(err)
			return store.Digest{}, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.differ {
		return store.Digest{}, &store.Error{Kind: store.Corrupt, Op: "push crate", Subject: s.crate.String(), Detail: "its source gave other bytes when it was read again"}
	}
	root := store.Checksums{Size: l.size, Blocks: l.blocks}.Root()
	s.r.remember(s.crate, root)
	return root, nil
}

// learn reads from a block on up to the next that has gone by.
func (s *source) learn(ctx context.Context, first int64) error {
	rc, err := s.open(ctx, first*store.BlockSize)
	if err != nil {
		return err
	}
	defer rc.Close()
	p := make([]byte, store.BlockSize)
	for i := first; i < store.Blocks(s.size) && s.learnt.missing() == i; i++ {
		p = p[:store.BlockLen(s.size, i)]
		if _, err := io.ReadFull(rc, p); err != nil {
			return &store.Error{Kind: store.Unavailable, Op: "read crate", Subject: s.crate.String(), Err: err}
		}
		if err := s.r.compute(ctx, func() { s.learnt.put(i, store.SumBlock(p)) }); err != nil {
			return err
		}
	}
	return nil
}

// hashing gives what it reads on and learns its digests.
type hashing struct {
	io.ReadCloser
	s   *source
	ctx context.Context
	at  int64 // in the crate, of what is read next
	h   store.Hasher
}

func (r *hashing) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if n == 0 || err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	if e := r.s.r.compute(r.ctx, func() { r.learn(p[:n]) }); e != nil {
		return 0, e
	}
	return n, err
}

// learn hashes the bytes that follow. What is behind the end is no business of the digest's:
// whoever reads it finds it too much.
func (r *hashing) learn(p []byte) {
	p = p[:min(int64(len(p)), r.s.size-r.at)]
	for len(p) > 0 {
		i := r.at / store.BlockSize
		end := i*store.BlockSize + store.BlockLen(r.s.size, i)
		part := p[:min(int64(len(p)), end-r.at)]
		_, _ = r.h.Write(part) // never fails
		r.at += int64(len(part))
		p = p[len(part):]
		if r.at == end {
			d := r.h.Sums().Blocks
			r.s.learnt.put(i, d[len(d)-1])
		}
	}
}
