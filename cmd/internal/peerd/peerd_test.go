package peerd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/nodes"
	"stasis/cmd/internal/statedir"
	"stasis/peer/identity"
	"stasis/peer/invite"
	"stasis/peer/wire"
	"stasis/store"
	"stasis/store/storetest"
)

func quiet() logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// bounded is a context that ends before the test run does.
func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// opened opens a peer without its node; the test closes it.
func opened(t *testing.T, state string) *Peer {
	t.Helper()
	p, err := Open(bounded(t), Options{State: state, Create: true, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// serving opens a peer that serves both protocols until it is closed, or the test ends.
func serving(t *testing.T, state string) *Peer {
	t.Helper()
	p := opened(t, state)
	t.Cleanup(func() { closed(t, p) })
	if err := p.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Serve("127.0.0.1:0", "127.0.0.1:0", func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	return p
}

func closed(t *testing.T, p *Peer) {
	t.Helper()
	if err := p.Close(bounded(t)); err != nil {
		t.Error(err)
	}
}

// ask asks as a command does.
func ask(t *testing.T, p *Peer, op string, args, result any) error {
	t.Helper()
	raw, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Handle(bounded(t), op, raw, func(any) error { return nil })
	if err != nil {
		return err
	}
	if raw, err = json.Marshal(got); err == nil {
		err = json.Unmarshal(raw, result)
	}
	if err != nil {
		t.Fatal(err)
	}
	return nil
}

func status(t *testing.T, p *Peer) api.Status {
	t.Helper()
	var s api.Status
	if err := ask(t, p, api.OpStatus, nil, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// invited makes an invite as a person gets it.
func invited(t *testing.T, p *Peer, a api.InviteArgs) invite.Invite {
	t.Helper()
	var r api.InviteResult
	if err := ask(t, p, api.OpInvite, a, &r); err != nil {
		t.Fatal(err)
	}
	in, err := invite.Parse(r.Invite)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// joined redeems an invite in the name of an owner, over one of the protocols.
func joined(t *testing.T, own identity.Identity, in invite.Invite, kind string) nodes.Peer {
	t.Helper()
	n := config.Node{Kind: kind, Peer: in.Fingerprint, Address: in.GRPC[0]}
	if kind == config.KindHTTP {
		n.Address = in.HTTP[0]
	}
	c, err := nodes.Dial(n, own, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := redeem(t, c, own, in); err != nil {
		t.Fatal(err)
	}
	if err := c.Fence(bounded(t), nil, store.NewToken(), true); err != nil {
		t.Fatal(err)
	}
	return c
}

func redeem(t *testing.T, c nodes.Peer, own identity.Identity, in invite.Invite) error {
	t.Helper()
	_, err := c.Redeem(bounded(t), wire.Redeem{Secret: in.Secret[:], Owner: own.Owner(), Name: "ann",
		Signature: own.SignRedeem(in.Secret[:], own.Fingerprint())})
	return err
}

// put keeps some bytes on a peer.
func put(t *testing.T, c nodes.Peer, p []byte) store.CrateID {
	t.Helper()
	ctx := bounded(t)
	r := store.ReserveRequest{ID: store.NewReservationID(), Bytes: store.Charge(int64(len(p)))}
	if _, err := c.Reserve(ctx, r); err != nil {
		t.Fatal(err)
	}
	id := store.NewCrateID()
	if _, err := c.Put(ctx, store.PutRequest{Reservation: r.ID, Crate: id, Size: int64(len(p)), Source: storetest.BytesSource(p)}); err != nil {
		t.Fatal(err)
	}
	return id
}

func read(t *testing.T, c nodes.Peer, id store.CrateID) ([]byte, error) {
	t.Helper()
	r, err := c.Open(bounded(t), id, 0, -1)
	if err != nil {
		return nil, err
	}
	p, err := io.ReadAll(r)
	return p, errors.Join(err, r.Close())
}

// What a vault gives a new peer it has back, over either protocol, after a restart too.
func TestNewPeer(t *testing.T) {
	state := filepath.Join(t.TempDir(), "peer")
	p := serving(t, state)
	if s := status(t, p); s.State != api.StateSafe || !s.Peer.Running || len(s.Peer.Serving) != 2 || s.Nodes[0].State != "online" {
		t.Errorf("the status of a new peer is %+v", s)
	}
	own := identity.New()
	content := bytes.Repeat([]byte("crate "), 500_000)
	in := invited(t, p, api.InviteArgs{Quota: 1 << 30})
	id := put(t, joined(t, own, in, config.KindGRPC), content)
	if got, err := read(t, joined(t, own, in, config.KindHTTP), id); err != nil || !bytes.Equal(got, content) {
		t.Errorf("read over http: %d bytes, %v", len(got), err)
	}
	s := status(t, p)
	if len(s.Peer.Owners) != 1 || s.Peer.Owners[0].Name != "ann" || s.Peer.Owners[0].Quota != 1<<30 || s.Peer.Owners[0].Crates != 1 {
		t.Errorf("the owners are %+v", s.Peer.Owners)
	}
	closed(t, p)
	if statedir.Locked(state) {
		t.Error("a closed peer still holds its state directory")
	}
	p = serving(t, state)
	if got, err := read(t, joined(t, own, invited(t, p, api.InviteArgs{}), config.KindGRPC), id); err != nil || !bytes.Equal(got, content) {
		t.Errorf("read after a restart: %d bytes, %v", len(got), err)
	}
}

// A making that was cut off anywhere goes on, and a peer whose ledger is gone is not
// taken for a new one.
func TestNewPeerGoesOnWhereItWasCutOff(t *testing.T) {
	state := filepath.Join(t.TempDir(), "peer")
	closed(t, opened(t, state))
	for _, lost := range [][]string{{statedir.LeafName}, {statedir.LeafName, config.PeerFileName}, {statedir.LeafName, ledgerName, servedName}} {
		for _, name := range lost {
			if err := os.RemoveAll(filepath.Join(state, name)); err != nil {
				t.Fatal(err)
			}
		}
		closed(t, opened(t, state))
	}
	p := serving(t, state)
	put(t, joined(t, identity.New(), invited(t, p, api.InviteArgs{}), config.KindGRPC), []byte("kept"))
	closed(t, p)
	for _, name := range []string{statedir.LeafName, ledgerName} {
		if err := os.RemoveAll(filepath.Join(state, name)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Open(bounded(t), Options{State: state, Create: true, Log: quiet()})
	if !errors.Is(err, store.NotFound) || !strings.Contains(err.Error(), "holds 1 crates") {
		t.Errorf("a peer whose ledger is gone: %v", err)
	}
}

func TestStateDirectoryWithOtherContent(t *testing.T) {
	for name, words := range map[string]string{"photo.jpg": "other content", config.FileName: "it is a vault's"} {
		state := t.TempDir()
		if err := os.WriteFile(filepath.Join(state, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(bounded(t), Options{State: state, Create: true, Log: quiet()})
		if !errors.Is(err, store.Conflict) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(bounded(t), Options{State: t.TempDir(), Log: quiet()}); !errors.Is(err, store.NotFound) {
		t.Errorf("an empty directory opened by a command: %v", err)
	}
}

// What a peer can't do it refuses to be told, before anything is made.
func TestSettingsThatAreRefused(t *testing.T) {
	node := "[[node]]\nname = \"a\"\nkind = \"directory\"\npath = \"/x/a\"\n"
	for name, c := range map[string]struct{ text, want string }{
		"none":    {"copies = 1\n", "there is no [[node]]"},
		"twice":   {node + node, "two nodes have the name"},
		"ledger":  {strings.Replace(node, "/x/a", "ledger/x", 1), "lie one in the other"},
		"unknown": {"copis = 1\n", "did you mean"},
	} {
		state := t.TempDir()
		if err := os.WriteFile(filepath.Join(state, config.PeerFileName), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(bounded(t), Options{State: state, Create: true, Log: quiet()})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(state, "key")); err == nil {
			t.Errorf("%s: a key was made all the same", name)
		}
	}
}

// A peer whose disk is away serves again once it is back, and says so meanwhile.
func TestNodeThatIsAway(t *testing.T) {
	state := filepath.Join(t.TempDir(), "peer")
	p := serving(t, state)
	own := identity.New()
	c := joined(t, own, invited(t, p, api.InviteArgs{}), config.KindGRPC)
	id := put(t, c, []byte("content"))
	place := filepath.Join(state, config.DefaultNodePath)
	if err := os.Rename(place, place+".away"); err != nil {
		t.Fatal(err)
	}
	if s := status(t, p); s.State != api.StateDegraded || s.Nodes[0].State != "missing" || s.Nodes[0].LastError == "" {
		t.Errorf("the status with its node away is %+v", s)
	}
	if _, err := read(t, c, id); !errors.Is(err, store.Unavailable) {
		t.Errorf("a read with the node away: %v", err)
	}
	in := invited(t, p, api.InviteArgs{})
	if err := redeem(t, c, own, in); !errors.Is(err, store.Unavailable) {
		t.Errorf("a redemption with the node away: %v", err)
	}
	if err := ask(t, p, api.OpCheck, api.CheckArgs{}, &api.CheckResult{}); !errors.Is(err, store.Unavailable) {
		t.Errorf("a check with the node away: %v", err)
	}
	if err := os.Rename(place+".away", place); err != nil {
		t.Fatal(err)
	}
	if s := status(t, p); s.State != api.StateSafe {
		t.Errorf("the status with its node back is %+v", s)
	}
	if got, err := read(t, c, id); err != nil || string(got) != "content" {
		t.Errorf("a read with the node back: %q, %v", got, err)
	}
}

// Who is revoked while the peer's disk is away is a stranger at once, and stays one when it is
// back, also where it was being opened at that moment.
func TestRevokeWithoutTheNode(t *testing.T) {
	state := filepath.Join(t.TempDir(), "peer")
	p := serving(t, state)
	own := identity.New()
	c := joined(t, own, invited(t, p, api.InviteArgs{}), config.KindHTTP)
	h := p.keeper.gate.get()
	place := filepath.Join(state, config.DefaultNodePath)
	if err := os.Rename(place, place+".away"); err != nil {
		t.Fatal(err)
	}
	if s := status(t, p); s.State != api.StateDegraded {
		t.Fatalf("the status with its node away is %+v", s)
	}
	if _, err := c.Status(bounded(t)); !errors.Is(err, store.Unavailable) {
		t.Errorf("with the node away: %v", err)
	}
	var r api.RevokeResult
	if err := ask(t, p, api.OpRevoke, api.RevokeArgs{Owner: own.Owner().String()}, &r); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(bounded(t)); !errors.Is(err, store.Denied) {
		t.Errorf("revoked with the node away: %v", err)
	}
	if err := os.Rename(place+".away", place); err != nil {
		t.Fatal(err)
	}
	if s := status(t, p); s.State != api.StateSafe {
		t.Errorf("the status with its node back is %+v", s)
	}
	if _, err := c.Status(bounded(t)); !errors.Is(err, store.Denied) {
		t.Errorf("revoked, with the node back: %v", err)
	}
	if h == p.keeper.gate.get() {
		t.Fatal("the node was not opened anew")
	}
	// One that was being opened has read its owners before.
	other := identity.New()
	d := joined(t, other, invited(t, p, api.InviteArgs{}), config.KindHTTP)
	h = p.keeper.gate.get()
	p.keeper.gate.set(nil)
	if err := ask(t, p, api.OpRevoke, api.RevokeArgs{Owner: other.Owner().String()}, &r); err != nil {
		t.Fatal(err)
	}
	if err := p.keeper.gate.let(bounded(t), h); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Status(bounded(t)); !errors.Is(err, store.Denied) {
		t.Errorf("revoked while the node was opened: %v", err)
	}
}

// A peer starts without its disk, and refuses a disk that another one is.
func TestStartWithoutTheNode(t *testing.T) {
	state := filepath.Join(t.TempDir(), "peer")
	closed(t, serving(t, state))
	place := filepath.Join(state, config.DefaultNodePath)
	if err := os.Rename(place, place+".away"); err != nil {
		t.Fatal(err)
	}
	p := serving(t, state)
	if s := status(t, p); s.Nodes[0].State != "missing" {
		t.Errorf("it is %+v", s.Nodes[0])
	}
	if _, err := os.Stat(place); err == nil {
		t.Error("a node was made in the place of the one that is away")
	}
	closed(t, p)
	other := filepath.Join(t.TempDir(), "other")
	closed(t, serving(t, other))
	if err := os.Rename(filepath.Join(other, config.DefaultNodePath), place); err != nil {
		t.Fatal(err)
	}
	p = opened(t, state)
	defer closed(t, p)
	if err := p.Start(bounded(t)); !errors.Is(err, store.Denied) {
		t.Errorf("with another peer's node: %v", err)
	}
}

func TestReload(t *testing.T) {
	state := filepath.Join(t.TempDir(), "peer")
	p := serving(t, state)
	c := joined(t, identity.New(), invited(t, p, api.InviteArgs{}), config.KindHTTP)
	id := put(t, c, []byte("content"))
	path := filepath.Join(state, config.PeerFileName)
	write := func(more string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(config.DefaultPeer+more), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("capacity = \"100MiB\"\n")
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	if s := status(t, p); s.Nodes[0].Capacity != 100<<20 || s.Nodes[0].Free > 100<<20 {
		t.Errorf("the new capacity is not in force: %+v", s.Nodes[0])
	}
	write("capacity = \"lots\"\n")
	if err := p.Reload(); err == nil {
		t.Error("settings with a fault were taken")
	}
	if got, err := read(t, c, id); err != nil || string(got) != "content" {
		t.Errorf("a read after it: %q, %v", got, err)
	}
}

// Invites, owners and their end don't need a running peer.
func TestAlone(t *testing.T) {
	state := filepath.Join(t.TempDir(), "peer")
	p := opened(t, state)
	if err := ask(t, p, api.OpInvite, api.InviteArgs{}, &api.InviteResult{}); !errors.Is(err, store.Invalid) {
		t.Errorf("an invite of a peer that never ran: %v", err)
	}
	in := invited(t, p, api.InviteArgs{Addresses: []string{"nas.example:7440"}})
	closed(t, p)
	p = serving(t, state)
	own := identity.New()
	in.GRPC = invited(t, p, api.InviteArgs{}).GRPC
	c := joined(t, own, in, config.KindGRPC)
	id := put(t, c, []byte("content"))
	if err := redeem(t, c, identity.New(), in); !errors.Is(err, store.Denied) {
		t.Errorf("an invite redeemed by a second one, who shows the certificate of the first: %v", err)
	}
	closed(t, p)
	p = opened(t, state)
	if s := status(t, p); s.State != api.StateDegraded || s.Peer.Running || len(s.Peer.Serving) != 2 || s.Nodes[0].Crates != 1 {
		t.Errorf("the status of a peer that does not run is %+v", s)
	}
	var check api.CheckResult
	if err := ask(t, p, api.OpCheck, api.CheckArgs{Read: true}, &check); err != nil || check.Crates != 1 || check.Problems != 0 || check.Bytes != 7 {
		t.Errorf("check: %+v, %v", check, err)
	}
	var r api.RevokeResult
	if err := ask(t, p, api.OpRevoke, api.RevokeArgs{Owner: own.Owner().String()[:8]}, &r); err != nil || !r.Owner.Revoked {
		t.Errorf("revoke: %+v, %v", r, err)
	}
	closed(t, p)
	p = serving(t, state)
	in = invited(t, p, api.InviteArgs{})
	n := config.Node{Kind: config.KindGRPC, Peer: in.Fingerprint, Address: in.GRPC[0]}
	c, err := nodes.Dial(n, own, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := read(t, c, id); !errors.Is(err, store.Denied) {
		t.Errorf("a read by a revoked owner: %v", err)
	}
	if err := ask(t, p, api.OpRevoke, api.RevokeArgs{Owner: "ann", Discard: true}, &r); err != nil || r.Discarded != 1 {
		t.Errorf("discard: %+v, %v", r, err)
	}
	if s := status(t, p); s.Nodes[0].Crates != 0 {
		t.Errorf("after the discard the node has %+v", s.Nodes[0])
	}
}

// A damaged crate is a problem of its owner's, named.
func TestCheckFindsDamage(t *testing.T) {
	state := filepath.Join(t.TempDir(), "peer")
	p := serving(t, state)
	put(t, joined(t, identity.New(), invited(t, p, api.InviteArgs{}), config.KindGRPC), bytes.Repeat([]byte("damage"), 100_000))
	damaged := 0
	err := filepath.WalkDir(filepath.Join(state, config.DefaultNodePath), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil && bytes.Contains(text, []byte("damage")) {
			damaged++
			err = os.WriteFile(path, bytes.Replace(text, []byte("damage"), []byte("DAMAGE"), 1), 0o600)
		}
		return err
	})
	if err != nil || damaged != 1 {
		t.Fatalf("%d files damaged, %v", damaged, err)
	}
	var findings []api.Finding
	got, err := p.Handle(bounded(t), api.OpCheck, json.RawMessage(`{"read":true}`), func(part any) error {
		findings = append(findings, part.(api.Finding))
		return nil
	})
	if err != nil || got.(api.CheckResult).Problems != 1 || len(findings) != 1 || !findings[0].Problem || !strings.Contains(findings[0].Text, "ann") {
		t.Errorf("%+v %+v, %v", got, findings, err)
	}
}
