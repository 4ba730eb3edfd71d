package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"stasis/integration/harness"
	"stasis/store"
)

const (
	// besideMost is how long a well-behaved owner may wait for a put of 1 MiB and its
	// verification beside any of these attacks, by the median: alone they take some tens of
	// milliseconds. The machine is shared with other tests.
	besideMost = time.Second
	// besideTries is how often he puts and verifies, over each protocol, unless that takes longer
	// than besideLong.
	besideTries = 12
	besideLong  = 15 * time.Second
	// attackedFor is how long an attack goes on before it is measured what it does to him.
	attackedFor = 1500 * time.Millisecond
)

// Whatever two owners and many strangers do, a third has his put and its verification soon, over
// either protocol, and the peer takes no more memory than it says.
func TestPeerHasLanes(t *testing.T) {
	p := harness.NewPeer(t)
	p.Start()
	honest := map[string]*owner{"grpc": newOwner(t, p, "grpc"), "http": newOwner(t, p, "http")}
	attack := startCrowd(t, p)
	most := stated(t, "MostOfOwners")
	one := stated(t, "MostOfOwner")
	alone, err := measure(t, p, honest)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("alone: %s", alone)
	for _, a := range crowdings {
		t.Run(a.name, func(t *testing.T) {
			if err := p.ResetPeak(); err != nil {
				t.Fatal(err)
			}
			defer attack("rest")
			attack(a.name)
			time.Sleep(attackedFor)
			beside, err := measure(t, p, honest)
			peak := usage(t, p).Peak
			t.Logf("beside it: %s; the peer had %.0f MiB at most", beside, mib(peak))
			if err != nil {
				t.Error(err)
			}
			for protocol, s := range beside {
				if m := s.took[len(s.took)/2]; m > besideMost || s.came > 3*besideMost {
					t.Errorf("over %s a put and its verification take %s, the entry %s, want %s at most", protocol, m, s.came, besideMost)
				}
			}
			if peak > one*2 || peak > most {
				t.Errorf("the peer had %.0f MiB, two owners have %.0f at most, all %.0f", mib(peak), mib(2*one), mib(most))
			}
		})
	}
	for _, o := range honest {
		if err := o.admit(); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
}

// startCrowd starts a crowd, which attack has do something else. It is a process of its own, and
// gets what time of the processors the others leave: attackers have machines of their own, so
// what is measured is what the peer does for whom.
func startCrowd(t *testing.T, p *harness.Peer) (attack func(name string)) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	order, err := json.Marshal(crowdOrder{p.GRPC, p.HTTP, p.Fingerprint, map[string]string{"grpc": p.Invite(), "http": p.Invite()}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nice", "-n", "19", self)
	cmd.Env, cmd.Stderr = append(os.Environ(), crowdVariable+"="+string(order)), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it ends then
		if err := cmd.Wait(); err != nil {
			t.Errorf("the crowd: %v", err)
		}
	})
	lines := bufio.NewScanner(out)
	ready := func() {
		if !lines.Scan() {
			t.Fatalf("the crowd has ended: %v", lines.Err())
		}
	}
	ready()
	return func(name string) {
		if _, err := fmt.Fprintln(in, name); err != nil {
			t.Fatal(err)
		}
		ready()
	}
}

// stated is a figure in bytes that the peer daemon's limits.go has.
func stated(t *testing.T, name string) int64 {
	t.Helper()
	text, err := os.ReadFile("../cmd/internal/peerd/limits.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`\t` + name + ` += (\d+) << 20`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("the peer daemon does not state %s", name)
	}
	n, err := strconv.ParseInt(string(found[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 20
}

// spans are how long each try took, by protocol, the shortest first, and the first entry by a new
// connection.
type spans map[string]struct {
	took []time.Duration
	came time.Duration
}

func (s spans) String() string {
	var out []string
	for _, protocol := range []string{"grpc", "http"} {
		took := s[protocol].took
		out = append(out, fmt.Sprintf("%s %s, at most %s, entered in %s", protocol, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond),
			s[protocol].came.Round(time.Millisecond)))
	}
	return strings.Join(out, "; ")
}

// measure has well-behaved owners, who come in by a new connection, put 1 MiB and have it
// verified, over both protocols at once. What fails as the peer is busy is tried again, as vaults
// do.
func measure(t *testing.T, p *harness.Peer, honest map[string]*owner) (spans, error) {
	out, errs := spans{}, error(nil)
	var mu sync.Mutex
	var all sync.WaitGroup
	for protocol, known := range honest {
		o := dialAs(t, known.id, p, protocol)
		o.tokens = known.tokens
		all.Go(func() {
			defer o.Close()
			var took []time.Duration
			var failed error
			r := store.NewReservationID()
			start := time.Now()
			err := persist(o.admit)
			known.tokens = o.tokens
			if err == nil {
				err = persist(func() error { return o.reserve(r, (besideTries+4)<<20, 10*time.Minute) })
			}
			if err != nil {
				failed = fmt.Errorf("come in over %s: %w", protocol, err)
			}
			came := time.Since(start)
			for n, began := 0, time.Now(); n < besideTries && (n == 0 || time.Since(began) < besideLong); n++ {
				id := store.NewCrateID()
				start := time.Now()
				err := persist(func() error { return o.put(r, id, uint64(n), 1<<20) })
				if err == nil {
					err = persist(func() error {
						ctx, cancel := bounded()
						defer cancel()
						_, err := o.Verify(ctx, id, 0, -1, store.Digest{1})
						return err
					})
				}
				took = append(took, time.Since(start))
				if err == nil {
					err = persist(func() error { return o.discard(id) })
				}
				if err != nil {
					failed = errors.Join(failed, fmt.Errorf("over %s: %w", protocol, err))
				}
			}
			_ = persist(func() error { ctx, cancel := bounded(); defer cancel(); return o.Release(ctx, r) }) // its lease is short
			slices.Sort(took)
			mu.Lock()
			defer mu.Unlock()
			s := out[protocol]
			s.took, s.came = took, came
			out[protocol], errs = s, errors.Join(errs, failed)
		})
	}
	all.Wait()
	return out, errs
}

// persist does something again while the peer is busy.
func persist(do func() error) (err error) {
	for start := time.Now(); time.Since(start) < callLimit; time.Sleep(20 * time.Millisecond) {
		if err = do(); !errors.Is(err, store.Unavailable) {
			return err
		}
	}
	return err
}
