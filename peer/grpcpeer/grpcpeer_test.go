package grpcpeer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"

	"stasis/peer/wire"
	"stasis/peer/wiretest"
	"stasis/store"
	"stasis/store/memory"
	"stasis/store/storetest"
)

func quiet() logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// rig is a server and a client of one store.
type rig struct {
	service *wiretest.Service
	server  *Server
	client  *Client
	address string
	options ClientOptions
}

func newRig(t testing.TB, s store.Store, through func(net.Listener) string) *rig {
	t.Helper()
	serverTLS, clientTLS, fingerprint := wiretest.TLS(t)
	r := &rig{service: &wiretest.Service{Fingerprint: fingerprint, Owner: store.OwnerID{1}, Store: s}}
	r.server = NewServer(Options{Service: r.service, TLS: serverTLS, Fingerprint: wiretest.Fingerprint, Log: quiet()})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		if err := r.server.Serve(l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		r.server.Close()
		done.Wait()
	})
	r.address = l.Addr().String()
	if through != nil {
		r.address = through(l)
	}
	r.options = ClientOptions{Address: r.address, TLS: clientTLS, Log: quiet()}
	if r.client, err = Dial(r.options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.client.Close() })
	return r
}

func newMemory(t testing.TB, o memory.Options, capacity int64) *memory.Store {
	t.Helper()
	s, err := memory.New(capacity, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// The client is a store like any other, over a real TLS connection.
func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Factory{New: func(t testing.TB, o storetest.Options) *storetest.Instance {
		return &storetest.Instance{OneHolder: true, Store: newRig(t, newMemory(t, memory.Options{Clock: o.Clock}, o.Capacity), nil).client}
	}})
}

// hop passes connections on and can break them.
type hop struct {
	to     string
	l      net.Listener
	mu     sync.Mutex
	conns  []net.Conn
	frozen chan struct{} // closed: nothing passes
}

func newHop(t testing.TB, to string) *hop {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hop{to: to, l: l, frozen: make(chan struct{})}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			h.mu.Lock()
			h.conns = append(h.conns, c, up)
			h.mu.Unlock()
			done.Go(func() { h.pass(c, up) })
			done.Go(func() { h.pass(up, c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		h.cut()
		done.Wait()
	})
	return h
}

func (h *hop) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	p := make([]byte, 32<<10)
	for {
		n, err := from.Read(p)
		if err != nil {
			return
		}
		select {
		case <-h.frozen:
			continue // swallowed, as on a link that is down
		default:
		}
		if _, err := to.Write(p[:n]); err != nil {
			return
		}
	}
}

// cut breaks all connections there are.
func (h *hop) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		c.Close()
	}
	h.conns = nil
}

type bytesSource []byte

// root is what a put of the bytes is to expect.
func (b bytesSource) root() *store.Digest {
	var h store.Hasher
	_, _ = h.Write(b) // never fails
	root := h.Sums().Root()
	return &root
}

func (b bytesSource) OpenAt(_ context.Context, off int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(b[off:])), nil
}

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i>>8 ^ i*3)
	}
	return p
}

func reserveFor(t testing.TB, c *Client, bytes int64) store.ReservationID {
	t.Helper()
	id := store.NewReservationID()
	if _, err := c.Reserve(t.Context(), store.ReserveRequest{ID: id, Bytes: bytes}); err != nil {
		t.Fatal(err)
	}
	return id
}

