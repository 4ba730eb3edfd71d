package host

import (
	"context"
	"encoding/binary"
	"math/rand/v2"

	"stasis/store"
	"stasis/store/ledger"
)

func encodePosition(p store.Position) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte{recordVersion}, p.Count), p.Mark)
}

func decodePosition(b []byte) (p store.Position, err error) {
	in := reader{b: b}
	in.version()
	p.Count, p.Mark = in.uint64(), in.uint64()
	return p, in.end("a position")
}

// positionAt reads one; zero if there is none.
func positionAt(get func([]byte) ([]byte, bool, error), key []byte) (store.Position, error) {
	v, ok, err := get(key)
	if err != nil || !ok {
		return store.Position{}, err
	}
	return decodePosition(v)
}

// advance moves the owner's position on, within the update that changes its crates.
func (o *owner) advance(tx *ledger.Tx) (store.Position, error) {
	p, err := positionAt(tx.Get, o.key(tablePosition))
	if err != nil {
		return p, err
	}
	p = store.Position{Count: p.Count + 1, Mark: rand.Uint64()}
	tx.Put(o.key(tablePosition), encodePosition(p))
	return p, nil
}

// update makes an update that changes which crates the owner has, or which mount may
// change them: its position moves on with it.
func (o *owner) update(fn func(tx *ledger.Tx) error) (ledger.Position, error) {
	var next store.Position
	p, err := o.h.space.Update(func(tx *ledger.Tx) (err error) {
		if err = fn(tx); err == nil {
			next, err = o.advance(tx)
		}
		return err
	})
	if err == nil {
		o.come(next)
	}
	return p, err
}

// change is update, and waits until it survives a power cut.
func (o *owner) change(ctx context.Context, fn func(tx *ledger.Tx) error) error {
	p, err := o.update(fn)
	if err != nil {
		return err
	}
	return o.h.db.Sync(ctx, p)
}

// come notes a position that the ledger has.
func (o *owner) come(p store.Position) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.Count > o.position.Count {
		o.position = p
	}
}

// loadPosition reads the owner's position. One who has none, as those of earlier programs,
// gets one.
func (o *owner) loadPosition() error {
	p, err := positionAt(o.h.space.Get, o.key(tablePosition))
	if err != nil {
		return err
	}
	if p == (store.Position{}) {
		_, err = o.update(func(*ledger.Tx) error { return nil })
		return err
	}
	o.come(p)
	return nil
}

// place gives receipts the owner's position: those of the store say its own, which has no
// meaning for an owner.
func (o *owner) place(receipts []store.Receipt) []store.Receipt {
	o.mu.Lock()
	p := o.position
	o.mu.Unlock()
	for i := range receipts {
		receipts[i].Position = p
	}
	return receipts
}

// settled notes, within the update that records what they are receipts for, how far the store
// has come, unless a recount is owed.
func (h *Host) settled(tx *ledger.Tx, receipts []store.Receipt) error {
	var p store.Position
	for _, r := range receipts {
		if r.Leaf == h.leaf && r.Position.Count > p.Count {
			p = r.Position
		}
	}
	if p == (store.Position{}) {
		return nil
	}
	base, err := positionAt(tx.Get, key(tableBase))
	if err == nil && base.Count < p.Count {
		tx.Put(key(tableBase), encodePosition(p))
	}
	return err
}
