package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"stasis/integration/harness"
	"stasis/peer/grpcpeer"
	"stasis/peer/httppeer"
	"stasis/peer/identity"
	"stasis/store"
)

// rawRate is the rate at which answers are bent below the messages.
const rawRate = 0.3

// bender stands before an honest server and bends the answers that pass through: not what
// they say, which a crook does, but how they are written.
type bender struct {
	c     *crook
	seed  uint64
	who   atomic.Pointer[string] // the fingerprint that the caller has shown
	bends atomic.Bool
	count atomic.Uint64
}

// bend says how an answer is bent; nil: it is not.
func (b *bender) bend() *rand.Rand {
	n := b.count.Add(1)
	r := rand.New(rand.NewPCG(b.seed, n))
	if !b.bends.Load() || r.Float64() >= rawRate {
		return nil
	}
	return r
}

func (b *bender) tell(name string) {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	b.c.told["raw: "+name]++
}

// shown notes who calls, for the honest server behind.
func (b *bender) shown(s tls.ConnectionState) error {
	f, err := identity.PeerFingerprint(s)
	if err == nil {
		b.who.Store(&f)
	}
	return err
}

// newBender puts a bender before a crook that says what is true.
func newBender(t *testing.T, seed uint64) (*crook, *bender) {
	t.Helper()
	c := newCrook(t)
	b := &bender{c: c, seed: seed}
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	behind, err := c.identity.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	fingerprint := func(*x509.Certificate) string { return *b.who.Load() }
	innerGRPC := serve(t, grpcpeer.NewServer(grpcpeer.Options{Service: c, TLS: behind, Fingerprint: fingerprint, Log: quiet}))
	innerHTTP := serve(t, httppeer.NewServer(httppeer.Options{Service: c, TLS: behind, Fingerprint: fingerprint, Log: quiet}))
	link, err := identity.New().ClientTLS(c.identity.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	front := behind.Clone()
	check := front.VerifyConnection
	front.VerifyConnection = func(s tls.ConnectionState) error {
		if err := check(s); err != nil {
			return err
		}
		return b.shown(s)
	}
	c.http = b.serveHTTP(t, innerHTTP, front, link)
	c.grpc = b.serveGRPC(t, innerGRPC, front, link)
	return c, b
}

// serveHTTP passes requests on and bends what comes back.
func (b *bender) serveHTTP(t *testing.T, to string, front, link *tls.Config) string {
	t.Helper()
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "https", Host: to}) },
		Transport: &http.Transport{TLSClientConfig: link, DisableCompression: true, ExpectContinueTimeout: time.Minute,
			TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}},
		ModifyResponse: b.bendResponse, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
	}
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: proxy, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, ErrorLog: log.New(io.Discard, "", 0)}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(tls.NewListener(n, front)) }) // ends with Close
	t.Cleanup(func() { _ = s.Close(); serving.Wait() })
	return n.Addr().String()
}

func (b *bender) bendResponse(resp *http.Response) error {
	r := b.bend()
	if r == nil {
		return nil
	}
	switch k := r.IntN(8); {
	case k < 4 && strings.Contains(resp.Header.Get("Content-Type"), "json"):
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		text = bentJSON(r, text)
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		resp.Header.Set("Content-Length", strconv.Itoa(len(text)))
		b.tell("JSON over HTTP")
	case k == 4:
		resp.StatusCode = []int{200, 201, 204, 206, 299, 301, 304, 400, 403, 404, 405, 409, 416, 418, 500, 503, 507, 999}[r.IntN(18)]
		resp.Status = strconv.Itoa(resp.StatusCode) + " " + nasty
		b.tell("a status of HTTP")
	case k == 5:
		for _, h := range []string{"Stasis-Error", "Stasis-Offset", "Stasis-Form", "Content-Range", "Etag", "Stasis-Size"} {
			if r.IntN(2) == 0 {
				resp.Header.Set(h, []string{"", "-1", "99999999999999999999", "bytes 0-0/1", "bytes 5-1/3", "\u009b2J", `{"kind":"\u001b[2J"}`, strings.Repeat("9", 4000)}[r.IntN(8)])
			}
		}
		b.tell("headers of HTTP")
	case k == 6:
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, r.Int64N(200)), resp.Body}
		b.tell("a body of HTTP that breaks off")
	default:
		resp.Body = struct {
			io.Reader
			io.Closer
		}{&spoilt{resp.Body, func(p []byte) ([]byte, error) { p[r.IntN(len(p))] = byte(r.Uint32()); return p, nil }}, resp.Body}
		b.tell("bytes of a body of HTTP")
	}
	return nil
}

// bentJSON is a message with a field of another kind, or none any more.
func bentJSON(r *rand.Rand, text []byte) []byte {
	switch r.IntN(6) {
	case 0:
		return text[:r.IntN(len(text)+1)]
	case 1:
		return []byte(strings.Repeat("[", 1<<uint(r.IntN(20))))
	case 2:
		return append(slices.Clone(text), text...)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return []byte(nasty)
	}
	out, err := json.Marshal(bentValue(r, v))
	if err != nil {
		return []byte("{" + nasty)
	}
	return out
}

