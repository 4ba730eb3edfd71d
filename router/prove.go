package router

import (
	"context"
	"fmt"
	"io"

	"github.com/zeebo/blake3"

	"stasis/store"
)

// proof is what every copy of one crate has to prove in a check: BLAKE3 over its bytes,
// keyed with a nonce that nobody can have known. A peer that only says that it has them
// can't give it.
type proof struct {
	nonce store.Digest
	want  *store.Digest // nil: not known yet
}

// verify has a node read one copy and compares what it proves. Stores on this machine are
// believed, as it is this program that reads there; so are bytes that a peer sends and that
// are those recorded, which is how the first copy is looked at where no other is near.
func (c *checker) verify(ctx context.Context, l *listing, m *Manifest, p *proof) error {
	near := local(l.kind)
	prove := func(ctx context.Context, st store.Store) (store.Digest, error) {
		if !near && p.want == nil {
			return c.r.proveSent(ctx, st, m, p.nonce)
		}
		return st.Verify(ctx, m.Crate, 0, m.Size, p.nonce)
	}
	got, err := call(ctx, l.n, l.h, VerifyLimit+sendLimit(m.Size, 0), "verify crate", prove, nil)
	switch {
	case err != nil:
		return err
	case p.want == nil:
		p.want = &got
	case got != *p.want:
		return &store.Error{Kind: store.Corrupt, Op: "verify crate", Subject: m.Crate.String(), Detail: "the node could not prove that it has it"}
	}
	return nil
}

// proveSent fetches a crate from a node and gives the proof of it.
func (r *Router) proveSent(ctx context.Context, st store.Store, m *Manifest, nonce store.Digest) (store.Digest, error) {
	rc, err := store.OpenUnverified(ctx, st, m.Crate, 0, m.Size)
	if err != nil {
		return store.Digest{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = rc.Close() }) // ends a read that hangs
	defer func() { stop(); _ = rc.Close() }()
	return r.proveBytes(rc, m, nonce)
}

// refuted reports whether what a node gave as its proof of a crate is wrong by the source of
// that crate. Where there is no source with the right bytes it can't be told, and is not.
func (r *Router) refuted(ctx context.Context, j *job, nonce, got store.Digest) bool {
	rc, err := unpaced{j.src}.OpenAt(ctx, 0)
	if err != nil {
		return false
	}
	defer rc.Close()
	want, err := r.proveBytes(rc, &j.m, nonce)
	return err == nil && got != want
}

// proveBytes gives the proof of a crate from its bytes. Corrupt if a block is not the one
// that was recorded.
func (r *Router) proveBytes(from io.Reader, m *Manifest, nonce store.Digest) (d store.Digest, err error) {
	h, err := blake3.NewKeyed(nonce[:])
	if err != nil {
		return d, err // a key of another length, which the type excludes
	}
	buf := make([]byte, min(m.Size, store.BlockSize))
	for i := range store.Blocks(m.Size) {
		b := buf[:store.BlockLen(m.Size, i)]
		if _, err := io.ReadFull(from, b); err != nil {
			if store.KindOf(err) == 0 {
				err = &store.Error{Kind: store.Unavailable, Op: opRead, Subject: m.Crate.String(), Detail: "its stream broke off", Err: err}
			}
			return d, err
		}
		want, err := r.digest(m, i)
		if err != nil {
			return d, err
		}
		if store.SumBlock(b) != want {
			return d, &store.Error{Kind: store.Corrupt, Op: opRead, Subject: m.Crate.String(), Detail: fmt.Sprintf("block %d is wrong", i)}
		}
		_, _ = h.Write(b) // never fails
	}
	h.Sum(d[:0])
	return d, nil
}
