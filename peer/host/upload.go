package host

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/blocks"
	"stasis/store/ledger"
)

var chunks = sync.Pool{New: func() any { b := make([]byte, chunkSize); return &b }}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// putLarge brings a crate in by way of the spool, from where an earlier attempt stands.
// The caller has its lock.
func (o *owner) putLarge(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	if o.h.o.Spool == "" {
		return o.putDirect(ctx, r)
	}
	p, err := o.begin(r)
	if err != nil {
		return nil, err
	}
	if err := o.room(ctx, p); err != nil {
		o.drop(p)
		if errors.Is(err, store.NoSpace) && o.h.adopter == nil {
			return o.putDirect(ctx, r) // what adopts has its own bodies on the same disk
		}
		o.want()
		return nil, err
	}
	for {
		resumed := p.have > 0
		if err := o.fill(ctx, p, r); err != nil {
			if reason(err) != "" {
				o.h.trouble.wrote(err)
			}
			if errors.Is(err, store.Corrupt) || errors.Is(err, store.NoSpace) {
				o.drop(p)
			} else {
				o.rest(p)
			}
			return nil, err
		}
		sums := store.Checksums{Size: r.Size, Blocks: p.sums}
		root := sums.Root()
		if r.Expect == nil || root == *r.Expect {
			if !resumed { // what lay here for a while is read again
				r.Fresh = &sums
			}
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
	leave, err := o.turn(ctx, o.h.lanes.uploads)
	if err != nil {
		return err
	}
	defer leave()
	if err := o.openPartial(p); err != nil {
		return diskError(opPut, err)
	}
	if p.have < p.rec.size {
		src, err := openSource(ctx, r, p.have)
		if err != nil {
			return err
		}
		defer src.close()
		if err := o.copyIn(p, src); err != nil {
			return err
		}
	}
	return diskError(opPut, p.hashOld())
}

// copyIn writes what the source gives to the file and hashes it meanwhile, and counts it
// block by block.
func (o *owner) copyIn(p *partial, src *source) error {
	buf := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	h := blake3.New()
	flushed := p.have
	for at := p.have; at < p.rec.size; {
		end := min(p.have+store.BlockSize, p.rec.size)
		chunk := (*buf)[:min(chunkSize, end-at)]
		if err := src.full(chunk, at); err != nil {
			return err
		}
		hashed := make(chan struct{})
		go func() {
			h.Write(chunk)
			close(hashed)
		}()
		_, err := p.file.WriteAt(chunk, at)
		<-hashed
		if err != nil {
			return diskError(opPut, err)
		}
		if at += int64(len(chunk)); at < end {
			continue
		}
		h.Sum(p.sums[p.have/store.BlockSize][:0])
		h.Reset()
		o.h.spooled(p, at-p.have)
		p.have = at
		if at-flushed >= flushEvery {
			// So that the sync at the end has little left to do. Not all filesystems can.
			_ = unix.SyncFileRange(int(p.file.Fd()), flushed, at-flushed, unix.SYNC_FILE_RANGE_WRITE)
			flushed = at
		}
	}
	return src.end()
}

// openPartial opens an upload's file where it stands and notes it in the ledger, so that it
// can be resumed later. The note need not survive a power cut.
func (o *owner) openPartial(p *partial) error {
	if p.sums == nil {
		p.sums = make([]store.Digest, store.Blocks(p.rec.size))
	}
	var err error
	if p.file == nil {
		if p.file, err = os.OpenFile(p.path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600); err != nil {
			return err
		}
	}
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < p.have {
		// A call that was given up has taken the file after all.
		o.h.spooled(p, -p.have)
		p.have, p.from = 0, 0
	}
	if err := p.file.Truncate(p.have); err != nil {
		return err
	}
	if p.begun {
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
	for ; p.from > 0; p.from-- {
		i := p.from - 1
		h := blake3.New()
		if _, err := io.Copy(h, io.NewSectionReader(p.file, i*store.BlockSize, store.BlockSize)); err != nil {
			return err
		}
		h.Sum(p.sums[i][:0])
	}
	return nil
}

// bring takes a complete upload, whose bytes have the root, into the store. It goes on
// when the sender has gone: all bytes would have to be sent again.
func (o *owner) bring(ctx context.Context, p *partial, r store.PutRequest, root store.Digest) ([]store.Receipt, error) {
	r.Expect = &root
	r.Source = blocks.File(p.path)
	o.mu.Lock()
	life := o.ctx
	o.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deliverLimit)
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	it := &item{r: r, claim: p.claim}
	if p.room.Covered() {
		// From now on the store knows that its space is the file's.
		p.room.End()
		p.room = nil
	}
	o.deliver(ctx, []*item{it}, o.h.lanes.heavy, func(ctx context.Context, _ []*item) {
		it.receipts, it.err = o.adopt(ctx, p, it)
	})
	switch {
	case it.err == nil:
		p.begun = false // its record went with the landing
		o.drop(p)
	case errors.Is(it.err, store.Corrupt):
		// What was received was right: it is this disk that lost it.
		o.drop(p)
		it.err = &store.Error{Kind: store.Unavailable, Op: opPut, Subject: r.Crate.String(), Detail: "the peer's disk did not keep what was sent", Err: it.err}
	case errors.Is(it.err, store.Unavailable):
		o.restAgain(p)
	default:
		o.drop(p)
	}
	return it.receipts, it.err
}

// restAgain leaves a complete upload that the store did not take, its space held anew.
func (o *owner) restAgain(p *partial) {
	c, err := o.take(p.rec.reservation, p.id, p.rec.size)
	if err != nil {
		o.drop(p)
		return
	}
	p.claim = c
	if o.h.transit != nil && p.room == nil {
		if o.room(context.Background(), p) != nil {
			o.drop(p)
			return
		}
	}
	o.rest(p)
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

// putDirect hands the sender's bytes to the store as they come, which holds a block of them:
// nothing is left of it when it is broken off.
func (o *owner) putDirect(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	memory := o.h.lanes.memory
	if err := memory.Acquire(ctx, o.lane, store.BlockSize); err != nil {
		return nil, err
	}
	defer memory.Release(o.lane, store.BlockSize)
	leave, err := o.turn(ctx, o.h.lanes.uploads)
	if err != nil {
		return nil, err
	}
	defer leave()
	c, err := o.take(r.Reservation, r.Crate, r.Size)
	if err != nil {
		return nil, err
	}
	it := &item{r: r, claim: c}
	// The store waits for the sender: it takes nobody's turn.
	o.deliver(ctx, []*item{it}, nil, o.storeItems)
	return it.receipts, it.err
}
