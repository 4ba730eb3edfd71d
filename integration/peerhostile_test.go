package integration

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stasis/integration/harness"
	"stasis/peer/grpcpeer"
	"stasis/peer/guard"
	"stasis/peer/host"
	"stasis/peer/httppeer"
	"stasis/peer/identity"
	"stasis/peer/wire"
	"stasis/store"
)

// What a peer may hold in memory for one owner and for all strangers, in bytes, by the limits
// that are named where they are kept. Attacks are held to the sum of those that they reach for.
const (
	// aConnection is one of either protocol, with its goroutines, buffers and TLS; aCall what
	// there is of a call beside content: headers, a stack, what gRPC keeps.
	aConnection = 80 << 10
	aCall       = 24 << 10
	// httpAnOwner, grpcAnOwner and callsAnOwner are how many connections and calls one owner can
	// have: what he is sure of, and what there is beside.
	httpAnOwner  = httppeer.ConnectionsAnOwner + httppeer.ConnectionsPool
	grpcAnOwner  = grpcpeer.ConnectionsAnOwner + grpcpeer.ConnectionsPool
	callsAnOwner = grpcpeer.CallsAnOwner + grpcpeer.CallsPool
	// ofStrangers: each may make two calls over gRPC at once, which bring a request, and may send
	// some bytes unasked.
	ofStrangers = httppeer.Strangers*aConnection + grpcpeer.Strangers*(aConnection+2*(grpcpeer.MaxRequest+aCall)+grpcpeer.HastyStranger)
	// inPlaces is what an owner's connections take by being there, what comes unasked on those of
	// gRPC, and a window for each put that is read.
	inPlaces = httpAnOwner*aConnection + grpcAnOwner*(aConnection+grpcpeer.HastyMost) + callsAnOwner*aCall +
		(grpcpeer.PutsAnOwner+grpcpeer.PutsPool)*grpcpeer.Window
	// inCalls is what an owner's calls are being given.
	inCalls = (callsAnOwner+httpAnOwner)*wire.DataSize + (host.ReadersAnOwner+host.ReadersPool)*(store.BlockSize+wire.DataSize)
	// inBatches is what an owner can have of the memory for batches and long messages.
	inBatches = httppeer.MemoryAnOwner + httppeer.MemoryPool
	// inStore is what the host holds for an owner: small crates, and a chunk of 256 KiB for
	// each large one.
	inStore = host.MemoryAnOwner + host.MemoryPool + (host.UploadsAnOwner+host.UploadsPool)*(256<<10)
	// garbage: Go's collector lets as much gather as there is; slack is for what it needs
	// itself, and what the attacks before left to be collected.
	garbage = 2
	slack   = 32 << 20
	// mostOfAll is what no attack of one owner may bring a peer to grow by.
	mostOfAll = garbage*(ofStrangers+inPlaces+inCalls+inBatches+inStore) + slack
)

const (
	// servedWithin is how long a well-behaved owner may wait for each small put or read,
	// amid attacks that share the machine's two cores with the peer.
	servedWithin = 8 * time.Second
	// fewAttackers and manyAttackers are how many connections an attack keeps making over each
	// protocol, and attackRate is how many of them a second. An attack ends when whoever
	// comes a second later, or who came before, has been served.
	fewAttackers, manyAttackers = 300, 3000
	attackRate                  = 250
	// settledWithin is how long an attack may go on to have a peer take memory, in steps of
	// settleStep in which it takes settledTo bytes or more.
	settledWithin = 20 * time.Second
	settleStep    = 300 * time.Millisecond
	settledTo     = 4 << 20
	// fillFor is how long those attacks go on at least that fill what they may.
	fillFor = 3 * time.Second
	// otherSockets is how many a peer may have beside those of the callers' places: the
	// well-behaved, and those that are being closed.
	otherSockets = 32
	// writePause is between two writes of all attackers over one protocol: with some 16 KiB
	// each they are as fast as a link of a gigabit, and leave the well-behaved their part of
	// the process that they share. slowPause is that of attacks that are slow.
	writePause = 150 * time.Microsecond
	slowPause  = time.Millisecond
	// goneWithin is how long what attackers left may stay: a caller who says nothing has
	// guard.StrangerLimit or wire.StallLimit, whichever is longer, to go on.
	goneWithin = max(guard.StrangerLimit, wire.StallLimit) + 5*time.Second
	// tidiedWithin is how long a peer that rests may keep the memory of its attacks, and
	// tidiedTo how much of it for good, in bytes.
	tidiedWithin = 20 * time.Second
	tidiedTo     = 48 << 20
	// mostGoroutines is how many a peer has without callers; 30 are usual.
	mostGoroutines = 80
	// mostLines is how many lines an attack may make a peer log a second, and at once: each
	// kind of refusal is logged once a second.
	mostLines = 10
)

