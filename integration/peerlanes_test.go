package integration

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"stasis/integration/harness"
	"stasis/peer/identity"
	"stasis/peer/wire"
	"stasis/store"
)

const (
	// besideMost is how long a well-behaved owner may wait for a put of 1 MiB and its
	// verification beside any of these attacks, as a rule: alone they take some tens of
	// milliseconds. The machine is shared with the attackers and with other tests.
	besideMost = 3 * time.Second
	// besideTries is how often he puts and verifies, over each protocol, unless that takes longer
	// than besideLong.
	besideTries = 12
	besideLong  = 15 * time.Second
	// attackedFor is how long an attack goes on before it is measured what it does to him.
	attackedFor = 1500 * time.Millisecond
	// hostileCrate is what is verified, in bytes, and hostileMany how many crates are listed.
	hostileCrate = 64 << 20
	hostileMany  = 1200
	// manyVerifies is how many verifications each hostile owner has under way.
	manyVerifies = 120
	// heldConnections is how many connections each hostile owner tries to hold over each protocol.
	heldConnections = 150
)

// crowding is what hostile owners do to have a peer for themselves.
type crowding struct {
	name string
	do   func(ctx context.Context, c *crowd, all *sync.WaitGroup)
}

// crowd are two owners, one over each protocol, and what they need for it.
type crowd struct {
	*siege
	grpc, http   *owner
	grpcs, https []*owner // further clients of the same
	grant        map[*owner]store.ReservationID
}

var crowdings = []crowding{
	{"many verifications", crowdVerify},
	{"connections held by bodies that do not come", crowdConnections},
	{"hungry heads of batches", crowdHeads},
	{"slow batches", crowdBatches},
	{"floods of lists", crowdLists},
	{"floods of handshakes", crowdHandshakes},
	{"thousands of reservations", crowdReservations},
}

