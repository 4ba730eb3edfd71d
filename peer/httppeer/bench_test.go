package httppeer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"stasis/peer/wire"
	"stasis/peer/wiretest"
	"stasis/store"
)

// sink is a session that keeps nothing, so that a benchmark measures the wire.
type sink struct{ view }

type view = wire.Session

func (sink) Session(string) (wire.Session, error) { return sink{}, nil }
func (sink) Redeem(context.Context, wire.Redeem, string) (wire.Redeemed, error) {
	return wire.Redeemed{}, nil
}

func (sink) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	rc, err := r.Source.OpenAt(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, rc, make([]byte, store.BlockSize)); err != nil || n != r.Size {
		return nil, fmt.Errorf("%d of %d bytes: %w", n, r.Size, err)
	}
	return sinkReceipts(r.Size), nil
}

func sinkReceipts(size int64) []store.Receipt {
	return []store.Receipt{{Leaf: store.NodeID{1}, Time: time.Unix(1, 0), Sums: store.Checksums{Size: size, Blocks: make([]store.Digest, store.Blocks(size))}}}
}

func (sink) PutBatch(_ context.Context, rs []store.PutRequest) []store.PutResult {
	out := make([]store.PutResult, len(rs))
	for i, r := range rs {
		out[i].Receipts = sinkReceipts(r.Size)
	}
	return out
}

func (sink) Stat(_ context.Context, id store.CrateID) (store.CrateInfo, error) {
	return store.CrateInfo{ID: id, Size: benchSize}, nil
}

func (sink) Open(_ context.Context, _ store.CrateID, offset, length int64) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeros{}, length)), nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

const benchSize = 256 << 20 // bytes

func sinkClient(b *testing.B) *Client {
	serverTLS, clientTLS, _ := wiretest.TLS(b)
	s := NewServer(Options{Service: sink{}, TLS: serverTLS, Fingerprint: wiretest.Fingerprint, Log: quiet()})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go s.Serve(l)
	b.Cleanup(s.Close)
	c, err := Dial(ClientOptions{Address: l.Addr().String(), TLS: clientTLS, Log: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// bare is net/http itself over TLS: what the protocol may cost is measured against it.
func bare(b *testing.B) (*http.Client, string) {
	serverTLS, clientTLS, _ := wiretest.TLS(b)
	serverTLS.NextProtos = []string{"http/1.1"}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &http.Server{TLSConfig: serverTLS, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Length", strconv.Itoa(benchSize))
			io.CopyN(struct{ io.Writer }{w}, zeros{}, benchSize)
			return
		}
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, store.BlockSize))
	})}
	go s.ServeTLS(l, "", "")
	b.Cleanup(func() { s.Close() })
	return &http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS}}, "https://" + l.Addr().String()
}

func BenchmarkPut(b *testing.B) {
	c := sinkClient(b)
	p := make([]byte, benchSize)
	b.SetBytes(benchSize)
	for b.Loop() {
		if _, err := c.Put(b.Context(), store.PutRequest{Crate: store.NewCrateID(), Size: benchSize, Source: bytesSource(p)}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBarePut(b *testing.B) {
	c, url := bare(b)
	p := make([]byte, benchSize)
	b.SetBytes(benchSize)
	for b.Loop() {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPut, url, bytes.NewReader(p))
		if err != nil {
			b.Fatal(err)
		}
		resp, err := c.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
	}
}

func BenchmarkOpen(b *testing.B) {
	c := sinkClient(b)
	p := make([]byte, store.BlockSize)
	b.SetBytes(benchSize)
	for b.Loop() {
		rc, err := c.Open(b.Context(), store.NewCrateID(), 0, -1)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, rc, p); err != nil || n != benchSize {
			b.Fatal(n, err)
		}
		rc.Close()
	}
}

func BenchmarkBareGet(b *testing.B) {
	c, url := bare(b)
	p := make([]byte, store.BlockSize)
	b.SetBytes(benchSize)
	for b.Loop() {
		resp, err := c.Get(url)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, p); err != nil || n != benchSize {
			b.Fatal(n, err)
		}
		resp.Body.Close()
	}
}

// Batches of 128 crates of 4 KiB.
func BenchmarkBatch(b *testing.B) {
	c := sinkClient(b)
	rs := make([]store.PutRequest, 128)
	for i := range rs {
		rs[i] = store.PutRequest{Crate: store.NewCrateID(), Size: 4096, Source: bytesSource(make([]byte, 4096))}
	}
	for b.Loop() {
		for _, r := range c.PutBatch(b.Context(), rs) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
	}
	b.ReportMetric(float64(b.N*len(rs))/b.Elapsed().Seconds(), "crates/s")
}

func BenchmarkStat(b *testing.B) {
	c := sinkClient(b)
	for b.Loop() {
		if _, err := c.Stat(b.Context(), store.NewCrateID()); err != nil {
			b.Fatal(err)
		}
	}
}
