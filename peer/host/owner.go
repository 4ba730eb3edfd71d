package host

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"stasis/peer/identity"
	"stasis/store"
	"stasis/store/booking"
	"stasis/store/keyed"
	"stasis/store/ledger"
)

// noQuota stands for the bound of an owner without one: the store's own is the smaller.
const noQuota = 1 << 62

// owner is what a host knows of one owner and does for it.
type owner struct {
	h      *Host
	id     store.OwnerID
	number uint32
	book   *booking.Book // quota and leases
	crates keyed.Locks[store.CrateID]
	// mirrors are held while the store is asked for, or gives back, what a reservation
	// of the owner needs. By the owner's id of it.
	mirrors keyed.Locks[store.ReservationID]
	// promising is held while it is judged whether the owner may have a promise of the store,
	// and the store gives it. It is taken after that of mirrors.
	promising keyed.Locks[struct{}]
	lane      string // its name in the host's lanes
	events    ring
	tending   atomic.Bool // a round of the tending is under way for it

	mu        sync.Mutex
	rec       ownerRecord
	ctx       context.Context // ends when the owner is revoked
	cancel    context.CancelCauseFunc
	fencing   sync.Mutex                     // held while a mount is admitted
	position  store.Position                 // of its crates, as the ledger has it
	held      store.Token                    // of the mount that was admitted last; zero: none was
	leases    map[store.ReservationID]*lease // alive, by the owner's id
	ordering  map[store.ReservationID]copies // what requests under way order
	ended     map[*lease]struct{}            // the store's part is still to be given back
	partials  map[store.CrateID]*partial     // interrupted uploads; none that goes on
	unsettled map[store.CrateID]outcome      // puts of which it is not clear whether the store has them
	arriving  int                            // crates with an intent, or about to have one, beside those
	damage    int64                          // crates found corrupt
	damaged   map[store.CrateID]time.Time    // which, and when that was told last
	wants     bool                           // was refused for space
}

// lease is a reservation of the owner with the one of the store that stands behind it.
// Guarded by owner.mu.
type lease struct {
	id     store.ReservationID // the owner's
	inner  store.ReservationID // the store's
	copies                     // ordered, and charged
	bytes  int64               // promised, over all copies, like the next two; once it has ended, what the store still has of it
	drawn  int64               // of it, by crates that are in the store
	active int64               // drawn by puts under way, in bytes
	ended  bool
	asked  time.Duration // when the store was asked last for what is left of one that has ended, by booking.Clock; 0: not yet
}

// each is one copy's part of what a reservation has over all of them.
func (l *lease) each(bytes int64) int64 { return bytes / l.count() }

// asks is what the store is asked for behind the reservation.
func (l *lease) asks(bytes int64, o *owner, life time.Duration) store.ReserveRequest {
	r := store.ReserveRequest{ID: l.inner, Holder: o.id, Bytes: max(1, l.each(bytes)), Lease: life}
	if l.copies > 1 {
		r.Copies = int(l.copies)
	}
	return r
}

func (h *Host) newOwner(id store.OwnerID, rec ownerRecord) *owner {
	o := &owner{
		h: h, id: id, number: rec.number, rec: rec, lane: id.String(),
		leases: make(map[store.ReservationID]*lease), ordering: make(map[store.ReservationID]copies), ended: make(map[*lease]struct{}),
		partials: make(map[store.CrateID]*partial), unsettled: make(map[store.CrateID]outcome),
		damaged: make(map[store.CrateID]time.Time),
	}
	o.events.init(h.incarnation)
	o.ctx, o.cancel = context.WithCancelCause(h.ctx)
	return o
}

// loadOwners brings every owner back.
func (h *Host) loadOwners(ctx context.Context) error {
	err := h.each(key(tableOwner), func(k, v []byte) error {
		rec, err := decodeOwner(v)
		if err != nil || len(k) != 2+len(store.OwnerID{}) {
			return damaged("an owner")
		}
		o := h.newOwner(store.OwnerID(k[2:]), rec)
		if err := o.load(); err != nil {
			return err
		}
		h.owners[o.id] = o
		h.known[rec.fingerprint] = o
		return nil
	})
	if err != nil {
		return err
	}
	for _, o := range h.owners {
		o.recover(ctx)
		if o.revoked() {
			o.shutOut(ctx)
		}
	}
	return nil
}

// load reads what the ledger has of the owner and opens its book.
func (o *owner) load() error {
	var totals booking.Totals
	v, ok, err := o.h.space.Get(o.key(tableUsed))
	if err == nil && ok {
		totals, err = decodeTotals(v)
	}
	if err != nil {
		return err
	}
	if v, _, err = o.h.space.Get(o.key(tableFence)); err != nil {
		return err
	}
	copy(o.held[:], v)
	records, err := o.loadTerms()
	if err != nil {
		return err
	}
	err = o.h.each(o.key(tableIntent), func(k, _ []byte) error {
		o.unsettled[store.CrateID(k[len(k)-16:])] = outcome{}
		return nil
	})
	if err != nil {
		return err
	}
	o.book = booking.New(booking.Options{Leaf: o.h.leaf, Capacity: capacityOf(o.rec.quota), Journal: (*journal)(o), Clock: o.h.o.Clock}, totals, records)
	if err := o.loadPosition(); err != nil {
		return err
	}
	return o.loadPartials(context.Background())
}

func capacityOf(quota int64) int64 {
	if quota > 0 {
		return quota
	}
	return noQuota
}