// Whatever two owners and many strangers do, a third has his put and its verification soon, over
// either protocol, and the peer takes no more memory than it says.
func TestPeerHasLanes(t *testing.T) {
	p := harness.NewPeer(t)
	p.Start()
	c := newCrowd(t, p)
	honest := map[string]*owner{"grpc": newOwner(t, p, "grpc"), "http": newOwner(t, p, "http")}
	most := stated(t, "MostOfOwners")
	one := stated(t, "MostOfOwner")
	alone, err := c.measure(honest)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("alone: %s", alone)
	for _, a := range crowdings {
		t.Run(a.name, func(t *testing.T) {
			if err := p.ResetPeak(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			defer all.Wait()
			defer cancel()
			a.do(ctx, c, &all)
			time.Sleep(attackedFor)
			beside, err := c.measure(honest)
			peak := usage(t, p).Peak
			t.Logf("beside it: %s; the peer had %.0f MiB at most", beside, mib(peak))
			if err != nil {
				t.Error(err)
			}
			for protocol, took := range beside {
				if m := took[len(took)*3/4]; m > besideMost {
					t.Errorf("over %s a put and its verification take %s, want %s at most", protocol, m, besideMost)
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

func newCrowd(t *testing.T, p *harness.Peer) *crowd {
	t.Helper()
	c := &crowd{siege: &siege{p: p, zeros: make([]byte, 1<<20), big: store.NewCrateID()}, grant: make(map[*owner]store.ReservationID)}
	for protocol, of := range map[string]*[]*owner{"grpc": &c.grpcs, "http": &c.https} {
		o := newOwner(t, p, protocol)
		r := store.NewReservationID()
		if err := errors.Join(o.reserve(r, 1<<30, time.Hour), o.put(r, c.big, 1, hostileCrate)); err != nil {
			t.Fatal(err)
		}
		small := make([]store.PutRequest, hostileMany)
		for i := range small {
			small[i] = putRequest(r, store.NewCrateID(), uint64(i), 10)
		}
		ctx, cancel := bounded()
		for _, res := range o.PutBatch(ctx, small) {
			if res.Err != nil {
				t.Fatal(res.Err)
			}
		}
		cancel()
		if protocol == "grpc" {
			c.grpc = o
		} else {
			c.http = o
		}
		c.grant[o] = r
		for range 4 {
			more := dialAs(t, o.id, p, protocol)
			more.tokens = o.tokens
			if err := more.admit(); err != nil {
				t.Fatal(err)
			}
			o.tokens = more.tokens
			*of = append(*of, more)
		}
	}
	for who, id := range map[caller]identity.Identity{unknown: identity.New()} {
		config, err := id.ClientTLS(p.Fingerprint)
		if err != nil {
			t.Fatal(err)
		}
		c.tls[who] = config
	}
	return c
}

// spans are how long each try took, by protocol, the shortest first.
type spans map[string][]time.Duration

func (s spans) String() string {
	var out []string
	for _, protocol := range []string{"grpc", "http"} {
		d := s[protocol]
		out = append(out, fmt.Sprintf("%s %s, at most %s", protocol, d[len(d)/2].Round(time.Millisecond), d[len(d)-1].Round(time.Millisecond)))
	}
	return strings.Join(out, "; ")
}

// measure has well-behaved owners put 1 MiB and have it verified, over both protocols at once.
// What fails as the peer is busy is tried again, as vaults do.
func (c *crowd) measure(honest map[string]*owner) (spans, error) {
	out, errs := spans{}, error(nil)
	var mu sync.Mutex
	var all sync.WaitGroup
	for protocol, o := range honest {
		all.Go(func() {
			var took []time.Duration
			var failed error
			r := store.NewReservationID()
			if err := persist(func() error { return o.reserve(r, (besideTries+4)<<20, 10*time.Minute) }); err != nil {
				failed = fmt.Errorf("reserve over %s: %w", protocol, err)
			}
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
			out[protocol], errs = took, errors.Join(errs, failed)
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

// each has every one of the crowd's clients do something, so many times at once in all for each
// protocol, again and again.
func (c *crowd) each(ctx context.Context, all *sync.WaitGroup, atOnce int, do func(o *owner, n int) error) {
	for _, of := range [][]*owner{c.grpcs, c.https} {
		for n := range atOnce {
			all.Go(func() {
				for ctx.Err() == nil {
					if do(of[n%len(of)], n) != nil {
						time.Sleep(10 * time.Millisecond) // it may be refused
					}
				}
			})
		}
	}
}

func crowdVerify(ctx context.Context, c *crowd, all *sync.WaitGroup) {
	c.each(ctx, all, manyVerifies, func(o *owner, _ int) error {
		_, err := o.Verify(ctx, c.big, 0, -1, store.Digest{2})
		return err
	})
}

func crowdLists(ctx context.Context, c *crowd, all *sync.WaitGroup) {
	c.hold(ctx, all, 60, writePause, func(ctx context.Context, _ *siege, conn net.Conn, _ int) error {
		go io.Copy(io.Discard, conn)
		return again(ctx, func() error {
			_, err := io.WriteString(conn, "GET /v1/crates HTTP/1.1\r\nHost: x\r\n\r\n")
			return err
		})
	}, func(ctx context.Context, _ *siege, conn net.Conn, _ int) error {
		h, err := newRawGRPC(conn.(*tls.Conn), 1<<30, true)
		if err != nil {
			return err
		}
		return again(ctx, func() error {
			id, err := h.open("List")
			if err != nil {
				return err
			}
			return h.data(id, message(wire.List{}), 1<<14, patience)
		})
	})
}

// again does something until it fails.
func again(ctx context.Context, do func() error) (err error) {
	for err == nil && ctx.Err() == nil {
		if err = do(); err == nil {
			time.Sleep(2 * time.Millisecond)
		}
	}
	return err
}

func crowdReservations(ctx context.Context, c *crowd, all *sync.WaitGroup) {
	c.each(ctx, all, 64, func(o *owner, n int) error {
		id := store.NewReservationID()
		_, err := o.Reserve(ctx, store.ReserveRequest{ID: id, Holder: o.id.Owner(), Bytes: 4096, Lease: time.Second})
		return err
	})
}

// hold has each owner of the crowd keep as many connections as he can over both protocols, on each
// of which something is done.
func (c *crowd) hold(ctx context.Context, all *sync.WaitGroup, count int, link time.Duration, http, grpc func(ctx context.Context, s *siege, conn net.Conn, number int) error) {
	type way struct {
		of                *owner
		address, protocol string
		do                func(context.Context, *siege, net.Conn, int) error
	}
	shared := &sharedLink{pause: link} // all come by one
	var ways []way
	for _, o := range []*owner{c.http, c.grpc} {
		ways = append(ways, way{o, c.p.HTTP, "http/1.1", http}, way{o, c.p.GRPC, "h2", grpc})
	}
	for _, w := range ways {
		config, err := w.of.id.ClientTLS(c.p.Fingerprint)
		if err != nil {
			panic(err) // it was made before
		}
		s := &siege{p: c.p, zeros: c.zeros, big: c.big, grant: c.grant[w.of], calls: 64}
		s.tls[invited] = config
		for n := range count {
			all.Go(func() {
				for ctx.Err() == nil {
					conn, err := s.come(ctx, shared, w.address, w.protocol, attack{as: invited})
					if err != nil {
						time.Sleep(50 * time.Millisecond)
						continue
					}
					stop := context.AfterFunc(ctx, func() { conn.Close() })
					_ = w.do(ctx, s, conn, n) // it may end it
					stop()
					conn.Close()
					time.Sleep(50 * time.Millisecond)
				}
			})
		}
	}
}

func crowdConnections(ctx context.Context, c *crowd, all *sync.WaitGroup) {
	c.hold(ctx, all, heldConnections, writePause, trickleBody, trickleCalls)
}

func crowdBatches(ctx context.Context, c *crowd, all *sync.WaitGroup) {
	c.hold(ctx, all, 40, writePause, claimBatch, claimBatches)
}

// hungry is the head of a batch that would make two hundred times its length.
func hungry(length int) []byte {
	return []byte(`{"crates":[` + strings.Repeat("0,", length/2-10) + "0]}")
}

func crowdHeads(ctx context.Context, c *crowd, all *sync.WaitGroup) {
	text := hungry(256<<10 - 100)
	c.hold(ctx, all, heldConnections, writePause, func(ctx context.Context, _ *siege, conn net.Conn, _ int) error {
		go io.Copy(io.Discard, conn)
		for ctx.Err() == nil {
			if _, err := fmt.Fprintf(conn, "POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s\n", len(text)+1, text); err != nil {
				return err
			}
		}
		return nil
	}, func(ctx context.Context, _ *siege, conn net.Conn, _ int) error {
		h, err := newRawGRPC(conn.(*tls.Conn), 65535, true)
		for err == nil && ctx.Err() == nil {
			var id uint32
			if id, err = h.open("Batch"); err == nil {
				head := append([]byte{1, byte(len(text) >> 24), byte(len(text) >> 16), byte(len(text) >> 8), byte(len(text))}, text...)
				err = h.data(id, announced(len(head), head), 1<<14, patience)
			}
		}
		return err
	})
}

func crowdHandshakes(ctx context.Context, c *crowd, all *sync.WaitGroup) {
	free := &sharedLink{}
	for n := range 16 {
		all.Go(func() {
			address, protocol := c.p.HTTP, "http/1.1"
			if n%2 == 0 {
				address, protocol = c.p.GRPC, "h2"
			}
			for ctx.Err() == nil {
				conn, err := c.come(ctx, free, address, protocol, attack{as: unknown})
				if err == nil {
					conn.Close()
				}
			}
		})
	}
}
