package host

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/zeebo/blake3"

	"stasis/peer/guard"
	"stasis/peer/identity"
	"stasis/peer/invite"
	"stasis/peer/wire"
	"stasis/store"
	"stasis/store/booking"
	"stasis/store/ledger"
)

// Owner is what the peer's person sees of an owner. Sizes are in bytes.
type Owner struct {
	ID          store.OwnerID
	Name        string
	Fingerprint string
	Quota       int64 // 0: the store's capacity
	Since       time.Time
	Revoked     bool
	Used        int64
	Reserved    int64 // 0 where the peer does not run
	Crates      int64
}

// Status is what the peer's person sees of the host.
type Status struct {
	Store   store.Status
	Owners  int
	Spooled int64 // bytes of uploads under way or interrupted
}

// hashOf is what is kept of a secret. It is random and long: a plain hash tells nothing.
func hashOf(secret []byte) []byte {
	h := blake3.Sum256(append([]byte("stasis 1 invite\x00"), secret...))
	return h[:]
}

// NewInvite makes an invite's secret and keeps its hash. It needs no running host. quota
// is in bytes, 0 for none; the invite can be redeemed for the lifetime from now on, 0
// for invite.DefaultLifetime.
func NewInvite(ctx context.Context, db *ledger.DB, quota int64, lifetime time.Duration, now time.Time) (secret [invite.SecretSize]byte, expires time.Time, err error) {
	const op = "make an invite"
	if lifetime == 0 {
		lifetime = invite.DefaultLifetime
	}
	if quota < 0 || lifetime < time.Second || lifetime > MaxLifetime {
		return secret, expires, &store.Error{Kind: store.Invalid, Op: op, Detail: "the quota or the lifetime makes no sense",
			Hint: fmt.Sprintf("it can last from a second to %d days", int(MaxLifetime.Hours()/24))}
	}
	_, _ = rand.Read(secret[:]) // documented never to return an error
	expires = now.Add(lifetime).Truncate(time.Second)
	p, err := db.Space(ledger.Local).Update(func(tx *ledger.Tx) error {
		if err := forgetInvites(tx, now); err != nil {
			return err
		}
		tx.Put(key(tableInvite, hashOf(secret[:])), inviteRecord{quota: quota, expires: expires}.encode())
		return nil
	})
	if err == nil {
		err = db.Sync(ctx, p)
	}
	return secret, expires, err
}

// forgetInvites removes invites that nobody has redeemed in time, and refuses another
// where there are too many.
func forgetInvites(tx *ledger.Tx, now time.Time) error {
	const most = 50 // an update takes 100 keys
	prefix := key(tableInvite)
	from, count, removed := prefix, 0, 0
	for {
		pairs, err := tx.Scan(from, after(prefix), ledger.MaxScan)
		if err != nil {
			return err
		}
		for _, p := range pairs {
			rec, err := decodeInvite(p.Value)
			if err != nil {
				return err
			}
			if rec.owner.IsZero() && rec.expires.Before(now) && removed < most {
				tx.Delete(p.Key)
				removed++
			} else {
				count++
			}
		}
		if len(pairs) < ledger.MaxScan {
			break
		}
		from = append(pairs[len(pairs)-1].Key, 0)
	}
	if count >= MaxInvites {
		return &store.Error{Kind: store.Quota, Op: "make an invite", Detail: fmt.Sprintf("%d invites are the most that are kept", MaxInvites)}
	}
	return nil
}

// ListOwners tells of all owners, from the ledger alone.
func ListOwners(db *ledger.DB) ([]Owner, error) {
	h := &Host{db: db, space: db.Space(ledger.Local)}
	var out []Owner
	err := h.each(key(tableOwner), func(k, v []byte) error {
		rec, err := decodeOwner(v)
		if err != nil || len(k) != 2+len(store.OwnerID{}) {
			return damaged("an owner")
		}
		o := owner{number: rec.number}
		var t booking.Totals
		used, ok, err := h.space.Get(o.key(tableUsed))
		if err == nil && ok {
			t, err = decodeTotals(used)
		}
		out = append(out, Owner{ID: store.OwnerID(k[2:]), Name: store.Printable(rec.name, MaxName), Fingerprint: rec.fingerprintText(), Quota: rec.quota,
			Since: rec.since, Revoked: rec.revoked, Used: t.Used, Crates: t.Crates})
		return err
	})
	return out, err
}

// RevokeOwner takes an owner's rights away, in the ledger alone: a host that runs is told
// by its own Revoke. NotFound if there is no such owner.
func RevokeOwner(ctx context.Context, db *ledger.DB, id store.OwnerID) error {
	p, err := db.Space(ledger.Local).Update(func(tx *ledger.Tx) error {
		k := key(tableOwner, id[:])
		v, ok, err := tx.Get(k)
		if err != nil {
			return err
		}
		if !ok {
			return &store.Error{Kind: store.NotFound, Op: "revoke owner", Subject: id.String(), Hint: "`stasis peer list` names them"}
		}
		rec, err := decodeOwner(v)
		if err != nil {
			return err
		}
		rec.revoked = true
		tx.Put(k, rec.encode())
		return nil
	})
	if err != nil {
		return err
	}
	return db.Sync(ctx, p)
}

