package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// passTo makes one peer a node of another, by a fresh invite.
func passTo(t *testing.T, from *harness.Peer, name string, to *harness.Peer, protocol string) {
	t.Helper()
	from.OK("node", "add", from.State, name, "peer", to.Invite(), "--protocol", protocol)
}

// setCopies has a peer keep every crate so many times.
func setCopies(t *testing.T, p *harness.Peer, copies int) {
	t.Helper()
	path := filepath.Join(p.State, "peer.toml")
	text, err := os.ReadFile(path)
	if err == nil {
		text = []byte(strings.Replace(string(text), "copies = 1", "copies = "+strconv.Itoa(copies), 1))
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(p.PID(), unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// settled waits until a peer has sent everything to its nodes.
func settled(t *testing.T, p *harness.Peer, nodes int) {
	t.Helper()
	harness.Eventually(t, peerCaughtUp, "a peer with nothing left to send", func() (bool, string) {
		r := p.Stasis("status", p.State, "--json")
		if r.Code != 0 {
			return false, r.Stderr
		}
		s := p.Status()
		on := int64(0)
		for i, n := range s.Nodes {
			if i > 0 && n.Crates != on {
				return false, r.Stdout
			}
			on = n.Crates
		}
		return len(s.Nodes) == nodes && s.Pending.Crates == 0 && on > 0, r.Stdout
	})
}

// copiesBecome waits until a file has so many copies.
func copiesBecome(t *testing.T, v *harness.Vault, name string, want int) {
	t.Helper()
	harness.Eventually(t, peerCaughtUp, fmt.Sprintf("%d copies of %s", want, name), func() (bool, string) {
		got := v.Copies(name)
		return got == want, fmt.Sprint(got)
	})
}

// A peer passes what it gets on to a disk of its own and to two further peers, and the vault
// counts each of these places once. Any one of them is enough to read everything.
func TestPeerThatPassesOn(t *testing.T) {
	front, back, third := harness.NewPeer(t), harness.NewPeer(t), harness.NewPeer(t)
	for _, p := range []*harness.Peer{front, back, third} {
		p.Start()
	}
	passTo(t, front, "back", back, "grpc")
	passTo(t, front, "third", third, "http")
	setCopies(t, front, 3)
	v := harness.NewVault(t)
	v.Settings("copies = 2\n")
	v.Start()
	disk := filepath.Join(v.Base, "disk")
	v.OK("node", "add", v.Point, "near", "directory", disk)
	addPeer(t, v, "front", front, "grpc")
	source := harness.Dir(t)
	rsync(t, goSource(t, "encoding"), source)
	if err := harness.WriteFile(filepath.Join(source, "big"), harness.Seed(t), int64(harness.Count(20<<20, 256<<20)), false); err != nil {
		t.Fatal(err)
	}
	rsync(t, source, v.Point)
	v.Wait(10 * time.Minute)
	settled(t, front, 3)
	if got := v.Copies("big"); got != 4 {
		t.Errorf("big has %d copies, want 4: one here, and three behind the peer\n%s", got, v.OK("why", v.Path("big")))
	}
	v.OK("check", v.Point, "--read")
	front.OK("check", front.State, "--read")
	// What comes later is counted later, and what goes is not counted any more.
	back.Stop()
	if err := os.WriteFile(v.Path("late"), []byte("late"), 0o600); err != nil {
		t.Fatal(err)
	}
	v.Wait(time.Minute, "late")
	if got := v.Copies("late"); got != 3 {
		t.Errorf("late has %d copies while one place is away, want 3", got)
	}
	back.Start()
	copiesBecome(t, v, "late", 4)
	fourth := filepath.Join(front.Base, "fourth")
	front.OK("node", "add", front.State, "fourth", "directory", fourth)
	front.OK("node", "remove", front.State, "fourth")
	if err := os.Remove(v.Path("late")); err != nil {
		t.Fatal(err)
	}
	v.Unmount()
	places := []place{
		localPlace(t, "disk", filepath.Join(front.State, "nodes", "default")),
		{"back", back.Stop, back.Start},
		{"third", third.Stop, third.Start},
	}
	near := localPlace(t, "near", disk)
	near.away()
	for i, left := range places {
		t.Run(left.name+" alone is left", func(t *testing.T) {
			v := v.For(t)
			forgetLocal(t, v)
			for k, p := range places {
				if k != i {
					p.away()
				}
			}
			harness.Eventually(t, peerNoticed, "a peer that sees what is left", func() (bool, string) {
				s := front.Status()
				return s.Nodes[i].State == "online", fmt.Sprintf("%+v", s.Nodes)
			})
			v.Start()
			c := harness.SameTrees(t, source, v.Point)
			t.Logf("%d files, the slowest operation took %s at %s", c.Files, c.Slowest.Round(time.Millisecond), c.SlowestAt)
			v.Unmount()
			for k, p := range places {
				if k != i {
					p.back()
				}
			}
		})
	}
	near.back()
	// What is removed goes from every place.
	v.Start()
	if err := os.Remove(v.Path("big")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(v.Path("encoding")); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, peerCaughtUp, "places that have given up what was removed", func() (bool, string) {
		for _, n := range front.Status().Nodes {
			if n.Bytes > 20<<20 {
				return false, n.Name
			}
		}
		return true, ""
	})
	v.Unmount()
}

// A peer with one disk gets a second one: what it has is copied there, and the first can be
// taken away then. The vault notices nothing.
func TestPeerGetsASecondDisk(t *testing.T) {
	p := harness.NewPeer(t)
	p.Start()
	v := harness.NewVault(t)
	v.Start()
	addPeer(t, v, "peer", p, "grpc")
	v.OK("policy", "set", v.Point, "--copies", "2")
	source := harness.Dir(t)
	rsync(t, goSource(t, "encoding"), source)
	if err := harness.WriteFile(filepath.Join(source, "big"), harness.Seed(t), 20<<20, false); err != nil {
		t.Fatal(err)
	}
	rsync(t, source, v.Point)
	v.Wait(10 * time.Minute)
	before := p.Status().Nodes[0].Crates
	second := filepath.Join(p.Base, "second")
	p.OK("node", "add", p.State, "second", "directory", second)
	setCopies(t, p, 2)
	settled(t, p, 2)
	if after := p.Status().Nodes[0].Crates; after != before {
		t.Errorf("the first disk has %d crates, had %d", after, before)
	}
	p.OK("check", p.State, "--read")
	if r := p.Stasis("node", "remove", p.State, "disk"); r.Code == 0 {
		t.Errorf("a disk was removed, and crates fell below the wanted copies: %s", r.Stdout)
	}
	copiesBecome(t, v, "big", 3)
	p.OK("node", "remove", p.State, "disk", "--force")
	copiesBecome(t, v, "big", 2)
	p.Stop()
	p.Start()
	if err := os.RemoveAll(filepath.Join(p.State, "nodes")); err != nil {
		t.Fatal(err)
	}
	v.OK("check", v.Point, "--read")
	v.Unmount()
	forgetLocal(t, v)
	localPlace(t, "the vault's own", filepath.Join(v.State, "nodes", "default")).away()
	v.Start()
	harness.SameTrees(t, source, v.Point)
	v.Unmount()
}

// Peers that pass crates on to each other, two or three in a circle, do not pass one on in it.
func TestPeersInACircle(t *testing.T) {
	for _, n := range []int{2, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			ring := make([]*harness.Peer, n)
			for i := range ring {
				ring[i] = harness.NewPeer(t)
				ring[i].Start()
			}
			for i, p := range ring {
				passTo(t, p, "next", ring[(i+1)%n], "grpc")
				setCopies(t, p, 2)
			}
			v := harness.NewVault(t)
			v.Settings("copies = 2\n")
			v.Start()
			addPeer(t, v, "a", ring[0], "grpc")
			v.OK("node", "add", v.Point, "near", "directory", filepath.Join(v.Base, "near"))
			rsync(t, goSource(t, "encoding"), v.Point)
			v.Wait(10 * time.Minute)
			crates := v.Status().Nodes[0].Crates
			harness.Eventually(t, peerCaughtUp, "all crates on every peer's disk", func() (bool, string) {
				for _, p := range ring {
					if got := p.Status().Nodes[0].Crates; got < crates {
						return false, fmt.Sprintf("%d of %d", got, crates)
					}
				}
				return true, ""
			})
			time.Sleep(8 * time.Second) // what goes round would go on doing so, by the mending at the latest
			crates = v.Status().Nodes[0].Crates
			for _, p := range ring {
				if got := p.Status().Nodes[0].Crates; got > crates {
					t.Errorf("the vault has %d crates, and the disk of a peer %d", crates, got)
				}
			}
			v.OK("check", v.Point, "--read")
			v.Unmount()
		})
	}
}
