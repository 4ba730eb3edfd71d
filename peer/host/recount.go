package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stasis/peer/wire"
	"stasis/store"
	"stasis/store/ledger"
)

// The host is to its store what a vault is to a node: it must see that the store was put back
// into an earlier state, or the ledger was, while the other was not. It keeps the position
// that the store had when the two were in step, the base, and goes through its records where the
// store is not there any more.

// owed, in the place of the base, says that the records are to be gone through. It is above
// every position that a store has, so that nothing replaces it but the end of a recount.
const owed = 1<<64 - 1

// Why a recount is owed, the mark of such a base.
const (
	// storeBack: the store is not where it was, and what owners were told may not hold.
	storeBack = 0
	// storeAhead: the store has gone on without this ledger hearing of it, as after a kill, or the
	// ledger is an older one.
	storeAhead = 1
)

// judge compares where the store is with the base, before the store is changed in any way.
func (h *Host) judge(ctx context.Context, now store.Position) error {
	if now == (store.Position{}) {
		return nil // it keeps none: a router, which watches its nodes itself
	}
	base, err := positionAt(h.space.Get, key(tableBase))
	if err != nil || base == now || base == (store.Position{Count: owed, Mark: storeBack}) {
		return err // what is owed is begun anew, and so is what owners know
	}
	if base.Count == owed {
		// Whether the store was put back since can't be told. It may have been.
		return h.noteOwed(ctx, storeBack)
	}
	why := uint64(storeBack)
	if now.Count > base.Count {
		why = storeAhead
	}
	return h.owe(ctx, why)
}

// owe notes that a recount is to be made.
func (h *Host) owe(ctx context.Context, why uint64) error {
	if why == storeBack {
		h.log.Error("the peer's store is not as this peer left it: an older copy of it was put back; its crates are counted anew")
	}
	return h.noteOwed(ctx, why)
}

func (h *Host) noteOwed(ctx context.Context, why uint64) error {
	return h.change(ctx, func(tx *ledger.Tx) error {
		tx.Put(key(tableBase), encodePosition(store.Position{Count: owed, Mark: why}))
		return nil
	})
}

// distrust moves every owner's position on, where the store was put back: what they knew by the
// one before they look into anew.
func (h *Host) distrust(ctx context.Context) error {
	base, err := positionAt(h.space.Get, key(tableBase))
	if err != nil || base != (store.Position{Count: owed, Mark: storeBack}) {
		return err
	}
	for _, o := range h.all() {
		if _, err := o.update(func(*ledger.Tx) error { return nil }); err != nil {
			return err
		}
	}
	return h.db.Sync(ctx, h.db.Position())
}

// watch looks where the store is, notes it, and begins a recount that is owed.
func (h *Host) watch(ctx context.Context) error {
	if h.recounting.Load() {
		return nil
	}
	st, err := h.store.Status(ctx)
	now := st.Position
	if err != nil || now == (store.Position{}) {
		return err
	}
	base, err := positionAt(h.space.Get, key(tableBase))
	switch {
	case err != nil || base == now:
		return err
	case base.Count < now.Count: // by this host's own calls: nobody else uses it
		return h.base(now)
	case base.Count != owed:
		if err := h.owe(ctx, storeBack); err != nil {
			return err
		}
		if err := h.distrust(ctx); err != nil {
			return err
		}
	}
	h.beginRecount()
	return nil
}

// base notes that store and records are in step at this position of the store.
func (h *Host) base(p store.Position) error {
	_, err := h.space.Update(func(tx *ledger.Tx) error {
		base, err := positionAt(tx.Get, key(tableBase))
		if err == nil && base.Count < p.Count {
			tx.Put(key(tableBase), encodePosition(p))
		}
		return err
	})
	return err
}

func (h *Host) beginRecount() {
	if h.quit.Err() != nil || h.recounting.Swap(true) {
		return
	}
	h.relays.Go(func() {
		defer h.recounting.Store(false)
		begun := time.Now()
		if err := h.recount(h.quit); err != nil && h.quit.Err() == nil {
			h.log.WithError(err).Warn("the crates of the peer's store could not be counted anew; it is tried again")
			wait(h.quit, relayShare*time.Since(begun))
		}
	})
}

// recount goes through the records of all owners and takes those out that the store has no
// crate for. Only then it notes where the store is: broken off at any point, it is begun again.
// One crate that the store can't tell of keeps it from no other.
func (h *Host) recount(ctx context.Context) error {
	began, err := h.store.Status(ctx)
	if err != nil {
		return err
	}
	var open unanswered
	for _, o := range h.all() {
		if err := o.recount(ctx, &open); err != nil {
			return err
		}
	}
	if open.crates > 0 {
		return fmt.Errorf("%d crates are left: %w", open.crates, open.last)
	}
	st, err := h.store.Status(ctx)
	if err != nil {
		return err
	}
	if st.Position.Count < began.Position.Count { // put back meanwhile
		if err := h.owe(ctx, storeBack); err != nil {
			return err
		}
		return h.distrust(ctx)
	}
	return h.change(ctx, func(tx *ledger.Tx) error {
		tx.Put(key(tableBase), encodePosition(st.Position))
		return nil
	})
}

