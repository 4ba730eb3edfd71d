package httppeer

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stasis/peer/host"
	"stasis/peer/identity"
	"stasis/peer/wire"
	"stasis/store"
	"stasis/store/container"
	"stasis/store/ledger"
	"stasis/store/storetest"
)

// idle is the source of senders who begin and then send nothing. It counts them.
type idle struct{ begun atomic.Int64 }

func (s *idle) OpenAt(ctx context.Context, _ int64) (io.ReadCloser, error) {
	source, _ := storetest.StallingSource(nil, 0)
	s.begun.Add(1)
	return source.OpenAt(ctx, 0)
}

// Over connections, too, one vault's uploads that send nothing don't keep another's crates out of
// a container that all of them go to as they come.
func TestIdleUploadsKeepNobodyOut(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, keeper := t.TempDir(), store.OwnerID{1}
	_, err := container.Create(filepath.Join(dir, "c"), keeper, 1<<30, container.Options{})
	must(err)
	st, err := container.Open(t.Context(), filepath.Join(dir, "c"), store.NodeID{}, keeper, container.Options{})
	must(err)
	db, err := ledger.Open(filepath.Join(dir, "ledger"), ledger.Small())
	must(err)
	h, err := host.Open(t.Context(), host.Options{Ledger: db, Store: st})
	must(err)
	peer := identity.New()
	serverTLS, err := peer.ServerTLS()
	must(err)
	server := NewServer(Options{Service: h, TLS: serverTLS, Fingerprint: identity.FingerprintOf, Log: quiet()})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := errors.Join(<-served, h.Close(ctx), st.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	vault := func(bytes int64) (*Client, store.ReservationID) {
		id := identity.New()
		clientTLS, err := id.ClientTLS(peer.Fingerprint())
		must(err)
		c, err := Dial(ClientOptions{Address: l.Addr().String(), TLS: clientTLS, SignDiscard: id.SignDiscard, Log: quiet()})
		must(err)
		t.Cleanup(func() { _ = c.Close() })
		secret, _, err := h.Invite(t.Context(), 0, 0)
		must(err)
		_, err = c.Redeem(t.Context(), wire.Redeem{Secret: secret[:], Owner: id.Owner(), Name: "test", Signature: id.SignRedeem(secret[:], id.Fingerprint())})
		must(err)
		must(c.Fence(t.Context(), nil, store.NewToken(), true))
		r := store.NewReservationID()
		_, err = c.Reserve(t.Context(), store.ReserveRequest{ID: r, Bytes: bytes, Lease: time.Hour})
		must(err)
		return c, r
	}
	eve, eves := vault(256 << 20)
	bob, bobs := vault(16 << 20)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	var sent idle
	for range 48 {
		all.Go(func() {
			_, _ = eve.Put(ctx, store.PutRequest{Reservation: eves, Crate: store.NewCrateID(), Size: 2 << 20, Source: &sent})
		})
	}
	for deadline := time.Now().Add(20 * time.Second); sent.begun.Load() < 32 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	within, done := context.WithTimeout(t.Context(), 20*time.Second)
	defer done()
	if _, err := bob.Put(within, storetest.NewGen(1).Crate(5000).Put(bobs)); err != nil {
		t.Errorf("beside %d uploads that send nothing: %v", sent.begun.Load(), err)
	}
}