func bentValue(r *rand.Rand, v any) any {
	if r.IntN(3) > 0 {
		switch v := v.(type) {
		case map[string]any:
			keys := make([]string, 0, len(v))
			for k := range v {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			if len(keys) > 0 {
				k := keys[r.IntN(len(keys))]
				v[k] = bentValue(r, v[k])
			}
			return v
		case []any:
			if len(v) > 0 {
				i := r.IntN(len(v))
				v[i] = bentValue(r, v[i])
			}
			return v
		}
	}
	return []any{nil, -1, json.Number("1" + strings.Repeat("0", 400)), json.Number("-0.5"), "", nasty, strings.Repeat("A", 1<<16), []any{}, map[string]any{}, true,
		"00000000-0000-0000-0000-000000000000", strings.Repeat("0", 64), "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"}[r.IntN(14)]
}

// rawFrame is a message of gRPC as it lies on the wire.
type rawFrame struct{ b []byte }

// rawCodec leaves messages as they are.
type rawCodec struct{}

func (rawCodec) Name() string { return "stasis" }

func (rawCodec) Marshal(v any) ([]byte, error) { return v.(*rawFrame).b, nil }

func (rawCodec) Unmarshal(b []byte, v any) error {
	v.(*rawFrame).b = bytes.Clone(b)
	return nil
}

// serveGRPC passes calls on and bends what comes back.
func (b *bender) serveGRPC(t *testing.T, to string, front, link *tls.Config) string {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+to, grpc.WithTransportCredentials(credentials.NewTLS(link)),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(front)), grpc.ForceServerCodec(rawCodec{}), grpc.MaxRecvMsgSize(16<<20),
		grpc.UnknownServiceHandler(func(_ any, in grpc.ServerStream) error { return b.passCall(conn, in) }))
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(n) }) // ends with Stop
	t.Cleanup(func() { s.Stop(); serving.Wait() })
	return n.Addr().String()
}

// passCall is one call to the honest server.
func (b *bender) passCall(conn *grpc.ClientConn, in grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(in)
	md, _ := metadata.FromIncomingContext(in.Context())
	ctx, cancel := context.WithCancel(in.Context())
	defer cancel()
	if m := md.Get("stasis-mount"); len(m) > 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, "stasis-mount", m[0])
	}
	out, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() { // ends with the call
		for {
			var f rawFrame
			if in.RecvMsg(&f) != nil {
				_ = out.CloseSend()
				return
			}
			if out.SendMsg(&f) != nil {
				return
			}
		}
	}()
	for {
		var f rawFrame
		if err := out.RecvMsg(&f); err != nil {
			if tr := out.Trailer(); len(tr) > 0 {
				if r := b.bend(); r != nil && len(tr.Get("stasis-error-bin")) > 0 {
					tr = metadata.Pairs("stasis-error-bin", string(bentJSON(r, []byte(tr.Get("stasis-error-bin")[0]))))
					b.tell("a trailer of gRPC")
				}
				in.SetTrailer(tr)
			}
			if err == io.EOF {
				return nil
			}
			return err
		}
		frames := [][]byte{f.b}
		if r := b.bend(); r != nil {
			frames = b.bentFrames(r, f.b)
		}
		for _, p := range frames {
			if err := in.SendMsg(&rawFrame{p}); err != nil {
				return err
			}
		}
	}
}

// bentFrames is what is sent in place of a frame: kind, length of the head, head, body.
func (b *bender) bentFrames(r *rand.Rand, p []byte) [][]byte {
	if len(p) < 5 {
		return nil
	}
	n := min(int(binary.BigEndian.Uint32(p[1:])), len(p)-5)
	q := slices.Clone(p)
	switch k := r.IntN(9); {
	case k < 3 && n > 0:
		head := bentJSON(r, p[5:5+n])
		q = binary.BigEndian.AppendUint32([]byte{p[0]}, uint32(len(head)))
		q = append(append(q, head...), p[5+n:]...)
		b.tell("JSON over gRPC")
	case k == 3:
		q[0] = byte(r.IntN(8))
		b.tell("a frame of another kind")
	case k == 4:
		binary.BigEndian.PutUint32(q[1:], r.Uint32())
		b.tell("a frame of another length")
	case k == 5:
		b.tell("a frame is missing")
		return nil
	case k == 6:
		b.tell("a frame twice")
		return [][]byte{p, p}
	case k == 7:
		b.tell("half a frame")
		return [][]byte{p[:r.IntN(len(p))]}
	default:
		q[r.IntN(len(q))] ^= 1 << r.IntN(8)
		b.tell("a bit of a frame")
	}
	return [][]byte{q}
}

// Answers that are written wrong, below what the messages have words for, do no more harm than
// those that say what is wrong.
func TestPeerSendsNonsense(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			seed := harness.Seed(t)
			c, b := newBender(t, seed)
			d := &deceived{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), v: vaultBeside(t, c, protocol, 2), c: c,
				files: make(map[string][]byte), ever: make(map[store.Digest]bool)}
			b.bends.Store(true)
			start := time.Now()
			told := 0
			for turn := 0; told < harness.Count(100, 10_000) && time.Since(start) < lieTime && !t.Failed(); turn++ {
				d.turn(nil)
				if turn%15 == 14 {
					d.remount()
				}
				_, told, _ = d.c.figures()
			}
			b.bends.Store(false)
			t.Logf("%d lies in %s: %s", told, time.Since(start).Round(time.Second), strings.Join(d.c.kinds(), "; "))
			d.settle()
		})
	}
}