// Invite makes an invite; see NewInvite.
func (h *Host) Invite(ctx context.Context, quota int64, lifetime time.Duration) (secret [invite.SecretSize]byte, expires time.Time, err error) {
	h.admin.Lock()
	defer h.admin.Unlock()
	return NewInvite(ctx, h.db, quota, lifetime, h.o.Clock.Wall())
}

// Owners tells of all owners.
func (h *Host) Owners(ctx context.Context) ([]Owner, error) {
	all, err := ListOwners(h.db)
	if err != nil {
		return nil, err
	}
	for i := range all {
		h.mu.RLock()
		o := h.owners[all[i].ID]
		h.mu.RUnlock()
		if o == nil {
			continue
		}
		if u, err := o.book.Usage(ctx); err == nil {
			all[i].Used, all[i].Reserved, all[i].Crates = u.Used, u.Reserved, u.Crates
		}
	}
	return all, nil
}

// Status tells how the host stands.
func (h *Host) Status(ctx context.Context) (Status, error) {
	st, err := h.store.Status(ctx)
	h.mu.RLock()
	defer h.mu.RUnlock()
	h.resident.Lock()
	defer h.resident.Unlock()
	return Status{Store: st, Owners: len(h.owners), Spooled: h.resident.bytes}, err
}

// Trouble is what the last writing for an owner failed with; nil: it went well.
func (h *Host) Trouble() error { return h.trouble.err() }

// Revoke takes an owner's rights away, at once and durably: its connections get Denied,
// its reservations end. Its crates stay where they are and count as used, until the
// owner redeems a new invite or the person calls Forget.
func (h *Host) Revoke(ctx context.Context, id store.OwnerID) error {
	h.admin.Lock()
	defer h.admin.Unlock()
	if err := RevokeOwner(ctx, h.db, id); err != nil {
		return err
	}
	h.mu.RLock()
	o := h.owners[id]
	h.mu.RUnlock()
	if o == nil {
		return nil
	}
	o.mu.Lock()
	o.rec.revoked = true
	cancel := o.cancel
	o.mu.Unlock()
	cancel(denied("serve"))
	o.shutOut(ctx)
	h.log.WithField("owner", id.String()).Info("owner revoked")
	return nil
}

// shutOut ends what a revoked owner holds beside its crates. A call that was let in before and
// has not heard yet may leave something behind: the tending shuts the owner out again.
func (o *owner) shutOut(ctx context.Context) {
	o.mu.Lock()
	ids := make([]store.ReservationID, 0, len(o.leases))
	for id := range o.leases {
		ids = append(ids, id)
	}
	o.mu.Unlock()
	if err := round(ctx, ids, func(id store.ReservationID) error { return o.release(ctx, id) }); err != nil {
		o.h.log.WithError(err).Warn("reservations of a revoked owner could not be ended; it is tried again")
	}
	o.dropPartials(func(*partial) bool { return true })
	o.events.forget()
}

// Forget discards all crates of a revoked owner; Conflict if it is not revoked. It may
// take long, can be broken off, and goes on where it was when it is repeated.
func (h *Host) Forget(ctx context.Context, id store.OwnerID) (crates int, err error) {
	h.mu.RLock()
	o := h.owners[id]
	h.mu.RUnlock()
	const op = "discard the crates of owner"
	if o == nil {
		return 0, &store.Error{Kind: store.NotFound, Op: op, Subject: id.String()}
	}
	if !o.revoked() {
		return 0, &store.Error{Kind: store.Conflict, Op: op, Subject: id.String(), Detail: "it is not revoked", Hint: "`stasis peer revoke` it first"}
	}
	prefix := o.key(tableCrate)
	for {
		pairs, err := h.space.Scan(prefix, after(prefix), store.MaxPage)
		if err != nil || len(pairs) == 0 {
			return crates, err
		}
		for _, p := range pairs {
			if err := context.Cause(ctx); err != nil {
				return crates, &store.Error{Kind: store.Unavailable, Op: op, Subject: id.String(), Err: err}
			}
			if err := o.discard(ctx, store.CrateID(p.Key[len(p.Key)-16:])); err != nil {
				return crates, err
			}
			crates++
		}
	}
}

const opRedeem = "redeem an invite"

// strangers is the name of the lane of all who are not owners yet; no owner's is like it.
const strangers = ""

// errInvite is the one answer to every secret that does not count, whatever the reason.
func errInvite() error {
	return &store.Error{Kind: store.Denied, Op: opRedeem, Detail: "it is unknown, used by another, or too old", Hint: "ask the peer's person for a new one"}
}

