package httppeer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"stasis/peer/wire"
	"stasis/store"
	"stasis/store/memory"
	"stasis/store/storetest"
)

// A source that fails makes the peer forget the upload; a sender that goes away, in the
// middle of a request, does not.
func TestGivenUpOrBroken(t *testing.T) {
	testGivenUpOrBroken(t, newRig(t, newMemory(t, memory.Options{}, 256<<20), nil).client)
}

func testGivenUpOrBroken(t *testing.T, c *Client) {
	p := pattern(10<<20 + 5)
	var h store.Hasher
	_, _ = h.Write(p) // never fails
	root := h.Sums().Root()
	id := reserveFor(t, c, 64<<20)
	put := store.PutRequest{Reservation: id, Crate: store.NewCrateID(), Size: int64(len(p)), Expect: &root}
	stands := func() int64 {
		t.Helper()
		at, err := c.standing(t.Context(), put)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	interrupted := func() {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		q := put
		src, stalled := storetest.StallingSource(p, 5<<20+3)
		q.Source = src
		go func() {
			<-stalled
			cancel()
		}()
		if _, err := c.Put(ctx, q); !errors.Is(err, store.Unavailable) {
			t.Fatalf("cancelled: %v", err)
		}
		if at := stands(); at == 0 || at > 5<<20 {
			t.Errorf("a cancelled put left an upload at %d", at)
		}
	}
	interrupted()
	for name, src := range map[string]store.Source{
		"breaks": storetest.BreakingSource(p, 7<<20), "breaks at the end": storetest.BreakingSource(p, int64(len(p))), "can't be opened": storetest.UnopenableSource(),
		"short": bytesSource(p[:len(p)-1]), "long": bytesSource(append(bytes.Clone(p), 1)),
	} {
		q := put
		q.Source = src
		if _, err := c.Put(t.Context(), q); err == nil {
			t.Errorf("%s: no error", name)
		}
		if at := stands(); at != 0 {
			t.Errorf("%s: the upload stands at %d", name, at)
		}
		interrupted()
	}
	c.giveUp(t.Context(), put)
	if at := stands(); at != 0 {
		t.Errorf("given up, the upload stands at %d", at)
	}
	put.Source = bytesSource(p)
	if _, err := c.Put(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	c.giveUp(t.Context(), put)
	if at := stands(); at != put.Size {
		t.Errorf("of a crate that is there the upload stands at %d", at)
	}
}

// late fails puts whose bytes have all come.
type late struct {
	store.Store
	mu       sync.Mutex
	failures int
}

func (l *late) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	l.mu.Lock()
	fail := l.failures > 0
	l.failures--
	l.mu.Unlock()
	if !fail {
		return l.Store.Put(ctx, r)
	}
	rc, err := r.Source.OpenAt(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	if _, err := io.Copy(io.Discard, rc); err != nil {
		return nil, err
	}
	return nil, &store.Error{Kind: store.Unavailable, Op: "put crate", Detail: "the disk sulks"}
}

// Where all bytes have come and only the end went wrong, no byte is sent again; and a source
// that has too many is found out all the same.
func TestNothingIsLeftToSend(t *testing.T) {
	s := &late{Store: newMemory(t, memory.Options{}, 256<<20), failures: 1}
	r := newRig(t, s, nil)
	got := 0
	r.service.Tap = func(n int) { got += n }
	p := pattern(4 << 20)
	put := store.PutRequest{Reservation: reserveFor(t, r.client, 64<<20), Crate: store.NewCrateID(), Size: int64(len(p)), Source: bytesSource(p), Expect: bytesSource(p).root()}
	if _, err := r.client.Put(t.Context(), put); err != nil || got != len(p) {
		t.Errorf("%d bytes came for %d: %v", got, len(p), err)
	}
	s.failures = attempts
	put.Crate = store.NewCrateID()
	if _, err := r.client.Put(t.Context(), put); !errors.Is(err, store.Unavailable) {
		t.Errorf("a disk that always sulks: %v", err)
	}
	put.Source = bytesSource(append(bytes.Clone(p), 1))
	if _, err := r.client.Put(t.Context(), put); !errors.Is(err, store.Corrupt) {
		t.Errorf("a byte too many: %v", err)
	}
	if at, err := r.client.standing(t.Context(), put); err != nil || at != 0 {
		t.Errorf("the upload stands at %d, %v", at, err)
	}
}

// fickle asks for bytes from elsewhere each time.
type fickle struct {
	sink
	offsets chan int64
}

func (f fickle) Session(string, store.Token) (wire.Session, error) { return f, nil }

func (f fickle) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	rc, err := r.Source.OpenAt(ctx, <-f.offsets)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	_, err = io.Copy(io.Discard, rc)
	return nil, err // no error, and no receipt either
}

// A peer that keeps naming other offsets, or impossible ones, gets no further; nor does one
// that takes everything and gives no receipt.
func TestFicklePeer(t *testing.T) {
	offsets := make(chan int64, 20)
	for i := range cap(offsets) {
		offsets <- []int64{3 << 20, 1 << 20, 77, 0, 1 << 50}[i%5]
	}
	_, c := serveAny(t, Options{Service: fickle{offsets: offsets}}, nil)
	for len(offsets) > 10 {
		if _, err := c.Put(t.Context(), store.PutRequest{Crate: store.NewCrateID(), Size: 5 << 20, Source: zeroSource(5 << 20)}); err == nil {
			t.Fatal("no error")
		}
	}
}

// rotten fails to read from the middle on.
type rotten struct{ sink }

func (s rotten) Session(string, store.Token) (wire.Session, error) { return s, nil }

func (rotten) Open(_ context.Context, _ store.CrateID, _, length int64) (io.ReadCloser, error) {
	rot := readFunc(func([]byte) (int, error) {
		return 0, &store.Error{Kind: store.Corrupt, Op: "read the crate", Detail: "block 7 ödet \U0001f4a5\nvor sich hin"}
	})
	return io.NopCloser(io.MultiReader(io.LimitReader(zeros{}, min(length/2, 10<<20)), rot)), nil
}

// What goes wrong in the middle of an answer has its kind and its words, as far as they can be shown, and nobody takes the
// answer for whole.
func TestErrorAmidAnAnswer(t *testing.T) {
	_, c := serveAny(t, Options{Service: rotten{}}, nil)
	for _, length := range []int64{-1, 20 << 20, 100, 1} {
		rc, err := c.Open(t.Context(), store.NewCrateID(), 0, length)
		if err == nil {
			_, err = io.Copy(io.Discard, rc)
			rc.Close()
		}
		var e *store.Error
		if !errors.Is(err, store.Corrupt) || !errors.As(err, &e) || e.Detail != "block 7 ödet \U0001f4a5\uFFFDvor sich hin" {
			t.Errorf("%d bytes: %v", length, err)
		}
	}
}

// Readers that are closed early, or after the last byte, leave nothing behind that keeps
// others from their connections.
func TestReadersGiveConnectionsBack(t *testing.T) {
	var h *hop
	_, c := serveAny(t, Options{Service: sink{}}, func(l net.Listener) string {
		h = newHop(t, l.Addr().String())
		return h.l.Addr().String()
	})
	for range 200 {
		rc, err := c.Open(t.Context(), store.NewCrateID(), 5, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(rc, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		if err := rc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	h.mu.Lock()
	n := len(h.conns) / 2
	h.mu.Unlock()
	if n > 2 {
		t.Errorf("%d connections for 200 reads, one after another", n)
	}
	for range maxLinks + 5 {
		rc, err := c.Open(t.Context(), store.NewCrateID(), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if err := rc.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
