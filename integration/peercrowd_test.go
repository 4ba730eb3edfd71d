package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
	"stasis/store"
)

const (
	// crowdSpace is what the peer has for each vault of a crowd, in bytes; each would like
	// crowdFiles of crowdFile, which is more.
	crowdSpace = 12 << 20
	crowdFile  = 512 << 10
	crowdFiles = 60
	// crowdQuota is what every other vault may have, in bytes.
	crowdQuota = 8 << 20
	// crowdLease is the lease of a holder that dies, and crowdTend how much later its space
	// may still be held.
	crowdLease = 3 * time.Second
	crowdTend  = 10 * time.Second
	// fairMost is how long a small file may take to the peer beside a large writer, and
	// fairFiles how many are tried.
	fairMost  = 3 * time.Second
	fairFiles = 12
)

// Many vaults write to one peer that has too little for all: together they never get more
// than it has, none more than its quota, and each is told the truth.
func TestPeerHasACrowd(t *testing.T) {
	vaults := harness.Count(4, 32)
	capacity := int64(vaults) * crowdSpace
	p := harness.NewPeer(t)
	p.Settings("[[node]]\nname = \"crates\"\nkind = \"directory\"\npath = \"crates\"\ncapacity = \"%d\"\n", capacity)
	p.Start()
	var all []*harness.Vault
	for i := range vaults {
		v := harness.NewVault(t)
		v.Settings("copies = 2\n")
		v.Start()
		v.OK("node", "add", v.Point, "near", "directory", filepath.Join(v.Base, "near"))
		if i%2 == 0 {
			addPeer(t, v, "far", p, "grpc")
		} else {
			addPeer(t, v, "far", p, "http", "--quota", fmt.Sprint(crowdQuota))
		}
		all = append(all, v)
	}
	done := make(chan struct{})
	var watching, writing sync.WaitGroup
	watching.Go(func() { watchCrowd(t, p, capacity, done) })
	for i, v := range all {
		writing.Go(func() {
			for n := range crowdFiles {
				content := harness.Bytes(uint64(i)<<32|uint64(n), crowdFile)
				if err := os.WriteFile(v.Path(fmt.Sprint(n)), content, 0o644); err != nil && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
					t.Errorf("vault %d: %v", i, err)
					return
				}
			}
		})
	}
	writing.Wait()
	harness.Eventually(t, 2*time.Minute, "as much on the peer as goes there", func() (bool, string) {
		s := p.Status()
		used := s.Nodes[0].Bytes
		return used > capacity*3/4, fmt.Sprintf("%.1f of %.1f MiB, %+v", mib(used), mib(capacity), s.Peer.Owners)
	})
	close(done)
	watching.Wait()
	for i, v := range all {
		harness.Eventually(t, time.Minute, fmt.Sprintf("a copy of each file of vault %d near by", i), func() (bool, string) {
			for n := range crowdFiles {
				if v.Copies(fmt.Sprint(n)) == 0 {
					return false, fmt.Sprintf("file %d has none", n)
				}
			}
			return true, ""
		})
		s := v.Status()
		short := 0
		for n := range crowdFiles {
			switch state, copies := v.Xattr("state", fmt.Sprint(n)), v.Copies(fmt.Sprint(n)); {
			case copies == 2 && state == "durable":
			case copies == 1 && (state == "short" || state == "pending"):
				short++
			default:
				t.Errorf("vault %d: a file with %d copies is %q", i, copies, state)
			}
		}
		t.Logf("vault %d: %d of %d files have one copy; %s, %d short", i, short, crowdFiles, s.State, s.Short.Files)
		if short == 0 {
			t.Errorf("vault %d has 2 copies of all it wrote, which is more than it could have", i)
		}
		v.OK("check", v.Point)
		v.Unmount()
	}
	p.Stop()
}

