package integration

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"stasis/integration/harness"
)

// twoPeers is a vault whose every place is another machine.
type twoPeers struct {
	vault *harness.Vault
	peers [2]*harness.Peer
	links [2]*harness.Link
}

func newTwoPeers(t *testing.T) twoPeers {
	t.Helper()
	home := harness.NewNet(t)
	var w twoPeers
	for i := range w.peers {
		away := harness.NewNet(t)
		w.links[i] = harness.NewLink(t, home, away)
		w.peers[i] = harness.NewPeer(t)
		w.peers[i].Net, w.peers[i].Host = away, w.links[i].Far
		w.peers[i].Start()
	}
	w.vault = harness.NewVault(t)
	w.vault.Net = home
	w.vault.Settings("copies = 2\n")
	w.vault.Start()
	addPeer(t, w.vault, "one", w.peers[0], "grpc")
	addPeer(t, w.vault, "two", w.peers[1], "http")
	return w
}

// A read goes on from the next place when the one it came from is cut off, killed, stopped
// or has other bytes: right to the byte, and soon.
func TestPeerLostAmidARead(t *testing.T) {
	w := newTwoPeers(t)
	size := int64(harness.Count(96<<20, 1<<30))
	seed := harness.Seed(t)
	troubles := []string{"cut off", "killed", "stopped", "wrong"}
	for _, name := range troubles {
		if err := harness.WriteFile(w.vault.Path(name), seed, size, false); err != nil {
			t.Fatal(err)
		}
	}
	w.vault.Wait(10 * time.Minute)
	everyFileHas(t, w.vault, 2)
	w.vault.Unmount()
	for _, name := range troubles {
		t.Run(name, func(t *testing.T) {
			forgetLocal(t, w.vault)
			v := w.vault.For(t)
			v.Start()
			undo := func() {}
			var before [2]harness.Traffic
			for i, l := range w.links {
				before[i] = l.Traffic()
			}
			slowest := readAlong(t, v.Path(name), seed, size, func() {
				nearest := 0
				if w.links[1].Traffic().Since(before[1]).In > w.links[0].Traffic().Since(before[0]).In {
					nearest = 1
				}
				t.Logf("the read comes from peer %d", nearest+1)
				undo = w.lose(t, name, nearest)
			})
			t.Logf("the slowest read took %s", slowest.Round(time.Millisecond))
			if slowest > readLimit {
				t.Errorf("a read took %s, want at most %s", slowest, readLimit)
			}
			undo()
			for _, node := range []string{"one", "two"} {
				eventuallyNode(t, v, node, "online")
			}
			v.Unmount()
		})
	}
}

// lose takes a peer away as the name says and gives what brings it back.
func (w twoPeers) lose(t *testing.T, how string, i int) (undo func()) {
	switch how {
	case "cut off":
		w.links[i].Cut()
		return w.links[i].Mend
	case "killed":
		w.peers[i].Kill()
		return w.peers[i].Start
	case "stopped":
		w.peers[i].Freeze()
		return w.peers[i].Thaw
	}
	if n := rot(t, w.peers[i].State); n == 0 {
		t.Fatal("no crate found to damage")
	}
	return func() {}
}

// rot changes every large file of a peer in its second half, and gives how many.
func rot(t *testing.T, dir string) int {
	t.Helper()
	count := 0
	err := filepath.Walk(filepath.Join(dir, "nodes"), func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() || info.Size() < 8<<20 {
			return err
		}
		count++
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		for at := info.Size() / 2; at < info.Size(); at += 1 << 19 {
			if _, err := f.WriteAt([]byte("rotten"), at); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// readAlong reads a file from start to end, compares it, has something happen at a third,
// and gives the longest that one read took.
func readAlong(t *testing.T, path string, seed uint64, size int64, happen func()) (slowest time.Duration) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, got := make([]byte, 128<<10), make([]byte, 128<<10)
	source := harness.Source(seed)
	for at := int64(0); at < size; at += int64(len(got)) {
		if at <= size/3 && at+int64(len(got)) > size/3 {
			happen()
		}
		start := time.Now()
		_, err := io.ReadFull(f, got)
		slowest = max(slowest, time.Since(start))
		if err != nil {
			t.Fatalf("read %s at %d: %v", path, at, err)
		}
		if _, err := io.ReadFull(source, want); err != nil || !bytes.Equal(want, got) {
			t.Fatalf("%s differs at %d (%v)", path, at, err)
		}
	}
	return slowest
}

const (
	// changeFile is the size of the file in which a little is changed, changeFull with full
	// counts, and changeWire how much may cross the wire for it, in bytes.
	changeFile = 128 << 20
	changeFull = 1 << 30
	changeWire = 3 << 20
)

// A small change in a large file costs the wire a small multiple of a block: with the
// body at hand, after a remount, and when only the peer has the rest.
func TestPeerGetsASmallChangeOnly(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			a := newAtPeer(t, protocol)
			size := int64(harness.Count(changeFile, changeFull))
			seed := harness.Seed(t)
			path := a.vault.Path("large")
			if err := harness.WriteFile(path, seed, size, false); err != nil {
				t.Fatal(err)
			}
			a.vault.Wait(10 * time.Minute)
			random := harness.Rand(t)
			want := harness.Bytes(seed, int(size))
			for _, when := range []string{"at hand", "remounted", "forgotten"} {
				if when != "at hand" {
					a.vault.Unmount()
					if when == "forgotten" {
						forgetLocal(t, a.vault)
					}
					a.vault.Start()
					eventuallyNode(t, a.vault, "far", "online")
				}
				before := a.link.Traffic()
				at := random.Int64N(size - 4096)
				change(t, path, want, at)
				a.vault.Wait(time.Minute)
				crossed := a.link.Traffic().Since(before)
				t.Logf("%s: 4 KiB at %d: %.2f MiB out, %.2f MiB in", when, at, mib(crossed.Out), mib(crossed.In))
				if crossed.All() > changeWire {
					t.Errorf("%s: %d bytes crossed the wire for 4 KiB, want at most %d", when, crossed.All(), changeWire)
				}
				if got := a.vault.Copies("large"); got != 2 {
					t.Errorf("%d copies after the change", got)
				}
			}
			a.vault.Unmount()
			forgetLocal(t, a.vault)
			harness.Must(t, "mv", filepath.Join(a.vault.Base, "near"), filepath.Join(a.vault.Base, "near.away"))
			a.vault.Start()
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("the peer alone has other content than what was written (%v)", err)
			}
			a.vault.Unmount()
		})
	}
}

// change writes 4 KiB over a place of a file and of what it should hold.
func change(t *testing.T, path string, want []byte, at int64) {
	t.Helper()
	piece := bytes.Repeat([]byte("new content\n"), 4096/12+1)[:4096]
	copy(want[at:], piece)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(piece, at)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		t.Fatal(err)
	}
}