// siege is a peer that is attacked.
type siege struct {
	p     *harness.Peer
	tls   [3]*tls.Config // by caller
	grant store.ReservationID
	big   store.CrateID // 64 MiB
	zeros []byte
	calls int // to be made on one connection
}

// Whoever sends too little, too much or half of it, invited or not, over either protocol,
// does not have a peer take more memory than its limits add up to, does not keep others from
// being served, and leaves nothing behind.
func TestPeerUnderAttack(t *testing.T) {
	p := harness.NewPeer(t)
	p.Start()
	s := newSiege(t, p)
	good := map[string]*owner{"grpc": newOwner(t, p, "grpc"), "http": newOwner(t, p, "http")}
	for protocol, o := range good {
		if err := putAndRead(t, p, o, protocol); err != nil {
			t.Fatal(err)
		}
	}
	before := usage(t, p)
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) { s.endure(t, a, good) })
	}
	start := time.Now()
	for _, o := range good {
		o.Close()
	}
	harness.Eventually(t, goneWithin, "no connection left", func() (bool, string) {
		u := usage(t, p)
		return u.Sockets <= before.Sockets, fmt.Sprintf("%d, there were %d", u.Sockets, before.Sockets)
	})
	gone := time.Since(start)
	harness.Eventually(t, tidiedWithin, "memory given back", func() (bool, string) {
		u := usage(t, p)
		return u.Resident <= before.Resident+tidiedTo, fmt.Sprintf("%.0f MiB, there were %.0f", mib(u.Resident), mib(before.Resident))
	})
	n := p.Goroutines()
	t.Logf("after %s the connections were gone, after %s memory was back; %d goroutines were left", gone.Round(time.Millisecond), time.Since(start).Round(time.Millisecond), n)
	if n > mostGoroutines {
		t.Errorf("%d goroutines are left, want at most %d\n%s", n, mostGoroutines, p.Log())
	}
}

func newSiege(t *testing.T, p *harness.Peer) *siege {
	t.Helper()
	s := &siege{p: p, zeros: make([]byte, 5<<20), grant: store.NewReservationID(), big: store.NewCrateID(), calls: 128}
	hostile := newOwner(t, p, "grpc")
	defer hostile.Close()
	if err := errors.Join(hostile.reserve(s.grant, 2<<30, time.Hour), hostile.put(s.grant, s.big, 1, 64<<20)); err != nil {
		t.Fatal(err)
	}
	for who, id := range map[caller]identity.Identity{bare: hostile.id, unknown: identity.New(), invited: hostile.id} {
		config, err := id.ClientTLS(p.Fingerprint)
		if err != nil {
			t.Fatal(err)
		}
		if who == bare {
			config.GetClientCertificate = nil
		}
		s.tls[who] = config
	}
	return s
}

func usage(t *testing.T, p *harness.Peer) harness.Usage {
	t.Helper()
	u, err := p.Usage()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// endure lets one attack go on for its time and measures.
func (s *siege) endure(t *testing.T, a attack, good map[string]*owner) {
	before, lines, start := usage(t, s.p), s.p.Lines(), time.Now()
	if err := s.p.ResetPeak(); err != nil {
		t.Fatal(err)
	}
	most := garbage*a.takes + slack
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	var sockets int
	all.Go(func() {
		for ctx.Err() == nil {
			u, err := s.p.Usage()
			if err != nil || u.Resident > before.Resident+4*most {
				t.Errorf("%.0f MiB, %v: that is enough", mib(u.Resident), err)
				cancel() // before the machine has none left
			}
			sockets = max(sockets, u.Sockets)
			time.Sleep(20 * time.Millisecond)
		}
	})
	var slowest [2]time.Duration
	var served sync.WaitGroup
	count := harness.Count(fewAttackers, manyAttackers)
	swing := time.Now().Add(time.Duration(count/attackRate) * time.Second)
	for i, protocol := range []string{"grpc", "http"} {
		served.Go(func() {
			for start := time.Now(); ctx.Err() == nil && start.Before(swing); {
				start = time.Now()
				if err := putAndRead(t, s.p, good[protocol], protocol); err != nil {
					t.Errorf("a well-behaved owner over %s: %v", protocol, err)
				}
				slowest[i] = max(slowest[i], time.Since(start).Round(time.Millisecond))
			}
		})
	}
	var opened atomic.Int64
	if a.few {
		count /= 10
	}
	s.attack(ctx, &all, a, count, &opened)
	served.Wait()
	s.settle(ctx, t, a)
	cancel()
	all.Wait()
	after := usage(t, s.p)
	t.Logf("%d connections, %d at a time; MiB %.0f before, %.0f at most of %.0f, %.0f after; put and read took an owner %v at most; %d lines logged", opened.Load(), max(0, sockets-before.Sockets),
		mib(before.Resident), mib(after.Peak), mib(before.Resident+most), mib(after.Resident), slowest, s.p.Lines()-lines)
	if after.Peak > before.Resident+min(most, mostOfAll) {
		t.Errorf("the peer took %.0f MiB more, want at most %.0f", mib(after.Peak-before.Resident), mib(most))
	}
	places := httppeer.Strangers + grpcpeer.Strangers + otherSockets
	if a.as == invited {
		places += httpAnOwner + grpcAnOwner
	}
	if sockets > before.Sockets+places {
		t.Errorf("%d connections at a time, want at most %d", sockets-before.Sockets, places)
	}
	if n, most := s.p.Lines()-lines, mostLines*int(2+time.Since(start)/time.Second); n > most {
		t.Errorf("the peer logged %d lines, want at most %d", n, most)
	}
}

// settle waits until the peer takes no more memory: what is bounded is so soon. Those who
// fill it get more time, in which what was free of it may be used up.
func (s *siege) settle(ctx context.Context, t *testing.T, a attack) {
	deadline := time.Now().Add(settledWithin)
	least := time.Now()
	if a.share {
		least = least.Add(fillFor)
	}
	for before := usage(t, s.p).Resident; ctx.Err() == nil; {
		time.Sleep(settleStep)
		now := usage(t, s.p).Resident
		if now < before+settledTo && time.Now().After(least) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("after %s the peer still takes more memory, %.0f MiB", settledWithin, mib(now))
			return
		}
		before = now
	}
}

