package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"stasis/integration/harness"
	"stasis/peer/identity"
	"stasis/store"
)

// logs checks that the operator can see something that was refused.
func logs(t *testing.T, p *harness.Peer, words ...string) {
	t.Helper()
	harness.Eventually(t, 5*time.Second, "a line in the peer's log with "+strings.Join(words, ", "), func() (bool, string) {
		log := p.Log()
		for line := range strings.Lines(log) {
			has := true
			for _, w := range words {
				has = has && strings.Contains(line, w)
			}
			if has {
				return true, ""
			}
		}
		return false, log
	})
}

// Who was not invited learns nothing, over either protocol, and the operator hears of it.
func TestPeerRefusesStrangers(t *testing.T) {
	p, other := harness.NewPeer(t), harness.NewPeer(t)
	p.Start()
	other.Start()
	for protocol, address := range map[string]string{"grpc": p.GRPC, "http": p.HTTP} {
		// Without a certificate the connection ends.
		c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
		if err == nil {
			_ = c.SetDeadline(time.Now().Add(callLimit))
			_, err = c.Write([]byte("GET /v1/status HTTP/1.1\r\nHost: peer\r\n\r\n"))
			var answer [1]byte
			if err == nil {
				_, err = c.Read(answer[:])
			}
			c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: without a certificate: %v", protocol, err)
		}
		logs(t, p, "refused", "certificate")

		// A certificate that nobody knows.
		stranger := dialAs(t, identity.New(), p, protocol)
		asks := map[string]func(ctx context.Context) error{
			"status":  func(ctx context.Context) error { _, err := stranger.Status(ctx); return err },
			"list":    func(ctx context.Context) error { _, err := stranger.List(ctx, nil); return err },
			"open":    func(ctx context.Context) error { _, err := stranger.Open(ctx, store.NewCrateID(), 0, -1); return err },
			"discard": func(context.Context) error { return stranger.discard(store.NewCrateID()) },
			"reserve": func(context.Context) error { return stranger.reserve(store.NewReservationID(), 1<<20, time.Hour) },
			"put": func(context.Context) error {
				return stranger.put(store.NewReservationID(), store.NewCrateID(), 1, 5000)
			},
			"fence": func(context.Context) error { return stranger.admit() },
		}
		for what, ask := range asks {
			ctx, cancel := bounded()
			if err := ask(ctx); !errors.Is(err, store.Denied) {
				t.Errorf("%s: a stranger's %s gives %v, want denied", protocol, what, err)
			}
			cancel()
		}
		logs(t, p, "stranger")

		// A peer that is another than the one whose fingerprint is pinned.
		here, there := *p, *other
		here.Fingerprint = there.Fingerprint
		if _, err := dialAs(t, identity.New(), &here, protocol).status(); !errors.Is(err, store.Denied) && !errors.Is(err, store.Unavailable) {
			t.Errorf("%s: a peer with another fingerprint gives %v", protocol, err)
		}
	}
}

// An invite is for one vault and for its time, whole, and the person is told what is
// wrong with it.
func TestPeerRefusesWrongInvites(t *testing.T) {
	p := harness.NewPeer(t)
	p.Start()
	v, second := harness.NewVault(t), harness.NewVault(t)
	v.Start()
	second.Start()
	used, late := p.Invite(), p.Invite("--expires", "1s")
	begun := time.Now()

	middle := len(used) / 2
	mangled := used[:middle] + string('a'+(used[middle]-'a'+1)%2) + used[middle+1:]
	for _, text := range []string{mangled, used[:len(used)-3], "hello", strings.Replace(used, "invite-1", "invite-9", 1)} {
		if text == used {
			t.Fatal("the invite is as it was")
		}
		r := v.Stasis("node", "add", v.Point, "far", "peer", text)
		v.Refused(r, r.Code, "invite")
		if r.Code != 1 && r.Code != 2 {
			t.Errorf("a mangled invite\n%v", r)
		}
	}
	v.OK("node", "add", v.Point, "far", "peer", used)
	second.Fails(1, []string{"invite"}, "node", "add", second.Point, "far", "peer", used)
	logs(t, p, "invite", "refused")
	time.Sleep(time.Until(begun.Add(2 * time.Second)))
	second.Fails(1, []string{"invite"}, "node", "add", second.Point, "far", "peer", late)
	if got := len(second.Status().Nodes); got != 1 {
		t.Errorf("%d nodes after refused invites", got)
	}
	// Whoever redeemed it may ask again: its answer may have been lost.
	o := dialAs(t, identity.New(), p, "http")
	text := p.Invite()
	for range 2 {
		if err := o.redeem(text); err != nil {
			t.Errorf("redeem an invite: %v", err)
		}
	}
	if err := dialAs(t, identity.New(), p, "grpc").redeem(text); !errors.Is(err, store.Denied) {
		t.Errorf("another's invite: %v, want denied", err)
	}
	v.Unmount()
	second.Unmount()
}

