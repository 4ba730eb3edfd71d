package nodes

import (
	"context"
	"fmt"

	"github.com/sirupsen/logrus"

	"stasis/cmd/internal/config"
	"stasis/peer/grpcpeer"
	"stasis/peer/httppeer"
	"stasis/peer/identity"
	"stasis/peer/wire"
	"stasis/store"
)

// Peer is a store on another machine.
type Peer interface {
	store.Store
	store.Batcher
	store.Fencer
	// Events gives what the peer says unasked, as store.Teller's.
	Events(ctx context.Context, after wire.Cursor, give func(wire.Event) error) error
	// Redeem turns an invite into the right to use the peer.
	Redeem(ctx context.Context, r wire.Redeem) (wire.Redeemed, error)
}

// Dial gives the peer that a node names, of which kind, address and fingerprint count. It
// talks to nobody yet.
func Dial(n config.Node, own identity.Identity, log logrus.FieldLogger) (Peer, error) {
	tls, err := own.ClientTLS(n.Peer)
	if err != nil {
		return nil, err
	}
	switch n.Kind {
	case config.KindGRPC:
		return grpcpeer.Dial(grpcpeer.ClientOptions{Address: n.Address, TLS: tls, SignDiscard: own.SignDiscard, Log: log})
	case config.KindHTTP:
		return httppeer.Dial(httppeer.ClientOptions{Address: n.Address, TLS: tls, SignDiscard: own.SignDiscard, Log: log})
	}
	return nil, &store.Error{Kind: store.Invalid, Op: "dial node", Subject: fmt.Sprintf("%q", n.Name), Detail: "it is not a peer"}
}

// openPeer is Open for a peer: one that answers, and has the leaf that is wanted.
func openPeer(ctx context.Context, n config.Node, want store.NodeID, own identity.Identity, log logrus.FieldLogger) (Peer, error) {
	p, err := Dial(n, own, log)
	if err != nil {
		return nil, err
	}
	s, err := p.Status(ctx)
	if err == nil && !want.IsZero() && s.Leaf != want {
		err = &store.Error{Kind: store.Conflict, Op: "open the peer", Subject: "at " + n.Address,
			Detail: "it keeps its crates on another store than before", Hint: "give that one back to it, or add the peer again under another name"}
	}
	if err != nil {
		_ = p.Close() // nothing is under way
		return nil, err
	}
	return p, nil
}
