package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stasis/integration/harness"
)

const (
	// peerNoticed is how long the status may lag behind what became of a peer.
	peerNoticed = 10 * time.Second
	// peerCaughtUp is how long a peer that is back may take for what little waits.
	peerCaughtUp = 60 * time.Second
)

// addPeer makes a peer a node of a vault by a fresh invite.
func addPeer(t *testing.T, v *harness.Vault, name string, p *harness.Peer, protocol string, invite ...string) {
	t.Helper()
	if r := v.Stasis("node", "add", v.State, name, "peer", p.Invite(invite...), "--protocol", protocol); r.Code != 0 {
		t.Fatal(r)
	}
}

// forgetLocal removes what an unmounted vault keeps beside its nodes.
func forgetLocal(t *testing.T, v *harness.Vault) {
	t.Helper()
	for _, dir := range []string{"bodies", "cache"} {
		if err := os.RemoveAll(filepath.Join(v.State, dir)); err != nil {
			t.Fatal(err)
		}
	}
}

// place is a node of a test that can be taken away while its vault is not mounted.
type place struct {
	name       string
	away, back func()
}

func localPlace(t *testing.T, name, path string) place {
	return place{name,
		func() {
			if err := os.Rename(path, path+".away"); err != nil {
				t.Fatal(err)
			}
		},
		func() {
			if err := os.Rename(path+".away", path); err != nil {
				t.Fatal(err)
			}
		}}
}

// Four copies, two of them on other machines, mean that any single place has everything,
// when the bodies and the cache are gone too.
func TestPeersAnyOneOfFourPlacesServesEverything(t *testing.T) {
	v := harness.NewVault(t)
	v.Settings("copies = 4\n")
	v.Start()
	near, box := filepath.Join(v.Base, "near"), filepath.Join(v.Base, "box")
	v.OK("node", "add", v.Point, "near", "directory", near)
	v.OK("node", "add", v.Point, "box", "container", box, "--capacity", "3GiB")
	places := []place{localPlace(t, "near", near), localPlace(t, "box", box)}
	for _, protocol := range []string{"grpc", "http"} {
		p := harness.NewPeer(t)
		p.Start()
		addPeer(t, v, "over-"+protocol, p, protocol)
		places = append(places, place{"over-" + protocol, p.Stop, p.Start})
	}
	source := harness.Dir(t)
	rsync(t, goSource(t, "encoding"), source)
	big := int64(harness.Count(32<<20, 1<<30))
	if err := harness.WriteFile(filepath.Join(source, "big"), harness.Seed(t), big, false); err != nil {
		t.Fatal(err)
	}
	rsync(t, source, v.Point)
	start := time.Now()
	v.Wait(30 * time.Minute)
	t.Logf("waited %s for 4 copies", time.Since(start).Round(time.Millisecond))
	everyFileHas(t, v, 4)
	v.Unmount()
	for i, left := range places {
		t.Run(left.name+" alone is left", func(t *testing.T) { oneIsLeft(t, v.For(t), places, i, source) })
	}
	v.Start()
	v.OK("check", v.Point, "--read")
	harness.SameTrees(t, source, v.Point)
	v.Unmount()
}

// oneIsLeft mounts a vault that has one place alone and compares everything.
func oneIsLeft(t *testing.T, v *harness.Vault, places []place, left int, source string) {
	forgetLocal(t, v)
	for i, p := range places {
		if i != left {
			p.away()
		}
	}
	v.Start()
	c := harness.SameTrees(t, source, v.Point)
	t.Logf("%d files, the slowest operation took %s at %s", c.Files, c.Slowest.Round(time.Millisecond), c.SlowestAt)
	if c.Slowest > readLimit {
		t.Errorf("%s took %s, want at most %s", c.SlowestAt, c.Slowest, readLimit)
	}
	s := v.Status()
	for i, p := range places {
		if got := s.Node(t, p.name).State; (got == "online") != (i == left) {
			t.Errorf("node %s is %s while %s alone is left", p.name, got, places[left].name)
		}
	}
	for i, p := range places {
		if i != left {
			p.back()
		}
	}
	v.Unmount()
}

// atPeer is a vault with a directory and a peer at the other end of a cable.
type atPeer struct {
	vault *harness.Vault
	peer  *harness.Peer
	link  *harness.Link
}

// newAtPeer makes the vault mounted, with two copies of everything. Words for the invite
// may follow.
func newAtPeer(t *testing.T, protocol string, invite ...string) atPeer {
	t.Helper()
	home, away := harness.NewNet(t), harness.NewNet(t)
	link := harness.NewLink(t, home, away)
	p := harness.NewPeer(t)
	p.Net, p.Host = away, link.Far
	p.Start()
	v := harness.NewVault(t)
	v.Net = home
	v.Settings("copies = 2\n")
	v.Start()
	v.OK("node", "add", v.Point, "near", "directory", filepath.Join(v.Base, "near"))
	addPeer(t, v, "far", p, protocol, invite...)
	return atPeer{v, p, link}
}

// drained waits until nothing waits to be sent, which nobody asks for.
func drained(t *testing.T, v *harness.Vault, within time.Duration) {
	t.Helper()
	harness.Eventually(t, within, "nothing left to send", func() (bool, string) {
		s := v.Status()
		return s.Pending.Crates == 0 && s.Short.Files == 0 && s.Unplaced.Files == 0, fmt.Sprintf("%+v", s)
	})
}

// A mount goes on while a copy of its state directory is started on another machine: from
// then on it changes nothing at the peer, where it would give up what the other's files
// need, and says so.
func TestPeerIsTakenOverByACopy(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			p := harness.NewPeer(t)
			p.Start()
			v := harness.NewVault(t)
			v.Start() // its own disk lies in the state directory, and is copied with it
			addPeer(t, v, "far", p, protocol)
			v.OK("policy", "set", v.Point, "--copies", "2")
			harness.Write(t, "kept\n", v.Point, "kept")
			v.Wait(time.Minute)
			twin := harness.NewVault(t)
			harness.Must(t, "cp", "-a", v.State, twin.State)
			twin.Start("--take-over")
			if err := os.Remove(v.Path("kept")); err != nil {
				t.Fatal(err)
			}
			harness.Write(t, "lost?\n", v.Point, "other")
			harness.Eventually(t, peerNoticed, "a mount that says it is cut off", func() (bool, string) {
				for _, n := range v.Status().Nodes {
					if n.Name == "far" && n.State == "unreachable" && (strings.Contains(n.LastError, "taken over") || strings.Contains(n.LastError, "another history has used this peer")) {
						return true, ""
					}
				}
				return false, v.OK("status", v.Point)
			})
			time.Sleep(time.Second) // what is discarded is discarded soon
			twin.OK("check", twin.Point, "--read")
			v.Unmount()
			twin.Unmount()
		})
	}
}