// Redeem is wire.Service's.
func (h *Host) Redeem(ctx context.Context, r wire.Redeem, fingerprint string) (wire.Redeemed, error) {
	sum, err := identity.ParseFingerprint(fingerprint)
	if err == nil {
		err = identity.VerifyRedeem(r.Owner, r.Secret, fingerprint, r.Signature)
	}
	if err == nil && (len(r.Secret) != invite.SecretSize || len(r.Name) > MaxName) {
		err = &store.Error{Kind: store.Invalid, Op: opRedeem, Detail: "its secret or its name has a wrong length"}
	}
	var quota int64
	if err == nil {
		quota, err = h.redeem(ctx, r, sum)
	}
	if err != nil {
		h.refusals.Warn("an invite was refused", logrus.Fields{"fingerprint": fingerprint, "reason": err.Error()})
		if !errors.Is(err, store.Denied) && !errors.Is(err, store.Invalid) && !errors.Is(err, store.Quota) {
			err = &store.Error{Kind: store.Unavailable, Op: opRedeem, Err: err}
		}
		return wire.Redeemed{}, err
	}
	return wire.Redeemed{Leaf: h.leaf, Quota: quota}, nil
}

// present is how many owners have a right at this moment.
func (h *Host) present() (n int) {
	for _, o := range h.all() {
		if !o.revoked() {
			n++
		}
	}
	return n
}

// redeem makes the owner known, or known again.
func (h *Host) redeem(ctx context.Context, r wire.Redeem, fingerprint [32]byte) (quota int64, err error) {
	if err := h.lanes.brief.Acquire(ctx, strangers, 1); err != nil {
		return 0, err
	}
	defer h.lanes.brief.Release(strangers, 1)
	h.admin.Lock()
	defer h.admin.Unlock()
	h.mu.RLock()
	o, other, closed, full := h.owners[r.Owner], h.known[fingerprint], h.closed, len(h.owners) >= MaxOwners
	h.mu.RUnlock()
	crowded := (o == nil || o.revoked()) && h.present() >= guard.Owners
	switch {
	case closed:
		return 0, errClosed(opRedeem)
	case other != nil && other != o:
		return 0, &store.Error{Kind: store.Denied, Op: opRedeem, Detail: "this certificate is another owner's"}
	case r.Owner == h.o.Identity.Owner():
		return 0, &store.Error{Kind: store.Invalid, Op: opRedeem, Detail: "the invite is this peer's own"}
	case o == nil && full:
		return 0, &store.Error{Kind: store.Quota, Op: opRedeem, Detail: fmt.Sprintf("%d owners are the most that a peer knows", MaxOwners)}
	case crowded:
		return 0, &store.Error{Kind: store.Quota, Op: opRedeem, Detail: fmt.Sprintf("%d owners are the most for one peer", guard.Owners),
			Hint: "the peer's person can revoke one that is not needed any more"}
	}
	var rec ownerRecord
	var repeat bool
	err = h.change(ctx, func(tx *ledger.Tx) (err error) {
		rec, repeat, err = h.redeemIn(tx, r, fingerprint, o)
		return err
	})
	if err != nil {
		return 0, err
	}
	if repeat {
		return rec.quota, nil
	}
	return rec.quota, h.welcome(r.Owner, o, rec)
}

// redeemIn does it within an update. repeat says that nothing changed.
func (h *Host) redeemIn(tx *ledger.Tx, r wire.Redeem, fingerprint [32]byte, o *owner) (rec ownerRecord, repeat bool, err error) {
	k := key(tableInvite, hashOf(r.Secret))
	v, ok, err := tx.Get(k)
	if err != nil {
		return rec, false, err
	}
	if !ok {
		return rec, false, errInvite()
	}
	in, err := decodeInvite(v)
	if err != nil {
		return rec, false, err
	}
	if o != nil {
		o.mu.Lock()
		rec = o.rec
		o.mu.Unlock()
	}
	now := h.o.Clock.Wall()
	switch {
	case in.owner == r.Owner && o != nil && !rec.revoked && rec.fingerprint == fingerprint:
		return rec, true, nil
	case !in.owner.IsZero(), !now.Before(in.expires):
		return rec, false, errInvite()
	}
	if o == nil {
		if rec.number, err = nextNumber(tx); err != nil {
			return rec, false, err
		}
		rec.since = now
	}
	rec.revoked, rec.fingerprint, rec.quota, rec.name = false, fingerprint, in.quota, store.Printable(r.Name, MaxName)
	in.owner = r.Owner
	tx.Put(k, in.encode())
	tx.Put(key(tableOwner, r.Owner[:]), rec.encode())
	return rec, false, nil
}

// welcome lets the owner in.
func (h *Host) welcome(id store.OwnerID, o *owner, rec ownerRecord) error {
	if o == nil {
		o = h.newOwner(id, rec)
		if err := o.load(); err != nil {
			return err
		}
	} else {
		o.mu.Lock()
		old := o.rec.fingerprint
		o.rec = rec
		if o.ctx.Err() != nil {
			o.ctx, o.cancel = context.WithCancelCause(h.ctx)
		}
		o.mu.Unlock()
		o.book.SetCapacity(capacityOf(rec.quota))
		h.mu.Lock()
		delete(h.known, old)
		h.mu.Unlock()
	}
	h.mu.Lock()
	h.owners[id], h.known[rec.fingerprint] = o, o
	h.mu.Unlock()
	h.log.WithFields(logrus.Fields{"owner": id.String(), "name": rec.name}).Info("an invite was redeemed")
	return nil
}
