package httppeer

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"stasis/peer/host"
	"stasis/peer/identity"
	"stasis/peer/wire"
	"stasis/store"
	"stasis/store/booking"
	"stasis/store/directory"
	"stasis/store/ledger"
	"stasis/store/storetest"
)

// hosted is a client of a real host over a directory, invited and not yet fenced.
func hosted(t testing.TB, capacity int64, clock booking.Clock) *Client {
	t.Helper()
	dir, keeper := t.TempDir(), store.OwnerID{1}
	var closers []func() error
	t.Cleanup(func() {
		for i := len(closers) - 1; i >= 0; i-- {
			if err := closers[i](); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	db, err := ledger.Open(filepath.Join(dir, "ledger"), ledger.Small())
	must(err)
	closers = append(closers, db.Close)
	root := filepath.Join(dir, "node")
	_, err = directory.Create(root, keeper, capacity, directory.Options{})
	must(err)
	s, err := directory.Open(t.Context(), root, store.NodeID{}, keeper, directory.Options{Clock: clock})
	must(err)
	closers = append(closers, s.Close)
	h, err := host.Open(t.Context(), host.Options{Ledger: db, Store: s, Spool: filepath.Join(dir, "spool"), Clock: clock})
	must(err)
	closers = append(closers, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		return h.Close(ctx)
	})
	vault, peer := identity.New(), identity.New()
	serverTLS, err := peer.ServerTLS()
	must(err)
	clientTLS, err := vault.ClientTLS(peer.Fingerprint())
	must(err)
	server := NewServer(Options{Service: h, TLS: serverTLS, Fingerprint: identity.FingerprintOf, Log: quiet()})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	closers = append(closers, func() error {
		server.Close()
		return <-served
	})
	c, err := Dial(ClientOptions{Address: l.Addr().String(), TLS: clientTLS, SignDiscard: vault.SignDiscard, Log: quiet()})
	must(err)
	closers = append(closers, c.Close)
	if _, err := c.Status(t.Context()); !errors.Is(err, store.Denied) {
		t.Fatalf("before the invite: %v", err)
	}
	secret, _, err := h.Invite(t.Context(), 0, 0)
	must(err)
	_, err = c.Redeem(t.Context(), wire.Redeem{Secret: secret[:], Owner: vault.Owner(), Name: "test", Signature: vault.SignRedeem(secret[:], vault.Fingerprint())})
	must(err)
	return c
}

// With a real host behind it the client is a store as any other.
func TestHostedStore(t *testing.T) {
	storetest.Run(t, storetest.Factory{New: func(t testing.TB, o storetest.Options) *storetest.Instance {
		return &storetest.Instance{OneHolder: true, Store: hosted(t, o.Capacity, o.Clock)}
	}})
}

// What is given up and what is only broken a real host tells apart too.
func TestHostedUploads(t *testing.T) {
	c := hosted(t, 256<<20, booking.System)
	if err := c.Fence(t.Context(), nil, store.NewToken(), true); err != nil {
		t.Fatal(err)
	}
	testGivenUpOrBroken(t, c)
}
