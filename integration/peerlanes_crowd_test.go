package integration

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"stasis/integration/harness"
	"stasis/peer/identity"
	"stasis/peer/wire"
	"stasis/store"
)

const (
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

// crowdVariable tells a test process to be a crowd; in it is the crowdOrder as JSON.
const crowdVariable = "STASIS_TEST_CROWD"

// crowdOrder says whom a crowd attacks.
type crowdOrder struct {
	GRPC, HTTP, Fingerprint string
	Invites                 map[string]string // by protocol
}

// beCrowd attacks a peer in whatever way a line from its input names, until the next line, which
// it answers with one. Nobody whom the test measures shares its process.
func beCrowd(text string) error {
	var order crowdOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		return err
	}
	c, err := newCrowd(order)
	if err != nil {
		return err
	}
	rest := func() {}
	for lines := bufio.NewScanner(os.Stdin); ; {
		fmt.Println("ready")
		if !lines.Scan() {
			rest()
			return lines.Err()
		}
		rest()
		rest = func() {}
		if n := slices.IndexFunc(crowdings, func(a crowding) bool { return a.name == lines.Text() }); n >= 0 {
			ctx, cancel := context.WithCancel(context.Background())
			var all sync.WaitGroup
			crowdings[n].do(ctx, c, &all)
			rest = func() { cancel(); all.Wait() }
		}
	}
}

func newCrowd(order crowdOrder) (*crowd, error) {
	p := &harness.Peer{GRPC: order.GRPC, HTTP: order.HTTP, Fingerprint: order.Fingerprint}
	c := &crowd{siege: &siege{p: p, zeros: make([]byte, 1<<20), big: store.NewCrateID()}, grant: make(map[*owner]store.ReservationID)}
	for protocol, invite := range order.Invites {
		o, err := dial(identity.New(), p, protocol)
		if err != nil {
			return nil, err
		}
		r := store.NewReservationID()
		if err := errors.Join(o.redeem(invite), o.admit(), o.reserve(r, 1<<30, time.Hour), o.put(r, c.big, 1, hostileCrate)); err != nil {
			return nil, err
		}
		small := make([]store.PutRequest, hostileMany)
		for i := range small {
			small[i] = putRequest(r, store.NewCrateID(), uint64(i), 10)
		}
		ctx, cancel := bounded()
		for _, res := range o.PutBatch(ctx, small) {
			err = errors.Join(err, res.Err)
		}
		cancel()
		if err != nil {
			return nil, err
		}
		var of *[]*owner
		if protocol == "grpc" {
			c.grpc, of = o, &c.grpcs
		} else {
			c.http, of = o, &c.https
		}
		c.grant[o] = r
		for range 4 {
			more, err := dial(o.id, p, protocol)
			if err != nil {
				return nil, err
			}
			more.tokens = o.tokens
			if err := more.admit(); err != nil {
				return nil, err
			}
			o.tokens = more.tokens
			*of = append(*of, more)
		}
	}
	config, err := identity.New().ClientTLS(p.Fingerprint)
	c.tls[unknown] = config
	return c, err
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
