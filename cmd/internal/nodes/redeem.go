package nodes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/peer/identity"
	"stasis/peer/invite"
	"stasis/peer/wire"
	"stasis/store"
)

const (
	// redeemLimit bounds the redeeming of an invite at one address.
	redeemLimit = 20 * time.Second
	// maxCalled is the longest name under which somebody makes itself known to a peer, in
	// bytes.
	maxCalled = 200
)

// Called is what a peer's person sees of whoever redeems an invite: this machine, and a path
// on it.
func Called(at string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	name := host + ":" + at
	return name[:min(len(name), maxCalled)]
}

// Redeem redeems an invite in the name of an identity, which the peer's person sees as called,
// and completes the node: its protocol, the address that answered, the fingerprint. others are
// the nodes there are. It gives the peer's leaf, and the quota in bytes.
func Redeem(ctx context.Context, n config.Node, a api.NodeAddArgs, others []config.Node, called string, own identity.Identity, log logrus.FieldLogger) (config.Node, store.NodeID, int64, error) {
	var leaf store.NodeID
	in, err := invite.Parse(a.Invite)
	if err != nil {
		return n, leaf, 0, err
	}
	for _, o := range others {
		if o.Peer == in.Fingerprint {
			return n, leaf, 0, samePeer(n.Name, o)
		}
	}
	var addresses []string
	if n.Kind, addresses, err = protocol(in, a.Protocol); err != nil {
		return n, leaf, 0, err
	}
	n.Peer = in.Fingerprint
	var errs []error
	for _, n.Address = range addresses {
		r, err := redeemAt(ctx, n, in, called, own, log)
		if err == nil {
			return n, r.Leaf, r.Quota, nil
		}
		errs = append(errs, err)
		if errors.Is(err, store.Denied) && refusedInvite(err) {
			break // the peer has answered
		}
	}
	err = errors.Join(errs...)
	if time.Now().After(in.Expires) {
		err = fmt.Errorf("%w; the invite ended %s", err, in.Expires.Local().Format("2006-01-02 15:04"))
	}
	return n, leaf, 0, err
}

// protocol chooses what is spoken with a peer, and gives the addresses for that.
func protocol(in invite.Invite, wanted string) (kind string, addresses []string, err error) {
	switch wanted {
	case "":
		if len(in.GRPC) == 0 {
			return config.KindHTTP, in.HTTP, nil
		}
		return config.KindGRPC, in.GRPC, nil
	case config.KindGRPC:
		kind, addresses = wanted, in.GRPC
	case config.KindHTTP:
		kind, addresses = wanted, in.HTTP
	default:
		return "", nil, &store.Error{Kind: store.Invalid, Op: "add node", Detail: fmt.Sprintf("the protocol %q is neither grpc nor http", wanted)}
	}
	if len(addresses) == 0 {
		return "", nil, &store.Error{Kind: store.Invalid, Op: "add node", Detail: "the invite has no address for " + wanted, Hint: "leave --protocol out"}
	}
	return kind, addresses, nil
}

func redeemAt(ctx context.Context, n config.Node, in invite.Invite, called string, own identity.Identity, log logrus.FieldLogger) (wire.Redeemed, error) {
	ctx, cancel := context.WithTimeout(ctx, redeemLimit)
	defer cancel()
	p, err := Dial(n, own, log)
	if err != nil {
		return wire.Redeemed{}, err
	}
	defer p.Close() // there is nothing under way
	r, err := p.Redeem(ctx, wire.Redeem{
		Secret: in.Secret[:], Owner: own.Owner(), Name: called,
		Signature: own.SignRedeem(in.Secret[:], own.Fingerprint()),
	})
	var e *store.Error
	if errors.As(err, &e) && e.Kind == store.Unavailable && e.Hint == "" {
		e.Hint = "see that stasis-peer runs there and that this machine may reach it"
	}
	return r, err
}

// refusedInvite tells the peer's own refusal from that of a connection with somebody
// else: another address may lead to the peer.
func refusedInvite(err error) bool {
	var e *store.Error
	return errors.As(err, &e) && strings.HasPrefix(e.Op, "redeem")
}

func samePeer(name string, o config.Node) error {
	return &store.Error{Kind: store.Conflict, Op: "add node", Subject: fmt.Sprintf("%q", name),
		Detail: fmt.Sprintf("node %q is that peer already, at %s", o.Name, o.Address), Hint: "a second way to one place is no second copy; if the peer has moved, change its address in the settings"}
}
