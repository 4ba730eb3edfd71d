package vault

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/peerd"
	"stasis/peer/invite"
	"stasis/store"
)

// peerAt serves a peer at two addresses until the function it gives is called.
func peerAt(t *testing.T, state, grpc, http string) (*peerd.Peer, func()) {
	t.Helper()
	p, err := peerd.Open(bounded(t), peerd.Options{State: state, Create: true, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	end := func() {
		if err := p.Close(bounded(t)); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	if err := p.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Serve(grpc, http, func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	return p, end
}

func inviteOf(t *testing.T, p *peerd.Peer, args string) string {
	t.Helper()
	r, err := p.Handle(bounded(t), api.OpInvite, []byte(args), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r.(api.InviteResult).Invite
}

func node(t *testing.T, v *Vault, name string) api.Node {
	t.Helper()
	var s api.Status
	if err := ask(t, v, api.OpStatus, struct{}{}, &s); err != nil {
		t.Fatal(err)
	}
	for _, n := range s.Nodes {
		if n.Name == name {
			return n
		}
	}
	return api.Node{}
}

// await polls until a node is in a state.
func await(t *testing.T, v *Vault, name, state string) api.Node {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		n := node(t, v, name)
		if n.State == state {
			return n
		}
		if time.Now().After(end) {
			t.Fatalf("node %q is %s, not %s: %s", name, n.State, state, n.LastError)
		}
	}
}

// A peer becomes a node by an invite, stays one, and is told apart from a disk that is
// missing when it is away.
func TestPeerAsNode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "peer")
	p, end := peerAt(t, dir, "127.0.0.1:0", "127.0.0.1:0")
	state := stateDir(t)
	v := openedByHand(t, Options{State: state, Create: true})
	a := api.NodeAddArgs{Name: "basement", Kind: api.KindPeer, Invite: inviteOf(t, p, `{"quota":1073741824}`), Zone: "cellar", Rate: 20 << 20}
	var r api.NodeAddResult
	if err := ask(t, v, api.OpNodeAdd, a, &r); err != nil {
		t.Fatal(err)
	}
	if r.Quota != 1<<30 || r.Durable != 2 || r.Address == "" {
		t.Errorf("it was added as %+v", r)
	}
	n := await(t, v, "basement", "online")
	if n.Kind != config.KindGRPC || n.Address != r.Address || n.Peer != p.Fingerprint() || n.Zone != "cellar" || !n.Durable || n.Free > 1<<30 {
		t.Errorf("it is %+v", n)
	}
	a.Name, a.Invite = "again", inviteOf(t, p, `{}`)
	if err := ask(t, v, api.OpNodeAdd, a, &r); !errors.Is(err, store.Conflict) || !strings.Contains(err.Error(), "is that peer already") {
		t.Errorf("the same peer under a second name: %v", err)
	}
	end()
	if n := await(t, v, "basement", "unreachable"); n.LastError == "" {
		t.Error("nobody says why")
	}
	closed(t, v)
	// It comes back at the address that the vault knows.
	v = openedByHand(t, Options{State: state})
	defer closed(t, v)
	_, _ = peerAt(t, dir, r.Address, "")
	await(t, v, "basement", "online")
	var gone api.NodeRemoveResult
	if err := ask(t, v, api.OpNodeRemove, api.NodeRemoveArgs{Name: "basement"}, &gone); err != nil || !gone.Removed {
		t.Errorf("remove: %+v, %v", gone, err)
	}
	// An invite is wanted, not merely a known face.
	if err := ask(t, v, api.OpNodeAdd, api.NodeAddArgs{Name: "basement", Kind: config.KindGRPC}, &r); err == nil {
		t.Error("a peer was added without an invite")
	}
}

// What is wrong with an invite is said in words that help, and nothing is left of it.
func TestInvitesThatAreRefused(t *testing.T) {
	p, _ := peerAt(t, filepath.Join(t.TempDir(), "peer"), "127.0.0.1:0", "")
	other, _ := peerAt(t, filepath.Join(t.TempDir(), "other"), "127.0.0.1:0", "127.0.0.1:0")
	v := opened(t, Options{State: stateDir(t), Create: true})
	good, err := invite.Parse(inviteOf(t, p, `{}`))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := invite.Parse(inviteOf(t, other, `{}`))
	if err != nil {
		t.Fatal(err)
	}
	text := func(change func(in *invite.Invite)) string {
		in := good
		change(&in)
		s, err := in.Text()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	taken := opened(t, Options{State: filepath.Join(stateDir(t), "taken"), Create: true})
	used := api.NodeAddArgs{Name: "p", Kind: api.KindPeer, Invite: inviteOf(t, p, `{}`)}
	if err := ask(t, taken, api.OpNodeAdd, used, &api.NodeAddResult{}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		invite, protocol string
		kind             store.Kind
		words            string
	}{
		"cut":            {invite: text(func(*invite.Invite) {})[:80], kind: store.Corrupt, words: "copy the whole line"},
		"no invite":      {invite: "hello", kind: store.Corrupt, words: "does not start with"},
		"none":           {kind: store.Corrupt, words: "does not start with"},
		"used":           {invite: used.Invite, kind: store.Denied, words: "used by another"},
		"made up":        {invite: text(func(in *invite.Invite) { in.Secret[0]++ }), kind: store.Denied, words: "unknown"},
		"expired":        {invite: text(func(in *invite.Invite) { in.Secret[0]++; in.Expires = time.Now().Add(-time.Hour) }), kind: store.Denied, words: "the invite ended"},
		"wrong port":     {invite: text(func(in *invite.Invite) { in.GRPC = []string{"127.0.0.1:9"} }), kind: store.Unavailable, words: "refused); see that stasis-peer runs there"},
		"wrong machine":  {invite: text(func(in *invite.Invite) { in.GRPC = elsewhere.GRPC }), kind: store.Denied, words: "another machine answers there"},
		"wrong, by http": {invite: text(func(in *invite.Invite) { in.GRPC, in.HTTP = nil, elsewhere.HTTP }), kind: store.Denied, words: "another machine answers there"},
		"no http":        {invite: text(func(*invite.Invite) {}), protocol: "http", kind: store.Invalid, words: "no address for http"},
		"protocol":       {invite: text(func(*invite.Invite) {}), protocol: "ftp", kind: store.Invalid, words: "neither grpc nor http"},
	} {
		a := api.NodeAddArgs{Name: "p", Kind: api.KindPeer, Invite: c.invite, Protocol: c.protocol}
		err := ask(t, v, api.OpNodeAdd, a, &api.NodeAddResult{})
		if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %v with %q", name, err, c.kind, c.words)
		}
	}
	if n := node(t, v, "p"); n.Name != "" {
		t.Errorf("something is left: %+v", n)
	}
	// The first address that answers is taken, past one that does not and a stranger's.
	many := text(func(in *invite.Invite) { in.GRPC = append([]string{"127.0.0.1:9", elsewhere.GRPC[0]}, good.GRPC...) })
	var r api.NodeAddResult
	if err := ask(t, v, api.OpNodeAdd, api.NodeAddArgs{Name: "p", Kind: api.KindPeer, Invite: many}, &r); err != nil || r.Address != good.GRPC[0] {
		t.Errorf("several addresses: %+v, %v", r, err)
	}
}

func TestPauseByCommand(t *testing.T) {
	v := opened(t, Options{State: stateDir(t), Create: true})
	var r api.PauseResult
	if err := ask(t, v, api.OpPause, api.PauseArgs{Node: config.DefaultNode, For: time.Hour}, &r); err != nil || time.Until(r.Until) < 50*time.Minute {
		t.Errorf("pause: %+v, %v", r, err)
	}
	if n := node(t, v, config.DefaultNode); !n.Paused || n.PausedUntil.IsZero() {
		t.Errorf("it is %+v", n)
	}
	if err := ask(t, v, api.OpResume, api.PauseArgs{}, &r); err != nil {
		t.Error(err)
	}
	if n := node(t, v, config.DefaultNode); n.Paused {
		t.Errorf("after resume it is %+v", n)
	}
	if err := ask(t, v, api.OpPause, api.PauseArgs{Node: "nobody"}, &r); !errors.Is(err, store.NotFound) {
		t.Errorf("a node that is not there: %v", err)
	}
}
