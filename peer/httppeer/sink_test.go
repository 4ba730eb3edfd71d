package httppeer

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"stasis/peer/wire"
	"stasis/peer/wiretest"
	"stasis/store"
)

// sink is a session that keeps nothing, so that a test sees the wire alone. It pauses, if it
// is to, in the middle of whatever it does.
type sink struct {
	view
	pause func(context.Context)
}

type view = wire.Session

const sinkSize = 256 << 20 // bytes; that of every crate

func (s sink) Session(string, store.Token) (wire.Session, error) { return s, nil }

func (s sink) rest(ctx context.Context) {
	if s.pause != nil {
		s.pause(ctx)
	}
}

func (s sink) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	rc, err := r.Source.OpenAt(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	buf := make([]byte, store.BlockSize)
	n, err := io.ReadFull(rc, buf[:min(r.Size, store.BlockSize)])
	if err != nil {
		return nil, err
	}
	s.rest(ctx)
	k, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, rc, buf)
	if k += int64(n); err != nil || k != r.Size {
		return nil, fmt.Errorf("%d of %d bytes: %w", k, r.Size, err)
	}
	return sinkReceipts(r.Size), nil
}

func sinkReceipts(size int64) []store.Receipt {
	return []store.Receipt{{Leaf: store.NodeID{1}, Time: time.Unix(1, 0), Sums: store.Checksums{Size: size, Blocks: make([]store.Digest, store.Blocks(size))}}}
}

func (s sink) PutBatch(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	s.rest(ctx)
	out := make([]store.PutResult, len(rs))
	for i, r := range rs {
		out[i].Receipts = sinkReceipts(r.Size)
	}
	return out
}

func (s sink) Stat(_ context.Context, id store.CrateID) (store.CrateInfo, error) {
	return store.CrateInfo{ID: id, Size: sinkSize}, nil
}

func (s sink) Status(ctx context.Context) (store.Status, error) {
	s.rest(ctx)
	return store.Status{Leaf: store.NodeID{1}}, nil
}

func (s sink) Verify(ctx context.Context, _ store.CrateID, _, _ int64, _ store.Digest) (store.Digest, error) {
	s.rest(ctx)
	return store.Digest{}, nil
}

func (s sink) Open(ctx context.Context, _ store.CrateID, _, length int64) (io.ReadCloser, error) {
	half := length / 2
	pause := readFunc(func([]byte) (int, error) {
		s.rest(ctx)
		return 0, io.EOF
	})
	return io.NopCloser(io.MultiReader(io.LimitReader(zeros{}, half), pause, io.LimitReader(zeros{}, length-half))), nil
}

func (s sink) Events(ctx context.Context, _ wire.Cursor, _ func(wire.Event) error) error {
	<-ctx.Done()
	return ctx.Err()
}

func (s sink) Redeem(context.Context, wire.Redeem, string) (wire.Redeemed, error) {
	return wire.Redeemed{}, nil
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// zeroSource gives size bytes.
type zeroSource int64

func (z zeroSource) OpenAt(_ context.Context, offset int64) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeros{}, int64(z)-offset)), nil
}

// serveAny serves a service to whoever comes.
func serveAny(t testing.TB, o Options, through func(net.Listener) string, change ...func(*Server)) (*Server, *Client) {
	t.Helper()
	serverTLS, clientTLS, _ := wiretest.TLS(t)
	o.TLS, o.Fingerprint, o.Log = serverTLS, wiretest.Fingerprint, quiet()
	s := NewServer(o)
	for _, c := range change {
		c(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		if err := s.Serve(l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		s.Close()
		done.Wait()
	})
	address := l.Addr().String()
	if through != nil {
		address = through(l)
	}
	c, err := Dial(ClientOptions{Address: address, TLS: clientTLS, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return s, c
}
