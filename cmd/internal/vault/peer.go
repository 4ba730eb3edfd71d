package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/nodes"
	"stasis/peer/invite"
	"stasis/peer/wire"
	"stasis/store"
)

// redeem redeems an invite in the vault's name and completes the node: its protocol, the
// address that answered, the fingerprint.
func (v *Vault) redeem(ctx context.Context, n config.Node, a api.NodeAddArgs) (config.Node, store.NodeID, int64, error) {
	var leaf store.NodeID
	in, err := invite.Parse(a.Invite)
	if err != nil {
		return n, leaf, 0, err
	}
	for _, o := range v.settings.Load().Nodes {
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
		r, err := v.redeemAt(ctx, n, in)
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

func (v *Vault) redeemAt(ctx context.Context, n config.Node, in invite.Invite) (wire.Redeemed, error) {
	ctx, cancel := context.WithTimeout(ctx, redeemLimit)
	defer cancel()
	p, err := nodes.Dial(n, v.identity, v.log)
	if err != nil {
		return wire.Redeemed{}, err
	}
	defer p.Close() // there is nothing under way
	r, err := p.Redeem(ctx, wire.Redeem{
		Secret: in.Secret[:], Owner: v.identity.Owner(), Name: v.called(),
		Signature: v.identity.SignRedeem(in.Secret[:], v.identity.Fingerprint()),
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

// called is what the peer's person sees of this vault: machine and mountpoint.
func (v *Vault) called() string {
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	at := v.o.Mountpoint
	if at == "" {
		at = v.o.State
	}
	name := host + ":" + at
	return name[:min(len(name), maxCalled)]
}

func samePeer(name string, o config.Node) error {
	return &store.Error{Kind: store.Conflict, Op: "add node", Subject: fmt.Sprintf("%q", name),
		Detail: fmt.Sprintf("node %q is that peer already, at %s", o.Name, o.Address), Hint: "a second way to one place is no second copy; if the peer has moved, change its address in vault.toml"}
}
