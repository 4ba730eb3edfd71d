package httppeer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"stasis/peer/wire"
	"stasis/peer/wiretest"
	"stasis/store"
)

// recorder is a connection that keeps what is said on it, and answers as a server would: to a
// request without a word of 100, to one that expects it after its last chunk.
type recorder struct {
	tape
	mu     sync.Mutex
	said   bytes.Buffer
	answer chan string
	left   string
}

func record() *recorder { return &recorder{answer: make(chan string, 2)} }

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.said.Len() == 0
	r.said.Write(p)
	chunked := bytes.Contains(r.said.Bytes(), []byte("Expect: 100-continue"))
	if chunked && first {
		r.answer <- "HTTP/1.1 100 Continue\r\n\r\n"
	}
	if !chunked && first || chunked && bytes.HasSuffix(r.said.Bytes(), []byte("\r\n0\r\n\r\n")) {
		r.answer <- "HTTP/1.1 422 No\r\nStasis-Error: {\"kind\":\"corrupt\"}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
		close(r.answer)
	}
	return len(p), nil
}

func (r *recorder) Read(p []byte) (int, error) {
	if r.left == "" {
		text, ok := <-r.answer
		if !ok {
			return 0, io.EOF
		}
		r.left = text
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// call is one that a client makes, and the status that a server gives.
type call struct {
	do   func(context.Context, *Client)
	code int
}

// calls are one of each kind.
func calls() map[string]call {
	var id store.CrateID
	var reservation store.ReservationID
	var hash store.Digest
	for _, err := range []error{id.UnmarshalText([]byte(anID)), reservation.UnmarshalText([]byte(anID)), hash.UnmarshalText([]byte(aHash))} {
		if err != nil {
			panic(err)
		}
	}
	put := store.PutRequest{Reservation: reservation, Crate: id, Form: store.Sealed, Size: 5, Expect: &hash, Source: bytesSource("hello")}
	return map[string]call{
		"reserve": {func(ctx context.Context, c *Client) {
			c.Reserve(ctx, store.ReserveRequest{ID: reservation, Bytes: 8192, Lease: time.Minute})
		}, 200},
		"renew":    {func(ctx context.Context, c *Client) { c.Renew(ctx, reservation) }, 200},
		"release":  {func(ctx context.Context, c *Client) { c.Release(ctx, reservation) }, 204},
		"put":      {func(ctx context.Context, c *Client) { c.Put(ctx, put) }, 201},
		"standing": {func(ctx context.Context, c *Client) { c.standing(ctx, put) }, 200},
		"give-up":  {func(ctx context.Context, c *Client) { c.giveUp(ctx, put) }, 204},
		"batch":    {func(ctx context.Context, c *Client) { c.PutBatch(ctx, []store.PutRequest{put, put}) }, 200},
		"open":     {func(ctx context.Context, c *Client) { c.Open(ctx, id, 1<<20, 100) }, 206},
		"stat":     {func(ctx context.Context, c *Client) { c.Stat(ctx, id) }, 200},
		"verify":   {func(ctx context.Context, c *Client) { c.Verify(ctx, id, 1<<20, -1, hash) }, 200},
		"discard": {func(ctx context.Context, c *Client) {
			c.Discard(ctx, store.DiscardRequest{Crate: id, Signature: []byte{1, 2, 3}})
		}, 204},
		"list":   {func(ctx context.Context, c *Client) { c.List(ctx, []byte{0xff, 0xfe, 0xfd}) }, 200},
		"status": {func(ctx context.Context, c *Client) { c.Status(ctx) }, 200},
		"fence":  {func(ctx context.Context, c *Client) { c.Fence(ctx, []store.Token{{1}}, store.Token{2}, true) }, 204},
		"redeem": {func(ctx context.Context, c *Client) { c.Redeem(ctx, wire.Redeem{Secret: []byte("secret")}) }, 200},
	}
}

// exact is the part of a session that a sink does not have; it takes what calls makes.
type exact struct{ view }

func refused() error { return &store.Error{Kind: store.Unavailable, Op: "refuse"} }

func (exact) Reserve(_ context.Context, r store.ReserveRequest) ([]store.Share, error) {
	return []store.Share{{Leaf: store.NodeID{1}, Bytes: r.Bytes}}, nil
}
func (exact) Renew(context.Context, store.ReservationID) (time.Time, error) {
	return time.Unix(1, 0), nil
}
func (exact) Release(context.Context, store.ReservationID) error { return nil }
func (exact) Discard(_ context.Context, r store.DiscardRequest) error {
	if !bytes.Equal(r.Signature, []byte{1, 2, 3}) {
		return refused()
	}
	return nil
}
func (exact) List(_ context.Context, cursor []byte) (store.Page, error) {
	if !bytes.Equal(cursor, []byte{0xff, 0xfe, 0xfd}) {
		return store.Page{}, refused()
	}
	return store.Page{}, nil
}
func (exact) Fence(_ context.Context, known []store.Token, next store.Token, takeOver bool) error {
	if len(known) != 1 || known[0] != (store.Token{1}) || next != (store.Token{2}) || !takeOver {
		return refused()
	}
	return nil
}

// What an earlier release asked for is understood as it was meant, and asked for the same.
func TestGoldenRequests(t *testing.T) {
	cert := wiretest.Certificate(t)
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(Options{Service: sink{view: exact{}}, TLS: &tls.Config{}, Fingerprint: wiretest.Fingerprint, Log: quiet()})
	defer s.Close()
	for name, call := range calls() {
		conn := record()
		c, err := Dial(ClientOptions{Address: "nas.example:7001", TLS: &tls.Config{}, Log: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		c.calls = &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }, DisableCompression: true,
			ExpectContinueTimeout: time.Minute}
		call.do(t.Context(), c)
		c.Close()
		conn.mu.Lock()
		said := bytes.Clone(conn.said.Bytes())
		conn.mu.Unlock()
		path := filepath.Join("testdata", "golden", name+".http")
		golden, err := os.ReadFile(path)
		if os.IsNotExist(err) && os.Getenv("STASIS_GOLDEN") == "new" {
			golden = said
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, said, 0o644)); err != nil {
				t.Fatal(err)
			}
		} else if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(golden, said) {
			t.Errorf("%s: asks\n%s\nwant\n%s", name, said, golden)
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(golden)))
		if err != nil {
			t.Fatal(err)
		}
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != call.code {
			t.Errorf("%s: %d %s, want %d", name, w.Code, w.Body, call.code)
		}
	}
}
