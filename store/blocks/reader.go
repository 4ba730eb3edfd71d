package blocks

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/zeebo/blake3"

	"stasis/store"
)

// Crate is what a Reader needs to know of the crate it reads.
type Crate struct {
	ID   store.CrateID
	Size int64
	// Digest gives that of a block; nil: nothing is verified.
	Digest func(ctx context.Context, i int64) (store.Digest, error)
	// Fetch fills p with the crate's bytes from offset. It returns an error unless it
	// filled p wholly; p then must not be touched by it any more if it is to be reused:
	// after an error the Reader gives it up.
	Fetch func(ctx context.Context, p []byte, offset int64) error
	// Damaged is told of each block that does not have its digest; may be nil.
	Damaged func(block int64)
	// Close gives up what Fetch reads from; may be nil.
	Close func() error
}

// Reader gives a range of a crate, every block verified before its first byte is
// returned, unless its crate has no digests. Read and Close may be called from different goroutines.
type Reader struct {
	ctx context.Context
	c   Crate
	op  string

	mu     sync.Mutex
	buf    *[]byte
	ready  []byte // not yet returned
	offset int64  // of what follows ready
	end    int64
	err    error // sticks
	ahead  bool  // what is ready, or err, is Prefetch's
	closed bool
}

// NewReader gives the range of length bytes from offset, which Range has
// checked. ctx bounds all reads; op names what is being done in errors.
func NewReader(ctx context.Context, op string, c Crate, offset, length int64) *Reader {
	return &Reader{ctx: ctx, op: op, c: c, offset: offset, end: offset + length}
}

// Read gives the next bytes. After an error every Read gives that error.
func (r *Reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	r.fill()
	if len(r.ready) == 0 {
		return 0, r.err
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// Prefetch gets the first block now, however long that takes, and has the first Read say how
// it went. It saves who opens the crate on behalf of others one change of goroutines.
func (r *Reader) Prefetch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx := r.ctx
	r.ctx = context.WithoutCancel(ctx)
	r.err, r.ahead = r.next(), true
	r.ctx = ctx
}

// fill sees to it that there is something to give, or an error. What Prefetch got is not given
// any more once the context has ended: who asks may have lost the right to it.
func (r *Reader) fill() {
	if r.ahead {
		r.ahead = false
		if err := context.Cause(r.ctx); err != nil {
			r.ready, r.err = nil, Ended(r.op, r.c.ID, err)
		}
	}
	if len(r.ready) == 0 && r.err == nil {
		r.err = r.next()
	}
}

// WriteTo spares the copy that Read makes.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var total int64
	for {
		r.fill()
		if len(r.ready) == 0 {
			if r.err == io.EOF {
				return total, nil
			}
			return total, r.err
		}
		n, err := w.Write(r.ready)
		total += int64(n)
		r.ready = r.ready[n:]
		if err != nil {
			return total, err
		}
	}
}

// next reads the block at r.offset, and verifies it.
func (r *Reader) next() error {
	if r.closed {
		return &store.Error{Kind: store.Invalid, Op: r.op, Subject: r.c.ID.String(), Detail: "read after close"}
	}
	if r.offset >= r.end {
		return io.EOF
	}
	if err := context.Cause(r.ctx); err != nil {
		return Ended(r.op, r.c.ID, err)
	}
	if r.buf == nil {
		r.buf = buffersFor(r.c.Size).Get().(*[]byte)
	}
	i := r.offset / store.BlockSize
	start := i * store.BlockSize
	p := (*r.buf)[:store.BlockLen(r.c.Size, i)]
	done, err := turn(r.ctx)
	if err != nil {
		return Ended(r.op, r.c.ID, err)
	}
	err = r.fetch(p, i)
	done()
	if err != nil {
		return err
	}
	r.ready = p[r.offset-start : min(int64(len(p)), r.end-start)]
	r.offset += int64(len(r.ready))
	return nil
}

// fetch reads one block and verifies it.
func (r *Reader) fetch(p []byte, i int64) (err error) {
	var want store.Digest
	if r.c.Digest != nil {
		if want, err = r.c.Digest(r.ctx, i); err != nil {
			return err
		}
	}
	if err := r.c.Fetch(r.ctx, p, i*store.BlockSize); err != nil {
		r.buf = nil
		return err
	}
	if r.c.Digest == nil || store.SumBlock(p) == want {
		return nil
	}
	if r.c.Damaged != nil {
		r.c.Damaged(i)
	}
	return Damage(r.op, r.c.ID, i)
}

// Damage is the error for a block that does not have its digest.
func Damage(op string, crate store.CrateID, block int64) error {
	return &store.Error{
		Kind: store.Corrupt, Op: op, Subject: crate.String(),
		Detail: fmt.Sprintf("block %d does not have its checksum", block),
	}
}

// Close is idempotent.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	r.ready, r.err = nil, nil
	if r.buf != nil {
		buffersFor(r.c.Size).Put(r.buf)
		r.buf = nil
	}
	if r.c.Close != nil {
		return r.c.Close()
	}
	return nil
}

// Prove reads all of r and gives BLAKE3, keyed with the nonce, over its bytes.
func Prove(r *Reader, nonce store.Digest) (store.Digest, error) {
	h, err := blake3.NewKeyed(nonce[:])
	if err != nil {
		return store.Digest{}, err // a key of another length, which the type excludes
	}
	if _, err := r.WriteTo(pacedHash{r.ctx, h}); err != nil {
		return store.Digest{}, err
	}
	var d store.Digest
	h.Sum(d[:0])
	return d, nil
}
