package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"stasis/peer/guard"
	"stasis/store"
	"stasis/store/blocks"
	"stasis/store/ledger"
)

const opPut = "put crate"

// checkPut tells whether a request to put makes sense by itself.
func checkPut(r store.PutRequest) error {
	if r.Source == nil {
		return &store.Error{Kind: store.Invalid, Op: opPut, Subject: r.Crate.String(), Detail: "no source"}
	}
	return blocks.CheckPut(r)
}

// put keeps one crate.
func (o *owner) put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	if err := checkPut(r); err != nil {
		return nil, err
	}
	unlock, err := o.crates.Lock(ctx, r.Crate)
	if err != nil {
		return nil, err
	}
	defer unlock()
	rec, there, err := o.known(ctx, r.Crate)
	switch {
	case err != nil:
		return nil, err
	case there:
		return o.repeat(ctx, rec, r)
	case r.Size <= SmallCrate:
		return o.putSmall(ctx, r)
	default:
		return o.putLarge(ctx, r)
	}
}

// known is find, after what an earlier error has left of the crate is settled. The
// caller has its lock.
func (o *owner) known(ctx context.Context, id store.CrateID) (crateRecord, bool, error) {
	if _, open := o.unclear(id); open {
		if err := o.settleLocked(ctx, id); err != nil {
			return crateRecord{}, false, err
		}
	}
	return o.find(id)
}

// repeat answers for a crate that is there.
func (o *owner) repeat(ctx context.Context, rec crateRecord, r store.PutRequest) ([]store.Receipt, error) {
	conflict := func(detail string) error {
		return &store.Error{Kind: store.Conflict, Op: opPut, Subject: r.Crate.String(), Detail: "a crate with this id is there and has " + detail}
	}
	switch {
	case rec.size != r.Size:
		return nil, conflict(fmt.Sprintf("%d bytes, not %d", rec.size, r.Size))
	case rec.form != r.Form:
		return nil, conflict("another form")
	case r.Expect != nil && *r.Expect != rec.root:
		return nil, conflict("other bytes")
	}
	in := o.inner(r, store.ReservationID{})
	o.mu.Lock()
	if l := o.leases[r.Reservation]; l != nil && l.count() == rec.count() {
		in.Reservation = l.inner // in case the store has lost the crate
	}
	o.mu.Unlock()
	receipts, err := o.h.store.Put(ctx, in)
	return o.place(receipts), err
}

// inner is the request as the store gets it.
func (o *owner) inner(r store.PutRequest, reservation store.ReservationID) store.PutRequest {
	r.Crate, r.Reservation = innerCrate(o.id, r.Crate), reservation
	return r
}

// item is one crate on its way into the store. Whoever makes one has the crate's lock.
type item struct {
	r        store.PutRequest
	claim    *claim
	receipts []store.Receipt
	err      error
}

// putSmall reads a crate into memory, so that the store never waits for a sender.
func (o *owner) putSmall(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	if err := o.h.lanes.memory.Acquire(ctx, o.lane, r.Size); err != nil {
		return nil, err
	}
	defer o.h.lanes.memory.Release(o.lane, r.Size)
	it := o.receive(ctx, r)
	if it.err == nil {
		o.deliver(ctx, []*item{it}, o.h.lanes.light, o.storeItems)
	}
	return it.receipts, it.err
}

// receive takes the space of a small crate and reads it.
func (o *owner) receive(ctx context.Context, r store.PutRequest) *item {
	it := &item{r: r}
	if it.claim, it.err = o.take(r.Reservation, r.Crate, r.Size); it.err != nil {
		return it
	}
	data, err := readAll(ctx, r)
	if err != nil {
		it.claim.undo()
		it.err = err
		return it
	}
	it.r.Source = memorySource(data)
	return it
}

