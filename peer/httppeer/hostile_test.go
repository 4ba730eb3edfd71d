package httppeer

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stasis/peer/guard"
	"stasis/peer/identity"
	"stasis/peer/wire"
	"stasis/peer/wiretest"
	"stasis/store"
	"stasis/store/memory"
)

// raw is a connection on which anything can be said.
func raw(t testing.TB, address string, config *tls.Config) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", address, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// say sends a request as it is and gives the answer's status and error.
func say(t testing.TB, address string, config *tls.Config, request string) (int, wire.Error) {
	t.Helper()
	c := raw(t, address, config)
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		return 0, wire.Error{}
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return 0, wire.Error{}
	}
	defer resp.Body.Close()
	var e wire.Error
	if resp.StatusCode >= 300 {
		if json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&e) != nil {
			_ = json.Unmarshal([]byte(resp.Header.Get(headerError)), &e)
		}
	}
	return resp.StatusCode, e
}

const (
	anID  = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
	aHash = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
)

// requests are one of each kind.
var requests = []string{
	"PUT /v1/reservations/" + anID, "POST /v1/reservations/" + anID + "/renew", "DELETE /v1/reservations/" + anID, "PUT /v1/crates/" + anID, "GET /v1/crates/" + anID,
	"HEAD /v1/crates/" + anID, "DELETE /v1/crates/" + anID, "POST /v1/crates/" + anID + "/verify", "GET /v1/crates", "GET /v1/uploads/" + anID,
	"DELETE /v1/uploads/" + anID, "POST /v1/batch", "GET /v1/status", "POST /v1/fence", "GET /v1/events", "GET /v1/alive", "GET /", "BREW /v1/coffee", "GET /v1/redeem/x",
}