// unanswered is what a store did not answer for in a recount.
type unanswered struct {
	crates int // that are left open
	inARow int
	last   error
}

// tells judges what a recount heard of one crate. A store that does not answer for this one may for the next, and the
// recount is not done; with the error it does for none, or the host ends.
func (u *unanswered) tells(ctx context.Context, err error) error {
	if err == nil {
		u.inARow = 0
		return nil
	}
	u.crates++
	u.inARow++
	u.last = err
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if u.inARow >= recountFailures {
		return err
	}
	return nil
}

// recount goes through the records of one owner, with pauses as long as its work.
func (o *owner) recount(ctx context.Context, open *unanswered) error {
	from, end := o.key(tableCrate), after(o.key(tableCrate))
	for {
		begun := time.Now()
		pairs, err := o.h.space.Scan(from, end, recountPage)
		if err != nil {
			return err
		}
		for _, p := range pairs {
			if err := open.tells(ctx, o.recountOne(ctx, p)); err != nil {
				return err
			}
		}
		if len(pairs) < recountPage {
			return nil
		}
		from = append(pairs[len(pairs)-1].Key, 0)
		wait(ctx, time.Since(begun))
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
}

// recountOne looks for one crate. One whose record is damaged is there and
// damaged: its owner is told, and there is nothing to be looked for again.
func (o *owner) recountOne(ctx context.Context, p ledger.Pair) error {
	id := store.CrateID(p.Key[len(p.Key)-len(store.CrateID{}):])
	rec, err := decodeCrate(p.Value)
	there := true
	if err == nil {
		there, _, err = o.kept(ctx, id, rec)
	}
	if err == nil && !there {
		err = o.lose(ctx, id)
	}
	if errors.Is(err, store.Corrupt) {
		_ = o.noticed(id, err) // gives it back
		return nil
	}
	return err
}

// kept reports whether the store has a crate as it is recorded; noted says that it has not, and
// still keeps a note of it. Corrupt if what is damaged is the note alone: the bytes are there.
func (o *owner) kept(ctx context.Context, id store.CrateID, rec crateRecord) (there, noted bool, err error) {
	info, err := o.h.store.Stat(ctx, innerCrate(o.id, id))
	switch {
	case errors.Is(err, store.NotFound):
		return false, false, nil
	case errors.Is(err, store.Corrupt):
		if _, e := o.h.store.Verify(ctx, innerCrate(o.id, id), 0, -1, store.Digest{}); e == nil {
			return true, false, err
		}
		return false, true, nil
	}
	return info == rec.info(info.ID), false, err
}

// listed reports whether a crate that is recorded is to be listed while a recount is owed: the
// store is asked, as the records may have what it has lost. One that is damaged there is listed.
func (o *owner) listed(ctx context.Context, id store.CrateID, rec crateRecord) (bool, error) {
	there, _, err := o.kept(ctx, id, rec)
	if errors.Is(err, store.Corrupt) {
		return true, nil
	}
	return there, err
}

// owes reports whether a recount is to be made, so that the records may not be what the store has.
func (h *Host) owes() (bool, error) {
	base, err := positionAt(h.space.Get, key(tableBase))
	return base.Count == owed, err
}

// lose takes a crate out of the records that the store does not have any more, and tells its
// owner.
func (o *owner) lose(ctx context.Context, id store.CrateID) error {
	unlock, err := o.crates.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	// It may have been discarded, or put again, since it was looked for.
	rec, there, err := o.find(id)
	if err != nil || !there {
		return err
	}
	there, noted, err := o.kept(ctx, id, rec)
	if err != nil || there {
		return err
	}
	if noted { // it would be in the way when the crate is put again
		err = o.h.store.Discard(ctx, store.DiscardRequest{Crate: innerCrate(o.id, id), Holder: o.id})
		if err != nil {
			return err
		}
	}
	charge := rec.charge()
	if _, err := o.update(func(tx *ledger.Tx) error {
		tx.Delete(o.key(tableCrate, id[:]...))
		return o.count(tx, -charge, -1)
	}); err != nil {
		return err
	}
	o.book.Freed(charge)
	o.mu.Lock()
	o.damage++
	o.mu.Unlock()
	o.events.add(wire.Event{Kind: wire.EventDamaged, Crate: &id})
	o.h.log.WithField("owner", o.id.String()[:16]).WithField("crate", innerCrate(o.id, id).String()).Error("the peer's store has lost a crate")
	return nil
}