// readAll gives the bytes of a small crate, which must be as many as it says and, where
// that is known, the right ones.
func readAll(ctx context.Context, r store.PutRequest) ([]byte, error) {
	src, err := openSource(ctx, r, 0)
	if err != nil {
		return nil, err
	}
	defer src.close()
	p := make([]byte, r.Size)
	if err := src.full(p, 0); err != nil {
		return nil, err
	}
	if err := src.end(); err != nil {
		return nil, err
	}
	if r.Expect != nil {
		sums := store.Checksums{Size: r.Size, Blocks: []store.Digest{store.SumBlock(p)}}
		if sums.Root() != *r.Expect {
			return nil, wrong(r.Crate, "the bytes have another digest than expected")
		}
	}
	return p, nil
}

type memorySource []byte

// OpenAt is store.Source's.
func (m memorySource) OpenAt(_ context.Context, offset int64) (io.ReadCloser, error) {
	if offset < 0 || offset > int64(len(m)) {
		return nil, &store.Error{Kind: store.Invalid, Op: "open source"}
	}
	return io.NopCloser(bytes.NewReader(m[offset:])), nil
}

// source is the source of a put while it is read. Its context ending closes it, which
// ends a read that waits.
type source struct {
	ctx   context.Context
	r     store.PutRequest
	rc    io.ReadCloser
	close func()
}

func openSource(ctx context.Context, r store.PutRequest, offset int64) (*source, error) {
	s := &source{ctx: ctx, r: r}
	if err := context.Cause(ctx); err != nil {
		return nil, s.fail(err)
	}
	rc, err := r.Source.OpenAt(ctx, offset)
	if err != nil {
		return nil, s.fail(err)
	}
	s.rc = rc
	// It was only read: its Close has nothing to say about the bytes.
	once := sync.OnceFunc(func() { _ = rc.Close() })
	stop := context.AfterFunc(ctx, once)
	s.close = func() { stop(); once() }
	return s, nil
}

// full fills p with the bytes from offset on.
func (s *source) full(p []byte, offset int64) error {
	n, err := io.ReadFull(s.rc, p)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return wrong(s.r.Crate, fmt.Sprintf("the source ended after %d of %d bytes", offset+int64(n), s.r.Size))
	}
	if err == nil {
		err = context.Cause(s.ctx)
	}
	return s.fail(err)
}

// end makes sure that there are no further bytes.
func (s *source) end() error {
	var one [1]byte
	switch n, err := io.ReadFull(s.rc, one[:]); {
	case n > 0:
		return wrong(s.r.Crate, fmt.Sprintf("the source has more than %d bytes", s.r.Size))
	case err != io.EOF:
		return s.fail(err)
	}
	return nil
}

// fail gives an error of the source a kind.
func (s *source) fail(err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(s.ctx); cause != nil {
		return &store.Error{Kind: store.Unavailable, Op: opPut, Subject: s.r.Crate.String(), Detail: "it was broken off", Err: cause}
	}
	k := store.KindOf(err)
	if k == 0 {
		k = store.Unavailable
	}
	return &store.Error{Kind: k, Op: opPut, Subject: s.r.Crate.String(), Detail: "its source failed", Err: err}
}

func wrong(id store.CrateID, detail string) error {
	return &store.Error{Kind: store.Corrupt, Op: opPut, Subject: id.String(), Detail: detail}
}

// deliver takes crates into the store: first the intent is durable, then the store has
// the crate, then there is the record, and only then a receipt. The record need not be
// synced: where a power cut takes it, the intent is back, and a start makes it again. It
// ends each item's claim. at is where it waits for a turn, nil for none. into brings the items into the store and says what became of
// each.
func (o *owner) deliver(ctx context.Context, items []*item, at *guard.Lanes, into func(context.Context, []*item)) {
	done, err := o.turn(ctx, at)
	if err == nil {
		defer done()
		var n int
		if n, err = o.admitIntents(items); err == nil {
			defer o.arrived(n)
			err = o.intend(ctx, items)
		}
	}
	if err != nil {
		if reason(err) != "" {
			o.h.trouble.wrote(err)
		}
		for _, it := range items {
			it.err = err
			it.claim.undo()
		}
		return
	}
	into(ctx, items)
	if ctx.Err() == nil {
		o.h.trouble.wrote(items[0].err)
	}
	var landed, failed []*item
	for _, it := range items {
		if it.err == nil {
			landed = append(landed, it)
		} else {
			failed = append(failed, it)
		}
	}
	o.record(landed)
	o.abandon(failed)
}

