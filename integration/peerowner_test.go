package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"stasis/integration/harness"
	"stasis/peer/grpcpeer"
	"stasis/peer/httppeer"
	"stasis/peer/identity"
	"stasis/peer/invite"
	"stasis/peer/wire"
	"stasis/store"
)

// callLimit bounds one call to a peer of these tests.
const callLimit = 30 * time.Second

// remote is a peer as a vault uses it.
type remote interface {
	store.Store
	store.Batcher
	store.Fencer
	Redeem(ctx context.Context, r wire.Redeem) (wire.Redeemed, error)
}

// owner is a vault without a mount, for what no mount does on request.
type owner struct {
	remote
	id     identity.Identity
	tokens []store.Token
}

// dial makes a client of a peer that nobody has invited yet.
func dial(id identity.Identity, p *harness.Peer, protocol string) (*owner, error) {
	tls, err := id.ClientTLS(p.Fingerprint)
	if err != nil {
		return nil, err
	}
	var r remote
	if protocol == "grpc" {
		r, err = grpcpeer.Dial(grpcpeer.ClientOptions{Address: p.GRPC, TLS: tls, SignDiscard: id.SignDiscard})
	} else {
		r, err = httppeer.Dial(httppeer.ClientOptions{Address: p.HTTP, TLS: tls, SignDiscard: id.SignDiscard})
	}
	return &owner{remote: r, id: id}, err
}

// dialAs is dial for as long as the test runs.
func dialAs(t *testing.T, id identity.Identity, p *harness.Peer, protocol string) *owner {
	t.Helper()
	o, err := dial(id, p, protocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

// newOwner makes a client that the peer knows and has admitted.
func newOwner(t *testing.T, p *harness.Peer, protocol string, flags ...string) *owner {
	t.Helper()
	o := dialAs(t, identity.New(), p, protocol)
	if err := o.redeem(p.Invite(flags...)); err != nil {
		t.Fatal(err)
	}
	if err := o.admit(); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *owner) redeem(text string) error {
	in, err := invite.Parse(text)
	if err != nil {
		return err
	}
	ctx, cancel := bounded()
	defer cancel()
	_, err = o.Redeem(ctx, wire.Redeem{Secret: in.Secret[:], Owner: o.id.Owner(), Name: "a test", Signature: o.id.SignRedeem(in.Secret[:], o.id.Fingerprint())})
	return err
}

// admit shows the peer that this is the mount that used it last.
func (o *owner) admit() error {
	ctx, cancel := bounded()
	defer cancel()
	next := store.NewToken()
	err := o.Fence(ctx, o.tokens, next, false)
	o.tokens = append(o.tokens, next) // it may have arrived, whatever the answer
	return err
}

func bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), callLimit)
}

// content is the source of a crate.
type content []byte

// OpenAt is store.Source's.
func (c content) OpenAt(_ context.Context, offset int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(c[offset:])), nil
}

// put asks for one crate to be kept; its bytes follow from a number.
func (o *owner) put(r store.ReservationID, id store.CrateID, number uint64, size int) error {
	ctx, cancel := bounded()
	defer cancel()
	_, err := o.Put(ctx, putRequest(r, id, number, size))
	return err
}

func putRequest(r store.ReservationID, id store.CrateID, number uint64, size int) store.PutRequest {
	c := harness.Bytes(number, size)
	var h store.Hasher
	_, _ = h.Write(c) // it keeps no more than digests
	root := h.Sums().Root()
	return store.PutRequest{Reservation: r, Crate: id, Size: int64(size), Source: content(c), Expect: &root}
}

// has checks a crate, by reading it.
func (o *owner) has(id store.CrateID, number uint64, size int) error {
	ctx, cancel := bounded()
	defer cancel()
	r, err := o.Open(ctx, id, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(got, harness.Bytes(number, size)) {
		err = fmt.Errorf("crate %s has other bytes than those that were put", id)
	}
	return err
}

func (o *owner) discard(id store.CrateID) error {
	ctx, cancel := bounded()
	defer cancel()
	return o.Discard(ctx, store.DiscardRequest{Crate: id, Holder: o.id.Owner()})
}

func (o *owner) reserve(id store.ReservationID, size int64, lease time.Duration) error {
	ctx, cancel := bounded()
	defer cancel()
	_, err := o.Reserve(ctx, store.ReserveRequest{ID: id, Holder: o.id.Owner(), Bytes: size, Lease: lease})
	return err
}

// list gives the ids of all crates.
func (o *owner) list() (map[store.CrateID]bool, error) {
	ctx, cancel := bounded()
	defer cancel()
	all := map[store.CrateID]bool{}
	for cursor := []byte(nil); ; {
		p, err := o.List(ctx, cursor)
		if err != nil {
			return nil, err
		}
		for _, c := range p.Crates {
			all[c.ID] = true
		}
		if cursor = p.Next; cursor == nil {
			return all, nil
		}
	}
}

func (o *owner) status() (store.Status, error) {
	ctx, cancel := bounded()
	defer cancel()
	return o.Status(ctx)
}