// A stranger is told the same of every resource, whether it is there or not, with or without
// a body, and his connection ends.
func TestStrangersLearnNothing(t *testing.T) {
	r := newRig(t, newMemory(t, memory.Options{}, 64<<20), nil)
	_, stranger, _ := wiretest.TLS(t)
	for _, what := range requests {
		for _, body := range []string{"\r\n", "Content-Length: 1000000000\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"} {
			code, e := say(t, r.address, stranger, what+" HTTP/1.1\r\nHost: x\r\n"+body)
			if code != http.StatusForbidden || e.Kind != "denied" {
				t.Errorf("%s with %.40q: %d, %+v", what, body, code, e)
			}
		}
	}
	if code, e := say(t, r.address, stranger, "POST /v1/redeem HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{}"); code != http.StatusBadRequest {
		t.Errorf("a long invite: %d, %+v", code, e)
	}
	bareClient := stranger.Clone()
	bareClient.Certificates = nil
	c, err := Dial(ClientOptions{Address: r.address, TLS: bareClient, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Status(t.Context()); err == nil {
		t.Error("a client without a certificate was served")
	}
}

// Of two identities each finds the other by its fingerprint, and no third.
func TestPinned(t *testing.T) {
	vault, peer := identity.New(), identity.New()
	serverTLS, err := peer.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(Options{Service: &wiretest.Service{Fingerprint: vault.Fingerprint(), Store: newMemory(t, memory.Options{}, 64<<20)},
		TLS: serverTLS, Fingerprint: identity.FingerprintOf, Log: quiet()})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	defer s.Close()
	ask := func(who identity.Identity, pinned string) error {
		config, err := who.ClientTLS(pinned)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Dial(ClientOptions{Address: l.Addr().String(), TLS: config, Log: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.Status(t.Context())
		return err
	}
	if err := ask(vault, peer.Fingerprint()); err != nil {
		t.Error(err)
	}
	if err := ask(identity.New(), peer.Fingerprint()); !errors.Is(err, store.Denied) {
		t.Errorf("another vault: %v", err)
	}
	if err := ask(vault, identity.New().Fingerprint()); !errors.Is(err, store.Denied) || !strings.Contains(err.Error(), "fingerprint") {
		t.Errorf("another peer than the pinned one: %v", err)
	}
}

// Requests that no client of ours makes are refused with the right kind, and the server goes
// on.
func TestHostileRequests(t *testing.T) {
	r := newRig(t, newMemory(t, memory.Options{}, 64<<20), nil)
	head := "Stasis-Reservation: " + anID + "\r\n"
	long := strings.Repeat("x", maxHeader*2)
	for _, c := range []struct {
		request string
		code    int
	}{
		{"GET /v1/nothing", 404}, {"PATCH /v1/crates/" + anID, 404}, {"GET /v2/status", 404},
		{"GET /v1/crates/no-id", 400}, {"GET /v1/crates/" + strings.ToUpper(anID), 400}, {"GET /v1/crates/00000000-0000-0000-0000-000000000000", 400},
		{"GET /v1/crates/" + anID + "%2f..%2fstatus", 400}, {"GET /v1/crates/" + anID, 404}, {"GET /v1/crates?cursor=%21", 400},
		{"GET /v1/crates?cursor=" + strings.Repeat("A", 4*wire.MaxCursor), 400}, {"GET /v1/events?sequence=-1", 400}, {"GET /v1/events?incarnation=" + strings.Repeat("x", 5000), 400},
		{"PUT /v1/reservations/" + anID, 400}, {"PUT /v1/reservations/" + anID + "|Content-Length: 2\r\n|[]", 400},
		{"PUT /v1/reservations/" + anID + "|Content-Length: 12\r\n|{\"bytes\":-1}", 400}, {"PUT /v1/reservations/" + anID + "|Content-Length: 99999999999\r\n|", 400},
		{"PUT /v1/crates/" + anID, 400}, {"PUT /v1/crates/" + anID + "|" + head + "Content-Length: 0\r\n|", 400},
		{"PUT /v1/crates/" + anID + "|" + head + "Transfer-Encoding: chunked\r\n|0\r\n\r\n", 400}, {"PUT /v1/crates/" + anID + "|" + head + "Content-Length: 99999999999999\r\n|x", 400},
		{"PUT /v1/crates/" + anID + "|" + head + "Content-Length: 5\r\nContent-Range: bytes 0-8/9\r\n|hello", 400},
		{"PUT /v1/crates/" + anID + "|" + head + "Content-Length: 5\r\nContent-Range: bytes 0-4/9\r\n|hello", 400},
		{"PUT /v1/crates/" + anID + "|" + head + "Content-Length: 5\r\nContent-Range: bytes 4-0/5\r\n|hello", 400},
		{"PUT /v1/crates/" + anID + "|" + head + "Content-Length: 5\r\nStasis-Form: square\r\n|hello", 400},
		{"PUT /v1/crates/" + anID + "|" + head + "Content-Length: 5\r\nStasis-Expect: 12\r\n|hello", 400},
		{"PUT /v1/crates/" + anID + "|" + head + "Content-Length: 5\r\n|hello", 404}, // no such reservation
		{"DELETE /v1/crates/" + anID + "|Stasis-Signature: ***\r\n|", 400}, {"GET /v1/uploads/" + anID, 400}, {"GET /v1/uploads/" + anID + "|" + head + "Stasis-Size: 1e9\r\n|", 400},
		{"POST /v1/crates/" + anID + "/verify|Content-Length: 2\r\n|{}", 400}, {"POST /v1/batch", 400}, {"POST /v1/batch|Content-Length: 3\r\n|{}\n", 400},
		{"POST /v1/batch|Content-Length: 100\r\n|" + strings.Repeat("x", 100), 400}, {"POST /v1/batch|Transfer-Encoding: chunked\r\n|fffffffffffffffff\r\n", 503},
		{"POST /v1/fence|Content-Length: 99999999\r\n|", 400}, {"POST /v1/redeem|Content-Length: 99999\r\n|", 400},
		{"GET /v1/status|Transfer-Encoding: gzip\r\n|", 501}, {"GET /v1/status|X: " + long + "\r\n|", 431},
	} {
		part := append(strings.SplitN(c.request, "|", 3), "", "")
		code, e := say(t, r.address, r.options.TLS, part[0]+" HTTP/1.1\r\nHost: x\r\n"+part[1]+"\r\n"+part[2])
		if code != c.code || e.Kind == "" && code != 501 && code != 431 {
			t.Errorf("%.150q: %d, %+v; want %d", c.request, code, e, c.code)
		}
	}
	if code, _ := say(t, r.address, r.options.TLS, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); code < 400 {
		t.Errorf("HTTP/2: %d", code)
	}
	if _, err := r.client.Status(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Who sends half a request and closes his side, or goes away, leaves nothing behind.
func TestHalfRequests(t *testing.T) {
	r := newRig(t, newMemory(t, memory.Options{}, 64<<20), nil)
	id := reserveFor(t, r.client, 32<<20)
	r.client.calls.CloseIdleConnections()
	before := runtime.NumGoroutine()
	head := func() string {
		return fmt.Sprintf("PUT /v1/crates/%s HTTP/1.1\r\nHost: x\r\nStasis-Reservation: %s\r\n", store.NewCrateID(), id)
	}
	for range 10 {
		for _, request := range []string{
			"GET /v1/sta", head(), head() + "Content-Length: 9000000\r\n\r\n" + strings.Repeat("x", 2<<20),
			head() + "Transfer-Encoding: chunked\r\nContent-Range: bytes 0-8999999/9000000\r\n\r\n100000\r\n" + strings.Repeat("x", 1000),
			"POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{", "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n",
		} {
			c := raw(t, r.address, r.options.TLS)
			if _, err := io.WriteString(c, request); err != nil {
				t.Fatal(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, c) // it ends
			c.Close()
		}
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+5; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, were %d", runtime.NumGoroutine(), before)
		}
	}
	if st, err := r.client.Status(t.Context()); err != nil || st.Crates != 0 || st.Used != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// Who sends a header a letter at a time, or asks and does not read, is cut off in the end.
func TestSlowLoris(t *testing.T) {
	_, c := serveAny(t, Options{Service: sink{}}, nil, func(s *Server) { s.http.ReadHeaderTimeout = 300 * time.Millisecond })
	address := c.o.Address
	conn := raw(t, address, c.o.TLS)
	start := time.Now()
	for range 1000 {
		if _, err := io.WriteString(conn, "G"); err != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("a header was waited for for %v", took)
	}
	plain, err := net.Dial("tcp", address) // and no handshake
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	plain.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := plain.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("a connection without a handshake: %v", err)
	}
}

// crowded counts how many batches are under way at a time.
type crowded struct {
	sink
	now, most *atomic.Int64
}

func (s crowded) Session(string, store.Token) (wire.Session, error) { return s, nil }

func (s crowded) PutBatch(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for {
		m := s.most.Load()
		if n <= m || s.most.CompareAndSwap(m, n) {
			break
		}
	}
	time.Sleep(10 * time.Millisecond)
	return s.sink.PutBatch(ctx, rs)
}

// Batches wait for memory rather than take more than there is.
func TestMemoryIsBounded(t *testing.T) {
	service := crowded{now: new(atomic.Int64), most: new(atomic.Int64)}
	_, c := serveAny(t, Options{Service: service, Memory: guard.NewLanes(4<<20, 1<<20, 2)}, nil) // one owner has 3 MiB
	var done sync.WaitGroup
	for range 24 { // of 7 MiB each
		done.Go(func() {
			rs := make([]store.PutRequest, 7)
			for i := range rs {
				rs[i] = store.PutRequest{Crate: store.NewCrateID(), Size: 1 << 20, Source: zeroSource(1 << 20)}
			}
			for _, res := range c.PutBatch(t.Context(), rs) {
				if res.Err != nil {
					t.Error(res.Err)
				}
			}
		})
	}
	done.Wait()
	if most := service.most.Load(); most > 3 || most < 1 {
		t.Errorf("%d parts of batches, of 1 MiB at least, at a time in 3 MiB", most)
	}
}

// One owner does not get all connections. Those on which nothing is under way make room.
func TestConnectionsAreBounded(t *testing.T) {
	s, c := serveAny(t, Options{Service: sink{}, Connections: guard.NewLanes(6, 2, 2)}, nil)
	var open []*tls.Conn
	ask := func(path string) int {
		conn := raw(t, c.o.Address, c.o.TLS)
		open = append(open, conn)
		if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	for range 7 {
		if code := ask("/v1/alive"); code != http.StatusNoContent {
			t.Errorf("beside connections that only lie there: %d", code)
		}
	}
	for i := range 5 { // a put that is never sent takes its connection
		conn := raw(t, c.o.Address, c.o.TLS)
		open = append(open, conn)
		if _, err := io.WriteString(conn, "POST /v1/fence HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); i < 4 && s.door.Working() < i+1; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("request %d is not under way", i)
			}
		}
	}
	if code := ask("/v1/alive"); code != http.StatusServiceUnavailable {
		t.Errorf("beside requests under way: %d", code)
	}
	for _, conn := range open {
		conn.Close()
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		owners, strangers := s.door.Inside()
		if owners+strangers == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections of owners and %d of strangers are counted, none is open", owners, strangers)
		}
	}
	if code := ask("/v1/alive"); code != http.StatusNoContent {
		t.Errorf("afterwards: %d", code)
	}
}

// faulty has a fault in it.
type faulty struct{ sink }

func (f faulty) Session(string, store.Token) (wire.Session, error)               { return f, nil }
func (faulty) Status(context.Context) (store.Status, error)                      { panic("a fault") }
func (faulty) Events(context.Context, wire.Cursor, func(wire.Event) error) error { panic("a fault") }

// A fault in one request costs that request.
func TestFault(t *testing.T) {
	_, c := serveAny(t, Options{Service: faulty{}}, nil)
	for range 3 {
		if _, err := c.Status(t.Context()); !errors.Is(err, store.Unavailable) || strings.Contains(err.Error(), "a fault") {
			t.Error(err)
		}
		if err := c.Events(t.Context(), wire.Cursor{}, func(wire.Event) error { return nil }); !errors.Is(err, store.Unavailable) {
			t.Error(err)
		}
		if _, err := c.Stat(t.Context(), store.NewCrateID()); err != nil {
			t.Error(err)
		}
	}
}

// Drain lets a put end, ends what would go on for ever, and takes nothing new.
func TestDrain(t *testing.T) {
	pausing, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	slow := sink{pause: func(ctx context.Context) {
		once.Do(func() { close(pausing) })
		<-goOn
	}}
	s, c := serveAny(t, Options{Service: slow}, nil)
	put, listened := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := c.Put(t.Context(), store.PutRequest{Crate: store.NewCrateID(), Size: 9 << 20, Source: zeroSource(9 << 20)})
		put <- err
	}()
	go func() {
		listened <- c.Events(t.Context(), wire.Cursor{}, func(wire.Event) error { return nil })
	}()
	<-pausing
	drained := make(chan struct{})
	go func() {
		s.Drain(t.Context())
		close(drained)
	}()
	if err := <-listened; !errors.Is(err, store.Unavailable) {
		t.Errorf("events: %v", err)
	}
	close(goOn)
	if err := <-put; err != nil {
		t.Errorf("a put under way: %v", err)
	}
	<-drained
	if _, err := c.Stat(t.Context(), store.NewCrateID()); !errors.Is(err, store.Unavailable) {
		t.Errorf("afterwards: %v", err)
	}
}