// admitIntents counts the intents in that items add to those the owner has, unless they were more
// than one owner may have: those of which the outcome is not known, when the store fails or callers
// go, have no other bound. arrived is called at the end.
func (o *owner) admitIntents(items []*item) (n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, it := range items {
		if _, open := o.unsettled[it.r.Crate]; !open {
			n++
		}
	}
	if len(o.unsettled)+o.arriving+n > IntentsAnOwner {
		return 0, &store.Error{Kind: store.Unavailable, Op: opPut, Detail: fmt.Sprintf("of %d crates put earlier it is not clear yet whether the peer has them", len(o.unsettled))}
	}
	o.arriving += n
	return n, nil
}

func (o *owner) arrived(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.arriving -= n
}

// intend notes which crates are about to be in the store. With an error the store is not told of
// them, and the notes go again.
func (o *owner) intend(ctx context.Context, items []*item) error {
	err := o.writeIntents(ctx, items)
	if err != nil {
		o.withdraw(items)
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, it := range items {
		delete(o.unsettled, it.r.Crate)
	}
	return nil
}

// withdraw takes intents back of crates that the store was not told of. One whose outcome was
// not known before stays open: what the store may have of it needs the intent to be found.
func (o *owner) withdraw(items []*item) {
	var fresh []*item
	for _, it := range items {
		if _, open := o.unclear(it.r.Crate); !open {
			fresh = append(fresh, it)
		}
	}
	o.endIntents(fresh)
}

// endIntents takes intents out of the ledger, and leaves those open that it does not take out.
// Where that does not survive a power cut, they are settled again.
func (o *owner) endIntents(items []*item) {
	for from := 0; from < len(items); from += itemsAnUpdate {
		part := items[from:min(len(items), from+itemsAnUpdate)]
		_, err := o.h.space.Update(func(tx *ledger.Tx) error {
			for _, it := range part {
				tx.Delete(o.key(tableIntent, it.r.Crate[:]...))
			}
			return nil
		})
		if err != nil {
			for _, it := range part {
				o.leaveOpen(it)
			}
		}
	}
}

func (o *owner) writeIntents(ctx context.Context, items []*item) error {
	var last ledger.Position
	for from := 0; from < len(items); from += itemsAnUpdate {
		part := items[from:min(len(items), from+itemsAnUpdate)]
		p, err := o.h.space.Update(func(tx *ledger.Tx) error {
			for _, it := range part {
				tx.Put(o.key(tableIntent, it.r.Crate[:]...), intent{it.r.Form, it.r.Size, it.claim.lease.inner, it.claim.lease.copies}.encode())
			}
			return nil
		})
		if err != nil {
			return err
		}
		last = p
	}
	return o.h.db.Sync(ctx, last)
}

// record makes the crates the owner's.
func (o *owner) record(items []*item) {
	for from := 0; from < len(items); from += itemsAnUpdate {
		part := items[from:min(len(items), from+itemsAnUpdate)]
		_, err := o.update(func(tx *ledger.Tx) error {
			for _, it := range part {
				rec := crateRecord{it.r.Form, it.r.Size, it.receipts[0].Sums.Root(), it.claim.lease.copies}
				if err := o.land(tx, it.r.Crate, rec, it.claim.lease.inner); err != nil {
					return err
				}
			}
			return o.h.settled(tx, part[len(part)-1].receipts)
		})
		for _, it := range part {
			if err == nil {
				o.sound(it.r.Crate)
				it.claim.commit()
				o.place(it.receipts)
				continue
			}
			it.err, it.receipts = err, nil
			o.leaveOpen(it)
		}
	}
}

// sound forgets that a crate was found damaged: it was stored anew.
func (o *owner) sound(id store.CrateID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.damaged, id)
}

