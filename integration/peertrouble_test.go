package integration

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"stasis/integration/harness"
)

const (
	// troubleFile is the size of a file written beside a peer in trouble, in bytes, and
	// troublePace how long a writer rests between two.
	troubleFile = 128 << 10
	troublePace = 5 * time.Millisecond
	// troubleLarge is the size of a file that is being sent when the trouble comes.
	troubleLarge = 24 << 20
	// troubleTimes is how much longer than with a peer that is well closes may take, beside
	// troubleNoise, which is what a machine that others use adds.
	troubleTimes = 1.5
	troubleNoise = 20 * time.Millisecond
	// troubleMost is the longest that any close may take.
	troubleMost = time.Second
	// troubleInFlight bounds what may be sent twice, in bytes: a batch or a block of each
	// transfer under way.
	troubleInFlight = 2*8<<20 + 2<<20
	// troubleHeaders is how much more than the content crosses the wire with headers,
	// acknowledgements and questions.
	troubleHeaders = 1.12
)

// A peer that is killed, stopped, cut off or slow costs the programs that write nothing:
// not when its grant is used up, either. The status tells of it, and it catches up by
// itself, without anything being sent twice but what was under way.
func TestPeerInTrouble(t *testing.T) {
	for _, trouble := range []string{"killed", "stopped", "cut off", "slow"} {
		t.Run(trouble, func(t *testing.T) {
			// A quota makes grants small: an eighth of it.
			a := newAtPeer(t, []string{"grpc", "http"}[len(trouble)%2], "--quota", troubleQuota())
			for _, dir := range []string{"before", "amid"} {
				harness.Mkdir(t, a.vault.Path(dir))
			}
			well := newWriter(a.vault.Path("before"))
			start := a.link.Traffic()
			well.run(t, troubleFiles())
			drained(t, a.vault, peerCaughtUp)
			wellWire := a.link.Traffic().Since(start)

			// One transfer is under way when the trouble comes.
			start = a.link.Traffic()
			if err := harness.WriteFile(a.vault.Path("under-way"), harness.Seed(t), troubleLarge, false); err != nil {
				t.Fatal(err)
			}
			done := a.upset(trouble)
			amid := newWriter(a.vault.Path("amid"))
			begun := time.Now()
			noticed := make(chan string, 1)
			go func() { noticed <- statusSays(t, a.vault, trouble, begun) }()
			amid.run(t, troubleFiles())
			t.Log(<-noticed)
			if rest := time.Until(begun.Add(troubleTime())); rest > 0 {
				time.Sleep(rest) // the trouble lasts so long, whatever is written
			}
			done()
			ended := time.Now()
			eventuallyNode(t, a.vault, "far", "online")
			seen := time.Since(ended)
			drained(t, a.vault, 5*time.Minute)
			wire := a.link.Traffic().Since(start)

			content := int64(len(amid.took))*troubleFile + troubleLarge
			t.Logf("%d closes; p50 %s, p99 %s, most %s; with the peer well %s, %s, %s", len(amid.took),
				amid.at(50), amid.at(99), amid.at(100), well.at(50), well.at(99), well.at(100))
			t.Logf("back %s and caught up %s after the trouble; sent %.1f MiB of %.1f MiB content; with the peer well %.1f MiB",
				seen.Round(10*time.Millisecond), time.Since(ended).Round(10*time.Millisecond), mib(wire.Out), mib(content), mib(wellWire.Out))
			for _, p := range []int{50, 99} {
				if got, limit := amid.at(p), time.Duration(troubleTimes*float64(well.at(p)))+troubleNoise; got > limit {
					t.Errorf("p%d of close is %s, want at most %s", p, got, limit)
				}
			}
			if got := amid.at(100); got > troubleMost {
				t.Errorf("a close took %s, want at most %s", got, troubleMost)
			}
			if most := int64(troubleHeaders*float64(content)) + troubleInFlight; wire.Out > most {
				t.Errorf("%d bytes were sent for %d of content, want at most %d", wire.Out, content, most)
			}
			everyFileHas(t, a.vault, 2)
			a.vault.OK("check", a.vault.Point, "--read")
			a.vault.Unmount()
		})
	}
}

// troubleQuota is the peer's; troubleFiles is how many files are written, together more
// than a grant, and troubleTime how long a trouble lasts.
func troubleQuota() string       { return []string{"192MiB", "1GiB"}[harness.Count(0, 1)] }
func troubleFiles() int          { return harness.Count(300, 2400) }
func troubleTime() time.Duration { return time.Duration(harness.Count(4, 60)) * time.Second }

// upset brings the trouble and gives what ends it.
func (a atPeer) upset(trouble string) (done func()) {
	switch trouble {
	case "killed":
		a.peer.Kill()
		return a.peer.Start
	case "stopped":
		a.peer.Freeze()
		return a.peer.Thaw
	case "cut off":
		a.link.Cut()
		return a.link.Mend
	}
	a.link.Slow(1 << 20)
	return a.link.Fast
}

// statusSays waits until the status tells of the trouble.
func statusSays(t *testing.T, v *harness.Vault, trouble string, begun time.Time) string {
	for {
		r, err := v.Ask("status", v.State, "--json")
		if err != nil || r.Code != 0 {
			t.Errorf("status: %v %v", err, r)
			return ""
		}
		var s harness.Status
		if err := s.Parse(r.Stdout); err != nil {
			t.Error(err)
			return ""
		}
		i := slices.IndexFunc(s.Nodes, func(n harness.Node) bool { return n.Name == "far" })
		if i < 0 {
			t.Errorf("the status names no node far: %s", r.Stdout)
			return ""
		}
		n := s.Nodes[i]
		right := n.State == "unreachable" && n.LastError != ""
		if trouble == "slow" {
			right = n.State == "online" && n.PendingBytes > 0 && s.Pending.Bytes > 0
		}
		after := time.Since(begun)
		if right {
			return fmt.Sprintf("after %s the status has far %s, %.1f MiB waiting: %s", after.Round(time.Millisecond), n.State, mib(n.PendingBytes), n.LastError)
		}
		if after > peerNoticed {
			t.Errorf("%s after the peer is %s, its node is %+v", after, trouble, n)
			return ""
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// writer writes files one after the other and measures each close.
type writer struct {
	dir    string
	took   []time.Duration
	sorted []time.Duration
}

func newWriter(dir string) *writer { return &writer{dir: dir} }

func (w *writer) run(t *testing.T, files int) {
	t.Helper()
	seed := harness.Seed(t)
	for i := range files {
		took, err := writeAndClose(fmt.Sprintf("%s/%04d", w.dir, i), harness.Bytes(seed+uint64(i)<<8, troubleFile))
		if err != nil {
			t.Fatal(err)
		}
		w.took = append(w.took, took)
		time.Sleep(troublePace)
	}
	w.sorted = slices.Sorted(slices.Values(w.took))
}

// at is a percentile.
func (w *writer) at(percent int) time.Duration {
	return w.sorted[min(len(w.sorted)*percent/100, len(w.sorted)-1)].Round(10 * time.Microsecond)
}

// writeAndClose writes a file and gives how long its close took.
func writeAndClose(path string, content []byte) (time.Duration, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	if _, err := f.Write(content); err != nil {
		f.Close()
		return 0, err
	}
	start := time.Now()
	err = f.Close()
	return time.Since(start), err
}
