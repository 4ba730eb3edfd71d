package grpcpeer

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"

	"stasis/peer/wire"
	"stasis/peer/wiretest"
	"stasis/store"
)

const sinkSize = 256 << 20 // bytes; that of every crate of a sink

// sink is a session that keeps nothing, so that the wire alone is measured.
type sink struct{ view }

type view = wire.Session

func (s sink) Session(string, store.Token) (wire.Session, error) { return s, nil }

func (sink) Redeem(context.Context, wire.Redeem, string) (wire.Redeemed, error) {
	return wire.Redeemed{}, nil
}

func (sink) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	rc, err := r.Source.OpenAt(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, rc, make([]byte, wire.DataSize))
	if err != nil || n != r.Size {
		return nil, fmt.Errorf("%d of %d bytes: %w", n, r.Size, err)
	}
	return sinkReceipts(r.Size), nil
}

func (sink) PutBatch(_ context.Context, rs []store.PutRequest) []store.PutResult {
	out := make([]store.PutResult, len(rs))
	for i, r := range rs {
		out[i].Receipts = sinkReceipts(r.Size)
	}
	return out
}

func (sink) Open(_ context.Context, _ store.CrateID, _, length int64) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeros{}, length)), nil
}

func sinkReceipts(size int64) []store.Receipt {
	return []store.Receipt{{Leaf: store.NodeID{1}, Time: time.Unix(1, 0), Sums: store.Checksums{Size: size, Blocks: make([]store.Digest, store.Blocks(size))}}}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

type zeroSource int64

func (z zeroSource) OpenAt(_ context.Context, offset int64) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeros{}, int64(z)-offset)), nil
}

func sinkClient(b *testing.B) *Client {
	serverTLS, clientTLS, _ := wiretest.TLS(b)
	s := NewServer(Options{Service: sink{}, TLS: serverTLS, Fingerprint: wiretest.Fingerprint, Log: quiet()})
	address := listen(b, s.Serve, s.Close)
	c, err := Dial(ClientOptions{Address: address, TLS: clientTLS, Log: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// listen runs a server until the benchmark ends.
func listen(b *testing.B, serve func(net.Listener) error, end func()) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		if err := serve(l); err != nil {
			b.Errorf("serve: %v", err)
		}
	})
	b.Cleanup(func() {
		end()
		done.Wait()
	})
	return l.Addr().String()
}

func BenchmarkPut(b *testing.B) {
	c := sinkClient(b)
	b.SetBytes(sinkSize)
	for b.Loop() {
		if _, err := c.Put(b.Context(), store.PutRequest{Crate: store.NewCrateID(), Size: sinkSize, Source: zeroSource(sinkSize)}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	c := sinkClient(b)
	p := make([]byte, wire.DataSize)
	b.SetBytes(sinkSize)
	for b.Loop() {
		rc, err := c.Open(b.Context(), store.NewCrateID(), 0, sinkSize)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, rc, p); err != nil || n != sinkSize {
			b.Fatal(n, err)
		}
		rc.Close()
	}
}

// Batches of 256 crates of 4 KiB.
func BenchmarkBatch(b *testing.B) {
	c := sinkClient(b)
	rs := make([]store.PutRequest, 256)
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

// bareCodec passes bytes through and drops what comes.
type bareCodec struct{}

func (bareCodec) Name() string { return "bytes" }

func (bareCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (bareCodec) Unmarshal(mem.BufferSlice, any) error { return nil }

// A stream of gRPC alone: what the protocol may cost is measured against it.
func BenchmarkBareStream(b *testing.B) {
	serverTLS, clientTLS, _ := wiretest.TLS(b)
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(serverTLS)), grpc.ForceServerCodecV2(bareCodec{}), grpc.InitialWindowSize(clientWindow), grpc.InitialConnWindowSize(clientWindow))
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "bare", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{StreamName: "put", ClientStreams: true,
		Handler: func(_ any, st grpc.ServerStream) error {
			for {
				if err := st.RecvMsg(nil); err == io.EOF {
					return st.SendMsg([]byte{1})
				} else if err != nil {
					return err
				}
			}
		}}}}, nil)
	conn, err := grpc.NewClient("passthrough:///"+listen(b, s.Serve, s.Stop), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		Certificates: clientTLS.Certificates, InsecureSkipVerify: true})), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bareCodec{})),
		grpc.WithInitialWindowSize(clientWindow), grpc.WithInitialConnWindowSize(clientWindow))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	p := make([]byte, wire.DataSize)
	b.SetBytes(sinkSize)
	for b.Loop() {
		st, err := conn.NewStream(b.Context(), &grpc.StreamDesc{ClientStreams: true}, "/bare/put")
		if err != nil {
			b.Fatal(err)
		}
		for range sinkSize / wire.DataSize {
			if err := st.SendMsg(p); err != nil {
				b.Fatal(err)
			}
		}
		if err := st.CloseSend(); err != nil {
			b.Fatal(err)
		}
		if err := st.RecvMsg(nil); err != nil {
			b.Fatal(err)
		}
	}
}