// An owner that is revoked is a stranger at once; its vault says so and reads what is
// elsewhere.
func TestPeerRevokesAnOwner(t *testing.T) {
	p := harness.NewPeer(t)
	p.Start()
	v := harness.NewVault(t)
	v.Settings("copies = 2\n")
	v.Start()
	v.OK("node", "add", v.Point, "near", "directory", v.Base+"/near")
	addPeer(t, v, "far", p, "grpc")
	harness.Write(t, "content\n", v.Point, "file")
	v.Wait(time.Minute)
	owners := p.Status().Peer.Owners
	if len(owners) != 1 || owners[0].Crates == 0 {
		t.Fatalf("the peer's owners are %+v", owners)
	}
	p.OK("peer", "revoke", p.State, owners[0].ID)
	if text := p.OK("peer", "list", p.State); !strings.Contains(text, "revoked") {
		t.Errorf("`peer list` says %s", text)
	}
	harness.Eventually(t, peerNoticed, "a status that says so", func() (bool, string) {
		n := v.Status().Node(t, "far")
		return n.State != "online" && strings.Contains(n.LastError, "denied"), n.State + " " + n.LastError
	})
	harness.Write(t, "later\n", v.Point, "late")
	// The kernel tells of the end of the writer after its close has returned.
	harness.Eventually(t, peerNoticed, "a file written now that waits for its copies", func() (bool, string) {
		got := v.Xattr("state", "late")
		return got == "pending" || got == "short", got
	})
	if got := harness.Read(t, v.Path("file")); got != "content\n" {
		t.Errorf("reads %q", got)
	}
	logs(t, p, "stranger", "revoked=true")
	v.Unmount()
}

// Owners know nothing of each other: another's crate is not found by the same words as
// one that nobody has, and can't be touched.
func TestPeerKeepsOwnersApart(t *testing.T) {
	p := harness.NewPeer(t)
	p.Start()
	for _, protocol := range []string{"grpc", "http"} {
		ann, bob := newOwner(t, p, protocol), newOwner(t, p, protocol)
		grant, id, free := store.NewReservationID(), store.NewCrateID(), store.NewCrateID()
		if err := errors.Join(ann.reserve(grant, 8<<20, time.Hour), ann.put(grant, id, 1, 2_000_000)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := bounded()
		defer cancel()
		asks := map[string]func(store.CrateID) error{
			"open":   func(id store.CrateID) error { return bob.has(id, 1, 2_000_000) },
			"stat":   func(id store.CrateID) error { _, err := bob.Stat(ctx, id); return err },
			"verify": func(id store.CrateID) error { _, err := bob.Verify(ctx, id, 0, -1, store.Digest{1}); return err },
		}
		for what, ask := range asks {
			others, nobodys := ask(id), ask(free)
			if !errors.Is(others, store.NotFound) {
				t.Errorf("%s: %s of another's crate gives %v, want not found", protocol, what, others)
				continue
			}
			if a, b := strings.ReplaceAll(others.Error(), id.String(), "ID"), strings.ReplaceAll(nobodys.Error(), free.String(), "ID"); a != b {
				t.Errorf("%s: %s tells another's crate from nobody's:\n%s\n%s", protocol, what, a, b)
			}
		}
		// Its reservation, its bytes under the same id, its end.
		if err := bob.put(grant, free, 2, 5000); !errors.Is(err, store.NotFound) {
			t.Errorf("%s: a put under another's reservation gives %v", protocol, err)
		}
		if _, err := bob.Renew(ctx, grant); !errors.Is(err, store.NotFound) {
			t.Errorf("%s: another's reservation is renewed: %v", protocol, err)
		}
		own := store.NewReservationID()
		if err := errors.Join(bob.reserve(own, 8<<20, time.Hour), bob.put(own, id, 3, 4000), bob.has(id, 3, 4000), bob.discard(id)); err != nil {
			t.Errorf("%s: the same id for two owners: %v", protocol, err)
		}
		// The right signature for the wrong one.
		s, err := ann.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		forged := store.DiscardRequest{Crate: id, Holder: ann.id.Owner(), Signature: bytes.Clone(bob.id.SignDiscard(id, s.Leaf))}
		if err := ann.Discard(ctx, forged); !errors.Is(err, store.Denied) {
			t.Errorf("%s: a discard that another signed gives %v, want denied", protocol, err)
		}
		if all, err := bob.list(); err != nil || len(all) != 0 {
			t.Errorf("%s: bob's list has %v (%v)", protocol, all, err)
		}
		if err := ann.has(id, 1, 2_000_000); err != nil {
			t.Errorf("%s: after all that: %v", protocol, err)
		}
		logs(t, p, "signature")
	}
	p.Stop()
}