// loadTerms reads the reservations. Those of the store that may differ from the owner's
// are taken for ended where the owner has none for them.
func (o *owner) loadTerms() (records []booking.Record, err error) {
	byInner := make(map[store.ReservationID]*lease)
	err = o.h.each(o.key(tableTerms), func(k, v []byte) error {
		r, err := decodeTermsRecord(v)
		if err != nil {
			return err
		}
		r.terms.Lease = min(r.terms.Lease, LongestLease)
		l := &lease{id: r.terms.ID, inner: r.inner, copies: r.copies, bytes: r.terms.Bytes}
		d, ok, err := o.h.space.Get(o.key(tableDrawn, r.inner[:]...))
		if err == nil && ok {
			l.drawn, err = decodeDrawn(d)
		}
		if err != nil {
			return err
		}
		l.bytes = max(l.bytes, l.drawn)
		o.leases[l.id], byInner[l.inner] = l, l
		records = append(records, booking.Record{Terms: r.terms, Drawn: l.drawn})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, o.h.each(o.key(tableMirror), func(k, _ []byte) error {
		inner := store.ReservationID(k[len(k)-16:])
		if byInner[inner] == nil {
			o.ended[&lease{inner: inner, ended: true}] = struct{}{}
		}
		return nil
	})
}

// recover puts in order what an unclean stop has left. What can't be done now, as where
// the store does not answer, the tending does later.
func (o *owner) recover(ctx context.Context) {
	log := o.h.log.WithField("owner", o.id.String()[:16])
	if err := o.book.Bury(ctx); err != nil {
		log.WithError(err).Warn("lapsed reservations could not be ended; it is tried again")
	}
	if err := o.remirror(ctx); err != nil {
		log.WithError(err).Warn("reservations could not be brought in step with the store; it is tried again")
	}
	if err := o.settleThose(ctx, func(outcome) bool { return true }); err != nil {
		log.WithError(err).Warn("interrupted puts could not be looked into; it is tried again")
	}
}

func (o *owner) revoked() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rec.revoked
}

func (o *owner) quota() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rec.quota
}

// find gives the record of a crate.
func (o *owner) find(id store.CrateID) (rec crateRecord, ok bool, err error) {
	v, ok, err := o.h.space.Get(o.key(tableCrate, id[:]...))
	if err != nil || !ok {
		return rec, false, err
	}
	rec, err = decodeCrate(v)
	return rec, err == nil, err
}

// there is find for what must be there. What an unclean stop has left unclear is
// settled first: it may have a receipt.
func (o *owner) there(ctx context.Context, op string, id store.CrateID) (crateRecord, error) {
	rec, ok, err := o.find(id)
	if u, open := o.unclear(id); err == nil && !ok && open && u.since.IsZero() {
		if err = o.settle(ctx, id); err == nil {
			rec, ok, err = o.find(id)
		}
	}
	if err == nil && !ok {
		err = &store.Error{Kind: store.NotFound, Op: op, Subject: id.String()}
	}
	return rec, err
}

// count adds to the owner's totals within an update.
func (o *owner) count(tx *ledger.Tx, bytes, crates int64) error {
	var t booking.Totals
	v, ok, err := tx.Get(o.key(tableUsed))
	if err == nil && ok {
		t, err = decodeTotals(v)
	}
	if err != nil {
		return err
	}
	t.Used, t.Crates = max(0, t.Used+bytes), max(0, t.Crates+crates)
	tx.Put(o.key(tableUsed), encodeTotals(t))
	return nil
}

// fence is store.Fencer's.
func (o *owner) fence(ctx context.Context, known []store.Token, next store.Token, takeOver bool) error {
	const op = "admit a mount"
	bad := func(k store.Kind, detail, hint string) error {
		return &store.Error{Kind: k, Op: op, Detail: detail, Hint: hint}
	}
	if next == (store.Token{}) {
		return bad(store.Invalid, "its token is empty", "")
	}
	if len(known) > MaxFences {
		return bad(store.Invalid, "it names too many tokens", "")
	}
	o.fencing.Lock()
	defer o.fencing.Unlock()
	err := o.change(ctx, func(tx *ledger.Tx) error {
		held, ok, err := tx.Get(o.key(tableFence))
		if err != nil {
			return err
		}
		if ok && !takeOver && !holds(known, held) {
			return bad(store.Conflict, "a mount with another history has used this peer since",
				"the state directory may be a copy or a restored one; if this is the right one, start it with --take-over")
		}
		tx.Put(o.key(tableFence), next[:])
		return nil
	})
	if err == nil {
		o.mu.Lock()
		o.held = next
		o.mu.Unlock()
	}
	return err
}

func holds(known []store.Token, held []byte) bool {
	for _, t := range known {
		if string(t[:]) == string(held) {
			return true
		}
	}
	return false
}

// numberOf reads the counter of owners and moves it on, within an update.
func nextNumber(tx *ledger.Tx) (uint32, error) {
	v, ok, err := tx.Get(key(tableNumber))
	if err != nil {
		return 0, err
	}
	n := uint32(1)
	if ok {
		if len(v) != 4 {
			return 0, damaged("the number of owners")
		}
		n = binary.BigEndian.Uint32(v)
	}
	tx.Put(key(tableNumber), binary.BigEndian.AppendUint32(nil, n+1))
	return n, nil
}

func (r ownerRecord) fingerprintText() string { return identity.FormatFingerprint(r.fingerprint) }
