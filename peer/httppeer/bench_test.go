package httppeer

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/peer/wiretest"
	"stasis/store"
)

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
			w.Header().Set("Content-Length", strconv.Itoa(sinkSize))
			io.CopyN(struct{ io.Writer }{w}, zeros{}, sinkSize)
			return
		}
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, store.BlockSize))
	})}
	go s.ServeTLS(l, "", "")
	b.Cleanup(func() { s.Close() })
	return &http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS}}, "https://" + l.Addr().String()
}

// cpu reports what both ends together take of the processor.
func cpu(b *testing.B) (stop func()) {
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	start := used()
	return func() {
		b.ReportMetric((used()-start).Seconds()/(float64(b.N)*sinkSize/(1<<30)), "cpu-s/GiB")
	}
}

func BenchmarkPut(b *testing.B) {
	_, c := serveAny(b, Options{Service: sink{}}, nil)
	b.SetBytes(sinkSize)
	defer cpu(b)()
	for b.Loop() {
		if _, err := c.Put(b.Context(), store.PutRequest{Crate: store.NewCrateID(), Size: sinkSize, Source: zeroSource(sinkSize)}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBarePut(b *testing.B) {
	c, url := bare(b)
	b.SetBytes(sinkSize)
	defer cpu(b)()
	for b.Loop() {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPut, url, io.LimitReader(zeros{}, sinkSize))
		if err != nil {
			b.Fatal(err)
		}
		r.ContentLength = sinkSize
		resp, err := c.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
	}
}

func BenchmarkOpen(b *testing.B) {
	_, c := serveAny(b, Options{Service: sink{}}, nil)
	p := make([]byte, store.BlockSize)
	b.SetBytes(sinkSize)
	defer cpu(b)()
	for b.Loop() {
		rc, err := c.Open(b.Context(), store.NewCrateID(), 0, -1)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, rc, p); err != nil || n != sinkSize {
			b.Fatal(n, err)
		}
		rc.Close()
	}
}

func BenchmarkBareGet(b *testing.B) {
	c, url := bare(b)
	p := make([]byte, store.BlockSize)
	b.SetBytes(sinkSize)
	defer cpu(b)()
	for b.Loop() {
		resp, err := c.Get(url)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, p); err != nil || n != sinkSize {
			b.Fatal(n, err)
		}
		resp.Body.Close()
	}
}

// Batches of 128 crates of 4 KiB.
func BenchmarkBatch(b *testing.B) {
	_, c := serveAny(b, Options{Service: sink{}}, nil)
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
	_, c := serveAny(b, Options{Service: sink{}}, nil)
	for b.Loop() {
		if _, err := c.Stat(b.Context(), store.NewCrateID()); err != nil {
			b.Fatal(err)
		}
	}
}