// watchCrowd looks all the time whether the peer gives more than it has.
func watchCrowd(t *testing.T, p *harness.Peer, capacity int64, done <-chan struct{}) {
	most := int64(0)
	for looks := 1; ; looks++ {
		s := p.Status()
		promised := s.Nodes[0].Bytes + s.Nodes[0].Reserved
		for i, o := range s.Peer.Owners {
			if o.Quota > 0 && o.Used+o.Reserved > o.Quota {
				t.Errorf("owner %d has %d used and %d reserved of a quota of %d", i, o.Used, o.Reserved, o.Quota)
			}
		}
		most = max(most, promised)
		if promised > capacity {
			t.Errorf("a peer of %d bytes holds and has promised %d", capacity, promised)
			return
		}
		select {
		case <-done:
			t.Logf("%d looks; at most %.1f of %.1f MiB were promised", looks, mib(most), mib(capacity))
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// A holder that dies gives its space back with its lease, in whole.
func TestPeerTakesBackWhatTheDeadHold(t *testing.T) {
	p := harness.NewPeer(t)
	p.Settings("[[node]]\nname = \"crates\"\nkind = \"directory\"\npath = \"crates\"\ncapacity = \"64MiB\"\n")
	p.Start()
	dead, heir := newOwner(t, p, "grpc"), newOwner(t, p, "http")
	start := time.Now() // the lease begins at the peer, before its answer is here
	if err := dead.reserve(store.NewReservationID(), 45<<20, crowdLease); err != nil {
		t.Fatal(err)
	}
	dead.Close()
	if err := heir.reserve(store.NewReservationID(), 40<<20, time.Hour); !errors.Is(err, store.NoSpace) {
		t.Errorf("what another holds was reserved: %v", err)
	}
	p.Kill() // its lease goes on while the peer is away
	p.Start()
	id := store.NewReservationID()
	harness.Eventually(t, crowdLease+crowdTend, "the space of the dead", func() (bool, string) {
		err := heir.admit()
		if err == nil {
			err = heir.reserve(id, 40<<20, time.Hour)
		}
		return err == nil, fmt.Sprint(err)
	})
	took := time.Since(start)
	t.Logf("a lease of %s was over after %s", crowdLease, took.Round(10*time.Millisecond))
	if took < crowdLease {
		t.Errorf("a lease of %s was broken after %s", crowdLease, took)
	}
}

// Who writes a little gets through beside who writes much without end.
func TestPeerIsFair(t *testing.T) {
	p := harness.NewPeer(t)
	p.Start()
	var vaults [2]*harness.Vault
	for i := range vaults {
		v := harness.NewVault(t)
		v.Settings("copies = 2\n")
		v.Start()
		v.OK("node", "add", v.Point, "near", "directory", filepath.Join(v.Base, "near"))
		addPeer(t, v, "far", p, "grpc")
		vaults[i] = v
	}
	small, large := vaults[0], vaults[1]
	measure := func(dir string) (slowest time.Duration) {
		harness.Mkdir(t, small.Path(dir))
		for n := range fairFiles {
			start := time.Now()
			harness.Write(t, strings.Repeat("small\n", 600), small.Path(dir), fmt.Sprint(n))
			small.Wait(time.Minute, filepath.Join(dir, fmt.Sprint(n)))
			slowest = max(slowest, time.Since(start))
		}
		return slowest
	}
	alone := measure("alone")
	done := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			if err := harness.WriteFile(large.Path(fmt.Sprint(n%8)), uint64(n), 24<<20, false); err != nil {
				t.Errorf("write: %v", err)
				return
			}
		}
	})
	had := p.Status().Nodes[0].Bytes
	harness.Eventually(t, peerCaughtUp, "a large writer at work", func() (bool, string) {
		n := large.Status().Node(t, "far")
		return n.PendingBytes > 16<<20 && p.Status().Nodes[0].Bytes > had+64<<20, fmt.Sprintf("%+v", n)
	})
	beside := measure("beside")
	close(done)
	writing.Wait()
	t.Logf("a small file takes %s at most, beside a large writer %s", alone.Round(time.Millisecond), beside.Round(time.Millisecond))
	if beside > fairMost {
		t.Errorf("beside a large writer a small file takes %s, want at most %s", beside, fairMost)
	}
	for _, v := range vaults {
		if err := unix.Unmount(v.Point, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
		v.AwaitEnd()
	}
}
