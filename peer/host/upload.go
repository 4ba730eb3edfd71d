package host

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/ledger"
)

var blockBuffers = sync.Pool{New: func() any { b := make([]byte, store.BlockSize); return &b }}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// putLarge brings a crate in by way of the spool, from where an earlier attempt stands.
// The caller has its lock.
func (o *owner) putLarge(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	if !o.h.spoolable(r.Size) {
		return o.putDirect(ctx, r)
	}
	p, err := o.begin(r)
	if err != nil {
		return nil, err
	}
	for {
		resumed := p.have > 0
		if err := o.fill(ctx, p, r); err != nil {
			if errors.Is(err, store.Corrupt) || errors.Is(err, store.NoSpace) {
				o.drop(p)
			} else {
				o.rest(p)
			}
			return nil, err
		}
		root := store.Checksums{Size: r.Size, Blocks: p.sums}.Root()
		if r.Expect == nil || root == *r.Expect {
			return o.bring(ctx, p, r, root)
		}
		if !resumed {
			o.drop(p)
			return nil, wrong(r.Crate, "the bytes have another digest than expected")
		}
		// What lay here from an earlier attempt may be at fault: once more, from the start.
		o.unlink(p)
	}
}

// fill receives the bytes that an upload lacks.
func (o *owner) fill(ctx context.Context, p *partial, r store.PutRequest) error {
	if err := o.h.uploads.take(ctx); err != nil {
		return err
	}
	defer o.h.uploads.give()
	if err := o.openPartial(p, r.Expect != nil); err != nil {
		return diskError(opPut, err)
	}
	if p.have == p.rec.size {
		return diskError(opPut, p.hashOld())
	}
	src, err := openSource(ctx, r, p.have)
	if err != nil {
		return err
	}
	defer src.close()
	buf := blockBuffers.Get().(*[]byte)
	defer blockBuffers.Put(buf)
	flushed := p.have
	for i := p.have / store.BlockSize; i < store.Blocks(r.Size); i++ {
		block := (*buf)[:store.BlockLen(r.Size, i)]
		if err := src.full(block, p.have); err != nil {
			return err
		}
		if _, err := p.file.WriteAt(block, p.have); err != nil {
			return diskError(opPut, err)
		}
		p.sums[i] = store.SumBlock(block)
		p.have += int64(len(block))
		o.h.spooled(int64(len(block)))
		if p.have-flushed >= flushEvery {
			// So that the sync at the end has little left to do. Not all filesystems can.
			_ = unix.SyncFileRange(int(p.file.Fd()), flushed, p.have-flushed, unix.SYNC_FILE_RANGE_WRITE)
			flushed = p.have
		}
	}
	if err := src.end(); err != nil {
		return err
	}
	return diskError(opPut, p.hashOld())
}

// openPartial opens an upload's file where it stands and, if it can be resumed later,
// notes it in the ledger. The note need not survive a power cut.
func (o *owner) openPartial(p *partial, resumable bool) error {
	if p.sums == nil {
		p.sums = make([]store.Digest, store.Blocks(p.rec.size))
	}
	var err error
	if p.file == nil {
		if p.file, err = os.OpenFile(p.path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return err
		}
	}
	if err := p.file.Truncate(p.have); err != nil {
		return err
	}
	if p.begun || !resumable {
		return nil
	}
	_, err = o.h.space.Update(func(tx *ledger.Tx) error {
		tx.Put(o.key(tablePartial, p.id[:]...), p.rec.encode())
		return nil
	})
	p.begun = err == nil
	return err
}

// hashOld gives the digests of blocks that lay in the file when the host was started.
func (p *partial) hashOld() error {
	buf := blockBuffers.Get().(*[]byte)
	defer blockBuffers.Put(buf)
	for i := range p.from {
		block := (*buf)[:store.BlockLen(p.rec.size, i)]
		if _, err := p.file.ReadAt(block, i*store.BlockSize); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		p.sums[i] = store.SumBlock(block)
	}
	p.from = 0
	return nil
}

// bring takes a complete upload, whose bytes have the root, into the store.
func (o *owner) bring(ctx context.Context, p *partial, r store.PutRequest, root store.Digest) ([]store.Receipt, error) {
	r.Expect = &root
	r.Source = fileSource(p.path)
	it := &item{r: r, claim: p.claim}
	o.deliver(ctx, []*item{it}, o.h.heavy, func(ctx context.Context, _ []*item) {
		it.receipts, it.err = o.adopt(ctx, p, it)
	})
	if it.err == nil {
		p.begun = false // its record went with the landing
	}
	// The store has it, or it is not worth keeping without its space.
	o.drop(p)
	if errors.Is(it.err, store.Corrupt) {
		// What was received was right: it is this disk that lost it.
		it.err = &store.Error{Kind: store.Unavailable, Op: opPut, Subject: r.Crate.String(), Detail: "the peer's disk did not keep what was sent", Err: it.err}
	}
	return it.receipts, it.err
}

// adopt has the store take the file, or copy it where it can't.
func (o *owner) adopt(ctx context.Context, p *partial, it *item) ([]store.Receipt, error) {
	if o.h.adopter != nil {
		receipts, err := o.storeOne(ctx, it, func(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
			return o.h.adopter.Adopt(ctx, r, p.path)
		})
		if !errors.Is(err, syscall.EXDEV) {
			return receipts, err
		}
	}
	return o.storePut(ctx, it)
}

// putDirect hands the sender's bytes to the store as they come: nothing is left of it
// when it is broken off.
func (o *owner) putDirect(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	if err := o.h.uploads.take(ctx); err != nil {
		return nil, err
	}
	defer o.h.uploads.give()
	c, err := o.take(r.Reservation, r.Crate, r.Size)
	if err != nil {
		return nil, err
	}
	it := &item{r: r, claim: c}
	// The store waits for the sender: a place of its own kind, so that it holds up nobody.
	o.deliver(ctx, []*item{it}, make(slots, 1), o.storeItems)
	return it.receipts, it.err
}

// fileSource gives the bytes of an upload.
type fileSource string

// OpenAt is store.Source's.
func (s fileSource) OpenAt(_ context.Context, offset int64) (io.ReadCloser, error) {
	f, err := os.Open(string(s))
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
