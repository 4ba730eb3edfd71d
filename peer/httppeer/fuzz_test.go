package httppeer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"stasis/peer/wire"
	"stasis/peer/wiretest"
	"stasis/store"
	"stasis/store/memory"
)

// Headers of others never lead outside of a crate, and ours come back as they were.
func FuzzHeaders(f *testing.F) {
	for _, s := range []string{"bytes 0-4/5", "bytes */7", "bytes=0-", "bytes=5-9", "bytes=-3", "bytes=1-2,4-5", "bytes 9-1/4", "bytes 0-99999999999999999999/5", `"` + aHash + `"`,
		`{"kind":"corrupt","detail":"\ud83d\ude00"}`, "AAAA", "sealed", "", "18446744073709551615"} {
		f.Add(s, int64(5))
	}
	f.Fuzz(func(t *testing.T, s string, size int64) {
		if offset, length, size, err := parseContentRange(s); err == nil {
			if offset < 0 || length < 0 || offset > size || length > size-offset {
				t.Errorf("%q is %d+%d of %d", s, offset, length, size)
			}
			if o, l, z, err := parseContentRange(contentRange(offset, length, size)); err != nil || length > 0 && o != offset || l != length || z != size {
				t.Errorf("%q comes back as %d+%d/%d, %v", s, o, l, z, err)
			}
		}
		if size > 0 {
			if offset, length, ok, err := parseRange(s, size); err == nil && ok && (offset < 0 || length <= 0 || offset > size || length > size-offset) {
				t.Errorf("%q of %d is %d+%d", s, size, offset, length)
			}
		}
		if d, err := parseETag(s); err == nil && etag(d) != s {
			t.Errorf("%q is the tag of %s", s, d)
		}
		if p, err := parseBase64("it", s, 20); err == nil && len(p) > 20 {
			t.Errorf("%q has %d bytes", s, len(p))
		}
		if err := parseError([]byte(s)); err != nil && store.KindOf(err) == 0 {
			t.Errorf("%q has no kind", s)
		}
		text := headerText(&wire.Error{Kind: "corrupt", Detail: s})
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' && r != 0x7f }) {
			t.Errorf("%q does not fit a header", text)
		}
		var e wire.Error
		if err := json.Unmarshal([]byte(text), &e); err != nil || e.Kind != "corrupt" {
			t.Errorf("%q reads as %+v, %v", text, e, err)
		}
		if info, err := readInfo(store.CrateID{1}, http.Header{"Etag": {s}, headerForm: {s}}, size); err == nil && info.Size <= 0 {
			t.Errorf("%+v passed", info)
		}
	})
}

// A batch's first line never leads to more bytes than the limits allow.
func FuzzBatchHead(f *testing.F) {
	f.Add([]byte(`{"crates":[{"reservation":"` + anID + `","crate":"` + anID + `","size":5}]}` + "\nhello"))
	f.Add([]byte("{}\n"))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, p []byte) {
		line, err := readBatchLine(bufio.NewReader(bytes.NewReader(p)))
		var head wire.Batch
		if err == nil {
			head, err = readBatchHead(line)
		}
		total := int64(0)
		for _, c := range head.Crates {
			total += c.Size
		}
		if err == nil && (total <= 0 || total > wire.MaxBatchBytes || len(head.Crates) > wire.MaxBatchCrates) {
			t.Errorf("a batch of %d crates with %d bytes passed", len(head.Crates), total)
		}
		if err != nil && store.KindOf(err) == 0 {
			t.Errorf("an error without a kind: %v", err)
		}
	})
}

// seeds are requests of each kind, with what they need to get far.
func seeds() []string {
	head := "Stasis-Reservation: " + anID + "\r\nStasis-Size: 5\r\nStasis-Expect: " + aHash + "\r\n"
	out := []string{
		"PUT /v1/reservations/" + anID + " HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{\"bytes\":8192}",
		"PUT /v1/crates/" + anID + " HTTP/1.1\r\nHost: x\r\n" + head + "Content-Range: bytes 0-4/5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"GET /v1/crates/" + anID + " HTTP/1.1\r\nHost: x\r\nRange: bytes=1-3\r\nTe: trailers\r\nIf-Range: \"x\"\r\n\r\n",
		"POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{}\n",
		"GET /v1/crates?cursor=AAAA HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /v1/crates/" + anID + "/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 31\r\n\r\n{\"offset\":0,\"length\":1,\"nonce\":\"",
		"DELETE /v1/crates/" + anID + " HTTP/1.1\r\nHost: x\r\nStasis-Signature: AAAA\r\n\r\n",
	}
	for _, r := range requests {
		out = append(out, r+" HTTP/1.1\r\nHost: x\r\n"+head+"\r\n")
	}
	return out
}