// A put whose link breaks goes on at the block where it stood; no block but the one in
// flight is sent twice.
func TestPutResumes(t *testing.T) {
	var h *hop
	r := newRig(t, newMemory(t, memory.Options{}, 256<<20), func(l net.Listener) string {
		h = newHop(t, l.Addr().String())
		return h.l.Addr().String()
	})
	p := pattern(40<<20 + 17)
	var mu sync.Mutex
	got, cuts := 0, 0
	r.service.Tap = func(n int) {
		mu.Lock()
		defer mu.Unlock()
		got += n
		if cuts < 2 && got > (cuts+1)*10<<20 {
			cuts++
			h.cut()
		}
	}
	id := store.NewCrateID()
	receipts, err := r.client.Put(t.Context(), store.PutRequest{Reservation: reserveFor(t, r.client, 64<<20), Crate: id, Size: int64(len(p)), Source: bytesSource(p), Expect: bytesSource(p).root()})
	if err != nil || len(receipts) != 1 {
		t.Fatalf("%d receipts, %v", len(receipts), err)
	}
	if most := len(p) + 2*store.BlockSize; cuts != 2 || got > most {
		t.Errorf("%d bytes of %d came over with %d cuts, want at most %d", got, len(p), cuts, most)
	}
	rc, err := r.client.Open(t.Context(), id, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if back, err := io.ReadAll(rc); err != nil || !bytes.Equal(back, p) {
		t.Errorf("%d bytes back, %v", len(back), err)
	}
}

// A put whose peer is gone for good ends in an error, with or without a known digest.
func TestPutToOneWhoGoes(t *testing.T) {
	for _, known := range []bool{false, true} {
		r := newRig(t, newMemory(t, memory.Options{}, 256<<20), nil)
		p := bytesSource(pattern(20 << 20))
		put := store.PutRequest{Reservation: reserveFor(t, r.client, 64<<20), Crate: store.NewCrateID(), Size: int64(len(p)), Source: p}
		if known {
			put.Expect = p.root()
		}
		var going sync.WaitGroup
		var once sync.Once
		r.service.Tap = func(int) { once.Do(func() { going.Go(r.server.Close) }) }
		if receipts, err := r.client.Put(t.Context(), put); !errors.Is(err, store.Unavailable) {
			t.Errorf("known %v: %d receipts, %v", known, len(receipts), err)
		}
		going.Wait()
	}
}

// A link that goes silent is found within seconds, whatever is under way on it.
func TestDeadLinkIsFound(t *testing.T) {
	var h *hop
	r := newRig(t, newMemory(t, memory.Options{}, 256<<20), func(l net.Listener) string {
		h = newHop(t, l.Addr().String())
		return h.l.Addr().String()
	})
	if _, err := r.client.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(h.frozen)
	start := time.Now()
	if _, err := r.client.Status(t.Context()); !errors.Is(err, store.Unavailable) {
		t.Errorf("over a dead link: %v", err)
	}
	if took := time.Since(start); took > DeadAfter+4*time.Second {
		t.Errorf("it took %v to find out", took)
	}
}

// A client shows the token it was admitted with, by calls of one message and by streams.
func TestClientSaysWhichMountItIs(t *testing.T) {
	r := newRig(t, newMemory(t, memory.Options{}, 16<<20), nil)
	if got := r.service.Mount(); got != (store.Token{}) {
		t.Errorf("before it is admitted it shows %v", got)
	}
	next := store.NewToken()
	if err := r.client.Fence(t.Context(), nil, next, false); err != nil {
		t.Fatal(err)
	}
	id := reserveFor(t, r.client, 1<<20)
	if got := r.service.Mount(); got != next {
		t.Errorf("a call shows %v, want %v", got, next)
	}
	p := pattern(1000)
	if _, err := r.client.Put(t.Context(), store.PutRequest{Reservation: id, Crate: store.NewCrateID(), Size: int64(len(p)), Source: bytesSource(p)}); err != nil {
		t.Fatal(err)
	}
	if got := r.service.Mount(); got != next {
		t.Errorf("a put shows %v, want %v", got, next)
	}
}

// Who is not known learns nothing, by any call.
func TestStrangersAreRefused(t *testing.T) {
	r := newRig(t, newMemory(t, memory.Options{}, 64<<20), nil)
	_, other, _ := wiretest.TLS(t)
	o := r.options
	o.TLS = other
	c, err := Dial(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, id := t.Context(), store.NewCrateID()
	_, reserve := c.Reserve(ctx, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 1})
	_, renew := c.Renew(ctx, store.NewReservationID())
	_, put := c.Put(ctx, store.PutRequest{Crate: id, Size: 3, Source: bytesSource("abc")})
	_, open := c.Open(ctx, id, 0, -1)
	_, verify := c.Verify(ctx, id, 0, -1, store.Digest{})
	_, stat := c.Stat(ctx, id)
	_, list := c.List(ctx, nil)
	_, status := c.Status(ctx)
	batch := c.PutBatch(ctx, []store.PutRequest{{Crate: id, Size: 3, Source: bytesSource("abc")}})
	for name, err := range map[string]error{
		"reserve": reserve, "renew": renew, "release": c.Release(ctx, store.NewReservationID()), "put": put, "batch": batch[0].Err, "open": open,
		"verify": verify, "stat": stat, "discard": c.Discard(ctx, store.DiscardRequest{Crate: id}), "list": list, "status": status,
		"fence": c.Fence(ctx, nil, store.NewToken(), true), "events": c.Events(ctx, wire.Cursor{}, func(wire.Event) error { return nil }),
	} {
		if !errors.Is(err, store.Denied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Redeem(ctx, wire.Redeem{Secret: []byte("wrong")}); !errors.Is(err, store.Denied) {
		t.Errorf("a wrong invite: %v", err)
	}
	if _, err := c.Redeem(ctx, wire.Redeem{Secret: []byte("right")}); err != nil {
		t.Errorf("a right invite: %v", err)
	}
	if _, err := c.Status(ctx); err != nil {
		t.Errorf("after the invite: %v", err)
	}
}

func TestEvents(t *testing.T) {
	r := newRig(t, newMemory(t, memory.Options{}, 64<<20), nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []wire.Event
	err := r.client.Events(ctx, wire.Cursor{Incarnation: "one", Sequence: 41}, func(e wire.Event) error {
		if got = append(got, e); len(got) == 2 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, store.Unavailable) || len(got) != 2 || got[1].Sequence != 43 {
		t.Errorf("%v, %+v", err, got)
	}
}

// Frames that no client of ours sends are refused, and the server goes on.
func TestHostileFrames(t *testing.T) {
	r := newRig(t, newMemory(t, memory.Options{}, 64<<20), nil)
	conn, err := grpc.NewClient("passthrough:///"+r.address, grpc.WithTransportCredentials(credentials.NewTLS(r.options.TLS)),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, f := range []*frame{
		{kind: kindHead, head: []byte("no json")}, {kind: kindData, head: []byte("{}")}, {kind: 99}, {},
		{kind: kindHead, head: []byte(`{"size":-1}`)}, {kind: kindHead, head: bytes.Repeat([]byte(" "), wire.MaxHead+1)},
	} {
		var out frame
		if err := conn.Invoke(t.Context(), method("Reserve"), f, &out); err == nil {
			t.Errorf("kind %d with %.20q was answered", f.kind, f.head)
		}
		st, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method("Put"))
		if err != nil {
			t.Fatal(err)
		}
		// The server's answer is what counts, sent or not.
		_ = st.SendMsg(f)
		_ = st.CloseSend()
		if err := st.RecvMsg(&out); err == nil {
			t.Errorf("a put that begins with kind %d, %.20q was answered", f.kind, f.head)
		}
	}
	if _, err := r.client.Status(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, '{', '}', 9, 9})
	f.Add([]byte{2, 0, 0, 0, 0})
	f.Add([]byte{1, 255, 255, 255, 255})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		var got frame
		if err := (codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(p)}, &got); err != nil {
			return
		}
		defer got.free()
		out, err := codec{}.Marshal(outgoingFrame(t, &got))
		if err != nil || !bytes.Equal(out.Materialize(), p) {
			t.Fatalf("%x came back as %x, %v", p, out.Materialize(), err)
		}
	})
}
