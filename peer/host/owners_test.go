package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"stasis/peer/identity"
	"stasis/peer/invite"
	"stasis/peer/wire"
	"stasis/store"
	"stasis/store/storetest"
)

const mib = 1 << 20

var bg = context.Background()

// keep reserves for a crate and puts it.
func keep(t testing.TB, s store.Store, c storetest.Crate) {
	t.Helper()
	r := reserve(t, s, c.Charge())
	if _, err := s.Put(bg, c.Put(r)); err != nil {
		t.Fatalf("put: %v", err)
	}
	if err := s.Release(bg, r); err != nil {
		t.Fatalf("release: %v", err)
	}
}

func reserve(t testing.TB, s store.Store, n int64) store.ReservationID {
	t.Helper()
	id := store.NewReservationID()
	if _, err := s.Reserve(bg, store.ReserveRequest{ID: id, Bytes: n}); err != nil {
		t.Fatalf("reserve %d bytes: %v", n, err)
	}
	return id
}

func read(s store.Store, id store.CrateID) ([]byte, error) {
	rc, err := s.Open(bg, id, 0, -1)
	if err != nil {
		return nil, err
	}
	p, err := io.ReadAll(rc)
	return p, errors.Join(err, rc.Close())
}

func fails(t testing.TB, what string, err error, kind store.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: %v, want %v", what, err, kind)
	}
}

// What one owner has is to another as if it were not there: the same answers as for an id
// that nobody ever used, and nothing that it does touches it.
func TestOwnersApart(t *testing.T) {
	p := newPeer(t, 64*mib, storetest.NewClock())
	_, ann := p.owner(0)
	_, eve := p.owner(0)
	g := storetest.NewGen(storetest.Seed(t))
	c := g.Crate(2*mib + 5)
	held := reserve(t, ann, 2*c.Charge())
	if _, err := ann.Put(bg, c.Put(held)); err != nil {
		t.Fatal(err)
	}
	same := func(what string, ask func(id store.CrateID) error) {
		t.Helper()
		others, nobodys := ask(c.ID), ask(g.ID())
		fails(t, what, others, store.NotFound)
		if a, b := telling(others, c.ID), telling(nobodys, c.ID); a != b {
			t.Errorf("%s tells apart what another has (%q) from what nobody has (%q)", what, a, b)
		}
	}
	same("stat", func(id store.CrateID) error { _, err := eve.Stat(bg, id); return err })
	same("open", func(id store.CrateID) error { _, err := eve.Open(bg, id, 0, -1); return err })
	same("open out of range", func(id store.CrateID) error { _, err := eve.Open(bg, id, 1<<40, 1); return err })
	same("verify", func(id store.CrateID) error {
		_, err := eve.Verify(bg, id, 0, -1, store.Digest{1})
		return err
	})
	same("open by the inner id", func(store.CrateID) error {
		_, err := eve.Open(bg, innerCrate(ann.id.Owner(), c.ID), 0, -1)
		return err
	})
	same("renew", func(store.CrateID) error { _, err := eve.Renew(bg, held); return err })
	same("put under another's reservation", func(store.CrateID) error {
		_, err := eve.Put(bg, g.Crate(10).Put(held))
		return err
	})
	if err := eve.Release(bg, held); err != nil {
		t.Errorf("release of another's reservation: %v; want what it is for one that is not there", err)
	}
	if err := eve.Discard(bg, store.DiscardRequest{Crate: c.ID}); err != nil {
		t.Errorf("discard of another's crate: %v; want what it is for one that is not there", err)
	}
	// With the signature of its real owner it is none of eve's.
	stolen := ann.id.SignDiscard(c.ID, p.leaf)
	fails(t, "discard with another's signature", eve.Session.Discard(bg, store.DiscardRequest{Crate: c.ID, Signature: stolen}), store.Denied)
	if page, err := eve.List(bg, nil); err != nil || len(page.Crates) != 0 {
		t.Errorf("eve lists %v, %v", page.Crates, err)
	}
	if st, err := eve.Status(bg); err != nil || st.Used != 0 || st.Crates != 0 || st.Reserved != 0 {
		t.Errorf("eve's status %+v, %v", st, err)
	}
	// The same id, with other bytes, is another crate.
	mine := g.Crate(mib + 1)
	mine.ID = c.ID
	keep(t, eve, mine)
	for who, want := range map[*client]storetest.Crate{ann: c, eve: mine} {
		if got, err := read(who, c.ID); err != nil || !bytes.Equal(got, want.Data) {
			t.Errorf("an owner reads %d bytes, %v", len(got), err)
		}
	}
	if err := eve.Discard(bg, store.DiscardRequest{Crate: c.ID}); err != nil {
		t.Error(err)
	}
	if got, err := read(ann, c.ID); err != nil || !bytes.Equal(got, c.Data) {
		t.Errorf("after eve's discard ann reads %d bytes, %v", len(got), err)
	}
	if _, err := ann.Put(bg, g.Crate(10).Put(held)); err != nil {
		t.Errorf("ann's reservation: %v", err)
	}
}