// land writes, within an update, that a crate is the owner's and what it costs.
func (o *owner) land(tx *ledger.Tx, id store.CrateID, rec crateRecord, inner store.ReservationID) error {
	charge := rec.charge()
	tx.Put(o.key(tableCrate, id[:]...), rec.encode())
	tx.Delete(o.key(tableIntent, id[:]...))
	if rec.size > SmallCrate {
		tx.Delete(o.key(tablePartial, id[:]...))
	}
	alive, err := o.holds(tx, inner)
	if err != nil {
		return err
	}
	if alive {
		drawn := int64(0)
		v, ok, err := tx.Get(o.key(tableDrawn, inner[:]...))
		if err == nil && ok {
			drawn, err = decodeDrawn(v)
		}
		if err != nil {
			return err
		}
		tx.Put(o.key(tableDrawn, inner[:]...), encodeDrawn(drawn+charge))
	}
	return o.count(tx, charge, 1)
}

// holds reports, within an update, whether a reservation of the store stands for one of
// the owner's.
func (o *owner) holds(tx *ledger.Tx, inner store.ReservationID) (bool, error) {
	l := o.leaseOf(inner)
	if l == nil {
		return false, nil
	}
	v, ok, err := tx.Get(o.key(tableTerms, l.id[:]...))
	if err != nil || !ok {
		return false, err
	}
	r, err := decodeTermsRecord(v)
	return r.inner == inner, err
}

// abandon ends items that the store has refused. Where it is not sure that the store has
// nothing of them, that is looked into later.
func (o *owner) abandon(items []*item) {
	var gone []*item
	for _, it := range items {
		if k := store.KindOf(it.err); k == 0 || k == store.Unavailable {
			o.leaveOpen(it)
		} else {
			it.claim.undo()
			gone = append(gone, it)
		}
	}
	o.endIntents(gone)
}

func (o *owner) leaveOpen(it *item) {
	it.claim.undo()
	o.mu.Lock()
	o.unsettled[it.r.Crate] = outcome{since: time.Now()}
	o.mu.Unlock()
}

// storeItems puts items into the store from where they lie, as a batch if it likes them.
func (o *owner) storeItems(ctx context.Context, items []*item) {
	b, batches := o.h.store.(store.Batcher)
	if !batches || len(items) == 1 {
		for _, it := range items {
			it.receipts, it.err = o.storePut(ctx, it)
		}
		return
	}
	rs := make([]store.PutRequest, len(items))
	for i, it := range items {
		rs[i] = o.inner(it.r, it.claim.lease.inner)
	}
	for i, res := range b.PutBatch(ctx, rs) {
		it := items[i]
		it.receipts, it.err = res.Receipts, res.Err
		if errors.Is(it.err, store.NotFound) {
			it.receipts, it.err = o.storePut(ctx, it)
		}
		it.err = received(it.receipts, it.err)
	}
}

// storePut is the store's Put, with the store's reservation made anew if it is lost.
func (o *owner) storePut(ctx context.Context, it *item) ([]store.Receipt, error) {
	return o.storeOne(ctx, it, o.h.store.Put)
}

func (o *owner) storeOne(ctx context.Context, it *item, call func(context.Context, store.PutRequest) ([]store.Receipt, error)) ([]store.Receipt, error) {
	in := o.inner(it.r, it.claim.lease.inner)
	receipts, err := call(ctx, in)
	if errors.Is(err, store.NotFound) {
		if err = o.remake(ctx, it.claim.lease, err); err == nil {
			receipts, err = call(ctx, in)
		}
	}
	if k := store.KindOf(err); k == store.NotFound || k == store.Denied {
		// The owner's reservation is good: what the store lacks is not the owner's to mend.
		err = &store.Error{Kind: store.Unavailable, Op: opPut, Subject: it.r.Crate.String(), Detail: "the peer's store does not take it", Err: err}
	}
	return receipts, received(receipts, err)
}

// received makes sure that what is taken for stored has a receipt.
func received(receipts []store.Receipt, err error) error {
	if err == nil && len(receipts) == 0 {
		return &store.Error{Kind: store.Unavailable, Op: opPut, Detail: "the peer's store gave no receipt"}
	}
	return err
}