// Whatever is asked, the server answers with a status of its own and goes on.
func FuzzRequest(f *testing.F) {
	cert := wiretest.Certificate(f)
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		f.Fatal(err)
	}
	service := &wiretest.Service{Fingerprint: wiretest.Fingerprint(leaf), Store: newMemory(f, memory.Options{}, 1<<30)}
	s := NewServer(Options{Service: service, TLS: &tls.Config{}, Fingerprint: wiretest.Fingerprint, Log: quiet()})
	id := store.ReservationID{}
	if err := id.UnmarshalText([]byte(anID)); err != nil {
		f.Fatal(err)
	}
	if _, err := service.Store.Reserve(context.Background(), store.ReserveRequest{ID: id, Bytes: 1 << 20}); err != nil {
		f.Fatal(err)
	}
	for _, r := range seeds() {
		f.Add([]byte(r))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(p)))
		if err != nil || !strings.HasPrefix(r.URL.Path, "/") {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // events go on for ever
		defer cancel()
		r = r.WithContext(ctx)
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
		w := httptest.NewRecorder()
		func() {
			defer func() {
				if v := recover(); v != nil && v != http.ErrAbortHandler {
					t.Errorf("%q: fault: %v", p, v)
				}
			}()
			s.ServeHTTP(w, r)
		}()
		if w.Code < 200 || w.Code >= 600 || w.Code == 500 {
			t.Errorf("%q: %d", p, w.Code)
		}
	})
}

// Whatever a peer answers, the client has an error with a kind, or something within the
// limits.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 15\r\n\r\n{\"receipts\":[]}",
		"HTTP/1.1 409 Conflict\r\nStasis-Offset: 3\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/5\r\nTransfer-Encoding: chunked\r\nTrailer: Stasis-Error\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/5\r\nTransfer-Encoding: chunked\r\nTrailer: Stasis-Error\r\n\r\n0\r\nStasis-Error: {\"kind\":\"corrupt\"}\r\n\r\n",
		"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/5\r\nContent-Length: 9\r\n\r\nhellohello",
		"HTTP/1.1 416 No\r\nContent-Range: bytes */0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nEtag: \"" + aHash + "\"\r\nContent-Length: 7\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n\n\n{\"kind\":\"alive\"}\n",
		"HTTP/1.1 503 No\r\nStasis-Error: {\"kind\":\"quota\"}\r\n\r\n",
		"HTTP/1.1 301 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
	} {
		f.Add([]byte(s), uint8(len(s)))
	}
	f.Fuzz(func(t *testing.T, p []byte, op uint8) {
		c, err := Dial(ClientOptions{Address: "127.0.0.1:1", TLS: &tls.Config{}, Log: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		tape := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return play(p), nil }, DisableKeepAlives: true,
			ExpectContinueTimeout: time.Second, MaxResponseHeaderBytes: maxAnswerHeader}
		c.calls, c.pings = tape, tape
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := tell(ctx, t, c, op); err != nil && store.KindOf(err) == 0 {
			t.Errorf("%q: an error without a kind: %v", p, err)
		}
	})
}

// tell makes one of the calls.
func tell(ctx context.Context, t *testing.T, c *Client, op uint8) error {
	id := store.CrateID{1}
	put := store.PutRequest{Crate: id, Size: 5, Source: bytesSource("hello")}
	switch op % 8 {
	case 0:
		_, err := c.Status(ctx)
		return err
	case 1:
		info, err := c.Stat(ctx, id)
		if err == nil && info.Size <= 0 {
			t.Errorf("%+v", info)
		}
		return err
	case 2:
		rs, err := c.Put(ctx, put)
		if err == nil && len(rs) == 0 {
			t.Error("no receipts and no error")
		}
		return err
	case 3:
		return c.PutBatch(ctx, []store.PutRequest{put})[0].Err
	case 4:
		rc, err := c.Open(ctx, id, 0, 5)
		if err != nil {
			return err
		}
		defer rc.Close()
		got, err := io.ReadAll(rc)
		if err == nil && len(got) != 5 {
			t.Errorf("%d bytes and no error", len(got))
		}
		return err
	case 5:
		_, err := c.List(ctx, []byte("c"))
		return err
	case 6:
		return c.Events(ctx, wire.Cursor{}, func(wire.Event) error { return nil })
	}
	_, err := c.Reserve(ctx, store.ReserveRequest{})
	return err
}

// tape is a connection that takes everything, says what it has to say, and ends.
type tape struct {
	*bytes.Reader
}

func play(p []byte) net.Conn { return tape{bytes.NewReader(p)} }

func (tape) Write(p []byte) (int, error)      { return len(p), nil }
func (tape) Close() error                     { return nil }
func (tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (tape) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (tape) SetDeadline(time.Time) error      { return nil }
func (tape) SetReadDeadline(time.Time) error  { return nil }
func (tape) SetWriteDeadline(time.Time) error { return nil }