// telling is what an error says over the wire, but for the id that was asked for.
func telling(err error, id store.CrateID) string {
	e := wire.FromError(err)
	e.Subject = ""
	return strings.ReplaceAll(e.Err().Error(), id.String(), "")
}

// An error over the wire says nothing of this machine.
func TestErrorsTellNoPaths(t *testing.T) {
	p := newPeer(t, 8*mib, storetest.NewClock())
	_, ann := p.owner(0)
	c := storetest.NewGen(1).Crate(3 * mib)
	keep(t, ann, c)
	inner := innerCrate(ann.id.Owner(), c.ID)
	p.flip(inner, 5)
	_, corrupt := read(ann, c.ID)
	fails(t, "read of a damaged crate", corrupt, store.Corrupt)
	_, full := ann.Reserve(bg, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 1 << 40})
	fails(t, "reserve too much", full, store.NoSpace)
	if err := p.store.Close(); err != nil { // behind the host's back
		t.Fatal(err)
	}
	_, stat := ann.Stat(bg, c.ID)
	_, status := ann.Status(bg)
	_, put := ann.Put(bg, c.Put(store.NewReservationID()))
	for what, err := range map[string]error{"read": corrupt, "reserve": full, "stat": stat, "status": status, "put": put} {
		if err == nil {
			t.Errorf("%s: no error", what)
			continue
		}
		if s := wire.FromError(err).Err().Error(); strings.Contains(s, p.dir) || strings.Contains(s, inner.String()) {
			t.Errorf("%s tells %q", what, s)
		}
	}
}