// attack makes connections over both protocols, again where they end early.
func (s *siege) attack(ctx context.Context, all *sync.WaitGroup, a attack, count int, opened *atomic.Int64) {
	for _, w := range []struct {
		address, protocol string
		do                func(context.Context, *siege, net.Conn, int) error
	}{{s.p.HTTP, "http/1.1", a.http}, {s.p.GRPC, "h2", a.grpc}} {
		pace, link := make(chan struct{}), &sharedLink{pause: writePause}
		if a.slow {
			link.pause = slowPause
		}
		count := count
		if a.share && w.address == s.p.GRPC {
			count = grpcAnOwner
		}
		all.Go(func() {
			defer close(pace)
			for tick := time.NewTicker(time.Second / attackRate); ctx.Err() == nil; {
				select {
				case <-tick.C:
					pace <- struct{}{}
				case <-ctx.Done():
				}
			}
		})
		for n := range count {
			all.Go(func() {
				for range pace {
					c, err := s.come(ctx, link, w.address, w.protocol, a)
					if err != nil {
						continue // it may refuse
					}
					opened.Add(1)
					stop := context.AfterFunc(ctx, func() { c.Close() })
					_ = w.do(ctx, s, c, n) // it may end it
					stop()
					c.Close()
				}
			})
		}
	}
}

// come makes a connection as far as the attack wants it made.
func (s *siege) come(ctx context.Context, link *sharedLink, address, protocol string, a attack) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := paced{raw.(*net.TCPConn), link}
	if a.plain {
		return c, nil
	}
	config := s.tls[a.as].Clone()
	config.NextProtos = []string{protocol}
	t := tls.Client(c, config)
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}

// sharedLink is what all attackers over one protocol write to, one after another.
type sharedLink struct {
	pause time.Duration
	mu    sync.Mutex
	next  time.Time
}

func (l *sharedLink) wait() {
	l.mu.Lock()
	now := time.Now()
	if l.next.Before(now) {
		l.next = now
	}
	until := l.next
	l.next = until.Add(l.pause)
	l.mu.Unlock()
	time.Sleep(time.Until(until))
}

// paced is a connection over a shared link.
type paced struct {
	*net.TCPConn
	link *sharedLink
}

func (p paced) Write(b []byte) (int, error) {
	p.link.wait()
	return p.TCPConn.Write(b)
}

// putAndRead is what a well-behaved owner wants: a small crate put, on the connection that he has,
// and read on a new one, each within servedWithin. A call that fails as the peer is busy is
// made again, as vaults do.
func putAndRead(t *testing.T, p *harness.Peer, o *owner, protocol string) error {
	fresh := dialAs(t, o.id, p, protocol)
	defer fresh.Close()
	r, id := store.NewReservationID(), store.NewCrateID()
	for _, step := range []func() error{
		func() error { return errors.Join(o.reserve(r, 1<<20, time.Minute), o.put(r, id, 1, 5000)) },
		func() error { return fresh.has(id, 1, 5000) },
	} {
		start := time.Now()
		err := step()
		for err != nil && errors.Is(err, store.Unavailable) && time.Since(start) < servedWithin {
			time.Sleep(100 * time.Millisecond)
			err = step()
		}
		if err == nil && time.Since(start) > servedWithin {
			err = fmt.Errorf("it took %s", time.Since(start))
		}
		if err != nil {
			return err
		}
	}
	ctx, cancel := bounded()
	defer cancel()
	return errors.Join(o.discard(id), o.Release(ctx, r))
}
