package router

import (
	"context"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// fileIdentity is what a file must still be to count as verified.
type fileIdentity struct {
	dev, ino  uint64
	size      int64
	sec, nsec int64 // of the last change of the inode
	leaf      store.NodeID
}

// verifiedFiles remembers which files were read and verified in full.
type verifiedFiles struct {
	mu   sync.Mutex
	seen map[store.CrateID]fileIdentity
	busy bool // a large one is being verified in the background
}

func (v *verifiedFiles) has(c store.CrateID, id fileIdentity) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	was, ok := v.seen[c]
	return ok && was == id
}

func (v *verifiedFiles) add(c store.CrateID, id fileIdentity) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.seen == nil {
		v.seen = make(map[store.CrateID]fileIdentity)
	}
	for k := range v.seen {
		if len(v.seen) < VerifiedFiles {
			break
		}
		delete(v.seen, k) // any: it is verified anew when it is next asked for
	}
	v.seen[c] = id
}

const opFile = "open the file of crate"

// File opens the file in which a local node keeps a crate from its first byte to its
// last, verified in full and unchanged since. It must not be written. NotFound if there is
// no such file; Unavailable if it is being verified first: ReadAt serves meanwhile.
func (r *Router) File(ctx context.Context, id store.CrateID) (*os.File, error) {
	m, err := r.Manifest(id)
	if err != nil {
		return nil, err
	}
	none := &store.Error{Kind: store.NotFound, Op: opFile, Subject: id.String(), Detail: "no local node keeps it as a file"}
	if !m.Known(store.Plain) {
		return nil, none
	}
	for _, c := range r.candidates(&m, nil) {
		if _, ok := c.h.st.(store.Filer); !ok || !c.verified {
			continue
		}
		f, err := call(ctx, c.n, c.h, HedgeAfter, opFile, func(ctx context.Context, st store.Store) (*os.File, error) {
			return st.(store.Filer).File(ctx, id)
		}, func(f *os.File, err error) {
			if err == nil {
				_ = f.Close() // too late
			}
		})
		if err != nil {
			r.doubt(c.n, &m, err)
			continue
		}
		if err := r.vouch(ctx, c.n, &m, f); err != nil {
			_ = f.Close() // nobody is to have it
			if store.KindOf(err) == store.Unavailable {
				return nil, err
			}
			r.doubt(c.n, &m, err)
			continue
		}
		return f, nil
	}
	return nil, none
}

// vouch makes sure that a file is the crate.
func (r *Router) vouch(ctx context.Context, n *node, m *Manifest, f *os.File) error {
	id, err := identify(n, f)
	if err != nil {
		return err
	}
	if id.size != m.Size {
		return &store.Error{Kind: store.Corrupt, Op: opFile, Subject: m.Crate.String(), Detail: "it has another size"}
	}
	if r.files.has(m.Crate, id) {
		return nil
	}
	if m.Size <= VerifyAtOnce {
		return r.verifyFile(ctx, n, m, f, id)
	}
	r.verifyLater(n, m, f.Name(), id)
	return &store.Error{Kind: store.Unavailable, Op: opFile, Subject: m.Crate.String(), Detail: "it is being verified first"}
}

func identify(n *node, f *os.File) (fileIdentity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fileIdentity{}, &store.Error{Kind: store.Unavailable, Op: opFile, Subject: f.Name(), Err: err}
	}
	return fileIdentity{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, sec: int64(st.Ctim.Sec), nsec: int64(st.Ctim.Nsec), leaf: n.nodeID()}, nil
}

// verifyFile reads a file in full. What it was before is compared with what it is
// after, so that a change under way is seen.
func (r *Router) verifyFile(ctx context.Context, n *node, m *Manifest, f *os.File, before fileIdentity) error {
	sums, err := r.sums(m)
	if err != nil {
		return err
	}
	buf := make([]byte, min(m.Size, store.BlockSize))
	for i := range store.Blocks(m.Size) {
		if err := ctx.Err(); err != nil {
			return &store.Error{Kind: store.Unavailable, Op: opFile, Subject: m.Crate.String(), Err: err}
		}
		p := buf[:store.BlockLen(m.Size, i)]
		if _, err := f.ReadAt(p, i*store.BlockSize); err != nil {
			return &store.Error{Kind: store.Corrupt, Op: opFile, Subject: m.Crate.String(), Err: err}
		}
		good := false
		if err := r.compute(ctx, func() { good = sums.Matches(i, p) }); err != nil {
			return err
		}
		if !good {
			return &store.Error{Kind: store.Corrupt, Op: opFile, Subject: m.Crate.String(), Detail: "its bytes are wrong"}
		}
	}
	after, err := identify(n, f)
	if err != nil {
		return err
	}
	if after != before {
		return &store.Error{Kind: store.Unavailable, Op: opFile, Subject: m.Crate.String(), Detail: "it changed while it was verified"}
	}
	r.files.add(m.Crate, before)
	return nil
}

// verifyLater verifies a large file in the background, one at a time.
func (r *Router) verifyLater(n *node, m *Manifest, path string, id fileIdentity) {
	r.files.mu.Lock()
	busy := r.files.busy
	r.files.busy = true
	r.files.mu.Unlock()
	if busy {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.background(func() {
		defer func() {
			r.files.mu.Lock()
			r.files.busy = false
			r.files.mu.Unlock()
		}()
		f, err := os.Open(path)
		if err != nil {
			return // it is gone; the next who asks finds out
		}
		defer f.Close()
		if now, err := identify(n, f); err != nil || now != id {
			return
		}
		if err := r.verifyFile(r.ctx, n, m, f, id); err != nil {
			r.doubt(n, m, err)
		}
	})
}