func TestRedeem(t *testing.T) {
	clock := storetest.NewClock()
	p := newPeer(t, 64*mib, clock)
	ann, eve := identity.New(), identity.New()
	secret, expires, err := p.Invite(bg, 5*mib, time.Hour)
	if err != nil || !expires.Equal(clock.Wall().Add(time.Hour)) {
		t.Fatalf("an invite until %v, %v", expires, err)
	}
	try := func(what string, kind store.Kind, r wire.Redeem, fingerprint string) {
		t.Helper()
		_, err := p.Redeem(bg, r, fingerprint)
		fails(t, what, err, kind)
		if _, err := p.Session(fingerprint, store.Token{}); !errors.Is(err, store.Denied) {
			t.Errorf("%s: a session: %v", what, err)
		}
	}
	good := redemption(ann, secret[:])
	wrong := redemption(ann, make([]byte, invite.SecretSize))
	short := redemption(ann, secret[:8])
	unsigned := good
	unsigned.Signature = nil
	try("an unknown secret", store.Denied, wrong, ann.Fingerprint())
	try("half a secret", store.Invalid, short, ann.Fingerprint())
	try("no signature", store.Denied, unsigned, ann.Fingerprint())
	try("over another's connection", store.Denied, good, eve.Fingerprint())
	try("in another's name", store.Denied, wire.Redeem{Secret: secret[:], Owner: ann.Owner(), Signature: eve.SignRedeem(secret[:], eve.Fingerprint())}, eve.Fingerprint())
	try("no certificate", store.Invalid, good, "")

	good.Name = "ann\x1b[2J\u202E"
	got, err := p.Redeem(bg, good, ann.Fingerprint())
	if err != nil || got.Quota != 5*mib || got.Leaf != p.leaf {
		t.Fatalf("redeemed %+v, %v", got, err)
	}
	// What an owner calls itself is read on a terminal.
	if all, err := p.Owners(bg); err != nil || len(all) != 1 || all[0].Name != "ann\uFFFD[2J\uFFFD" {
		t.Errorf("the owners are %+v, %v", all, err)
	}
	// The answer may be lost: the same owner asks again, even later than the invite lasts.
	for range 2 {
		if again, err := p.Redeem(bg, good, ann.Fingerprint()); err != nil || again != got {
			t.Errorf("a repeat: %+v, %v", again, err)
		}
		clock.Advance(2 * time.Hour)
	}
	try("a used one", store.Denied, redemption(eve, secret[:]), eve.Fingerprint())

	late, _, err := p.Invite(bg, 0, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Minute)
	try("an expired one", store.Denied, redemption(eve, late[:]), eve.Fingerprint())

	// All of it is there after a start, and nobody can find a secret in the records.
	p.stop()
	p.start()
	if _, err := p.Session(ann.Fingerprint(), store.Token{}); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if _, err := p.Redeem(bg, good, ann.Fingerprint()); err != nil {
		t.Errorf("a repeat after a restart: %v", err)
	}
	try("a used one after a restart", store.Denied, redemption(eve, secret[:]), eve.Fingerprint())
	err = p.each([]byte{space}, func(k, v []byte) error {
		if bytes.Contains(k, secret[:]) || bytes.Contains(v, secret[:]) {
			t.Error("the ledger has the secret")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []func() error{
		func() error { _, _, err := p.Invite(bg, -1, 0); return err },
		func() error { _, _, err := p.Invite(bg, 0, -time.Second); return err },
		func() error { _, _, err := p.Invite(bg, 0, 2*MaxLifetime); return err },
	} {
		fails(t, "an invite that makes no sense", bad(), store.Invalid)
	}
}

func TestRevoke(t *testing.T) {
	p := newPeer(t, 64*mib, storetest.NewClock())
	id, ann := p.owner(0)
	_, bob := p.owner(0)
	g := storetest.NewGen(7)
	c := g.Crate(mib)
	keep(t, ann, c)
	keep(t, bob, c)
	r := reserve(t, ann, 8*mib)
	src, stalled := storetest.StallingSource(g.Bytes(4*mib), 2*mib)
	put := make(chan error, 1)
	go func() {
		_, err := ann.Put(bg, store.PutRequest{Reservation: r, Crate: g.ID(), Size: 4 * mib, Source: src})
		put <- err
	}()
	<-stalled
	reader, err := ann.Open(bg, c.ID, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Revoke(bg, id.Owner()); err != nil {
		t.Fatal(err)
	}
	if err := <-put; err == nil {
		t.Error("a put under way went on")
	}
	if _, err := io.ReadAll(reader); err == nil {
		t.Error("a read under way went on")
	}
	_ = reader.Close()
	refused := func(when string) {
		t.Helper()
		_, err := p.Session(id.Fingerprint(), store.Token{})
		fails(t, when+": session", err, store.Denied)
		_, err = p.Session(identity.New().Fingerprint(), store.Token{})
		fails(t, when+": a stranger's session", err, store.Denied)
	}
	refused("at once")
	_, err = ann.Stat(bg, c.ID)
	fails(t, "stat in an old session", err, store.Denied)
	_, err = ann.Status(bg)
	fails(t, "status in an old session", err, store.Denied)
	if st, err := p.store.Status(bg); err != nil || st.Reserved != 0 {
		t.Errorf("the store still has %d reserved, %v", st.Reserved, err)
	}
	p.stop()
	p.start()
	refused("after a restart")
	if got, err := read(p.client(bob.id), c.ID); err != nil || !bytes.Equal(got, c.Data) {
		t.Errorf("another owner: %v", err)
	}
	owners, err := p.Owners(bg)
	if err != nil || len(owners) != 2 {
		t.Fatalf("owners %+v, %v", owners, err)
	}
	for _, o := range owners {
		if o.Revoked != (o.ID == id.Owner()) || o.Used != c.Charge() || o.Crates != 1 || o.Name != "test" {
			t.Errorf("owner %+v", o)
		}
	}

	// A new invite brings it back, with what it had.
	p.invite(id, 10*mib)
	if got, err := read(p.client(id), c.ID); err != nil || !bytes.Equal(got, c.Data) {
		t.Errorf("after a new invite: %v", err)
	}
	if st, err := p.client(id).Status(bg); err != nil || st.Capacity != 10*mib || st.Used != c.Charge() {
		t.Errorf("after a new invite: %+v, %v", st, err)
	}
	_, err = p.Forget(bg, id.Owner())
	fails(t, "forget an owner with rights", err, store.Conflict)
	if err := p.Revoke(bg, id.Owner()); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Forget(bg, id.Owner()); err != nil || n != 1 {
		t.Errorf("forgot %d crates, %v", n, err)
	}
	if st, err := p.store.Status(bg); err != nil || st.Crates != 1 {
		t.Errorf("the store has %d crates, %v", st.Crates, err)
	}
	fails(t, "revoke nobody", p.Revoke(bg, store.OwnerID{9}), store.NotFound)
}

func TestFences(t *testing.T) {
	p := newPeer(t, 64*mib, storetest.NewClock())
	id := identity.New()
	p.invite(id, 0)
	s := p.dial(id).Session
	_, err := s.Reserve(bg, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 1})
	fails(t, "reserve before the first fence", err, store.Denied)
	a, b := store.NewToken(), store.NewToken()
	if err := s.Fence(bg, nil, a, false); err != nil {
		t.Fatal(err)
	}
	fails(t, "another history", s.Fence(bg, []store.Token{b}, b, false), store.Conflict)
	if err := s.Fence(bg, []store.Token{a}, b, false); err != nil {
		t.Error(err)
	}
	// Who shows the token that another has taken over from changes nothing, and reads.
	old, err := p.session(id.Fingerprint(), a)
	if err != nil {
		t.Fatal(err)
	}
	_, err = old.Reserve(bg, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 1})
	fails(t, "reserve after another has taken over", err, store.Denied)
	if _, err := old.List(bg, nil); err != nil {
		t.Error(err)
	}
	now, err := p.session(id.Fingerprint(), b)
	if err != nil {
		t.Fatal(err)
	}
	reserve(t, now, 100)
	_, bob := p.owner(0) // whose token is no matter of ann's
	if err := bob.Fence(bg, nil, a, true); err != nil {
		t.Error(err)
	}
	// A mount that goes on while the peer is started again needs nobody's leave.
	p.stop()
	p.start()
	s = p.dial(id).Session
	reserve(t, s, 100)
	fails(t, "another history after a restart", s.Fence(bg, []store.Token{a}, a, false), store.Conflict)
	if err := s.Fence(bg, []store.Token{b}, a, false); err != nil {
		t.Error(err)
	}
}

func TestEvents(t *testing.T) {
	p := newPeer(t, 8*mib, storetest.NewClock())
	_, ann := p.owner(0)
	_, bob := p.owner(0)
	c := storetest.NewGen(3).Crate(mib)
	keep(t, ann, c)
	follow := func(after wire.Cursor, n int) (got []wire.Event) {
		t.Helper()
		enough := errors.New("enough")
		ctx, cancel := context.WithTimeout(bg, 20*time.Second)
		defer cancel()
		err := ann.Events(ctx, after, func(e wire.Event) error {
			if e.Kind == wire.EventAlive {
				return nil
			}
			if got = append(got, e); len(got) == n {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) && n > 0 {
			t.Fatalf("got %d of %d events, %v", len(got), n, err)
		}
		return got
	}
	first := follow(wire.Cursor{}, 1)[0]
	if first.Kind != wire.EventGap || first.Incarnation == "" {
		t.Errorf("a new stream begins with %+v", first)
	}
	p.flip(innerCrate(ann.id.Owner(), c.ID), 9)
	if _, err := read(ann, c.ID); err == nil {
		t.Error("no damage")
	}
	_, err := ann.Reserve(bg, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 64 * mib})
	fails(t, "reserve", err, store.NoSpace)
	r := reserve(t, bob, mib)
	if err := bob.Release(bg, r); err != nil {
		t.Fatal(err)
	}
	got := follow(first.Cursor, 2)
	if got[0].Kind != wire.EventDamaged || *got[0].Crate != c.ID || got[1].Kind != wire.EventSpace {
		t.Errorf("events %+v", got)
	}
	if again := follow(got[0].Cursor, 1); again[0] != got[1] {
		t.Errorf("after the first: %+v", again)
	}
	for range EventsKept + 1 {
		p.owners[ann.id.Owner()].events.add(wire.Event{Kind: wire.EventSpace})
	}
	if late := follow(first.Cursor, 1)[0]; late.Kind != wire.EventGap {
		t.Errorf("too late: %+v", late)
	}
	p.stop()
	p.start()
	ann = p.client(ann.id)
	if restarted := follow(got[1].Cursor, 1)[0]; restarted.Kind != wire.EventGap || restarted.Incarnation == first.Incarnation {
		t.Errorf("after a restart: %+v", restarted)
	}
}
