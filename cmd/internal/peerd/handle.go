package peerd

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/control"
	"stasis/peer/host"
	"stasis/peer/invite"
	"stasis/store"
)

// Handle answers one request; package api says what each takes and gives.
func (p *Peer) Handle(ctx context.Context, op string, args json.RawMessage, progress control.Progress) (any, error) {
	switch op {
	case api.OpStatus:
		return p.status(ctx)
	case api.OpCheck:
		return control.With(op, args, func(a api.CheckArgs) (any, error) { return p.check(ctx, a, progress) })
	case api.OpInvite:
		return control.With(op, args, func(a api.InviteArgs) (any, error) { return p.invite(ctx, a) })
	case api.OpNodeAdd:
		return control.With(op, args, func(a api.NodeAddArgs) (any, error) { return p.nodeAdd(ctx, a) })
	case api.OpNodeRemove:
		return control.With(op, args, func(a api.NodeRemoveArgs) (any, error) { return p.nodeRemove(ctx, a) })
	case api.OpOwners:
		return p.owners(ctx)
	case api.OpRevoke:
		return control.With(op, args, func(a api.RevokeArgs) (any, error) { return p.revoke(ctx, a) })
	}
	return nil, &store.Error{Kind: store.Invalid, Op: op, Detail: "this daemon does not know the request", Hint: "it is of another release than the command; start it again"}
}

func (p *Peer) running() bool { return len(p.servers) > 0 }

// invite makes an invite. It needs no node, and no running peer.
func (p *Peer) invite(ctx context.Context, a api.InviteArgs) (any, error) {
	if a.Quota < 0 || a.Quota > 0 && a.Quota < MinQuota {
		return nil, cantInvite(fmt.Sprintf("a quota of %s is too little", config.FormatSize(a.Quota)), "the least is "+config.FormatSize(MinQuota))
	}
	in := invite.Invite{Fingerprint: p.Fingerprint()}
	// The addresses first: an invite that nobody can use is not to be kept.
	if err := addresses(&in, a.Addresses, p.served()); err != nil {
		return nil, err
	}
	var err error
	if h := p.keeper.gate.get(); h != nil {
		in.Secret, in.Expires, err = h.Invite(ctx, a.Quota, a.Lifetime)
	} else {
		in.Secret, in.Expires, err = host.NewInvite(ctx, p.ledger, a.Quota, a.Lifetime, time.Now())
	}
	if err != nil {
		return nil, err
	}
	text, err := in.Text()
	if err != nil {
		return nil, err
	}
	p.log.WithField("expires", in.Expires).Info("an invite was made")
	return api.InviteResult{Invite: text, Expires: in.Expires, OnlyHere: onlyHere(in), Running: p.running()}, nil
}

func (p *Peer) owners(ctx context.Context) ([]api.Owner, error) {
	list := func() ([]host.Owner, error) { return host.ListOwners(p.ledger) }
	if h := p.keeper.gate.get(); h != nil {
		list = func() ([]host.Owner, error) { return h.Owners(ctx) }
	}
	all, err := list()
	if err != nil {
		return nil, err
	}
	out := []api.Owner{}
	for _, o := range all {
		out = append(out, api.Owner{ID: o.ID.String(), Name: o.Name, Quota: o.Quota, Used: o.Used, Reserved: o.Reserved,
			Crates: o.Crates, Since: o.Since, Revoked: o.Revoked})
	}
	return out, nil
}

func (p *Peer) revoke(ctx context.Context, a api.RevokeArgs) (any, error) {
	all, err := p.owners(ctx)
	if err != nil {
		return nil, err
	}
	o, err := pick(all, a.Owner)
	if err != nil {
		return nil, err
	}
	var id store.OwnerID
	if err := id.UnmarshalText([]byte(o.ID)); err != nil {
		return nil, err
	}
	h := p.keeper.gate.get()
	if h == nil {
		if h, err = p.revokeAway(ctx, id); err != nil {
			return nil, err
		}
	}
	if h != nil {
		if err := h.Revoke(ctx, id); err != nil {
			return nil, err
		}
	}
	o.Revoked = true
	r := api.RevokeResult{Owner: o}
	if a.Discard && h == nil {
		return nil, &store.Error{Kind: store.Unavailable, Op: "discard the crates of owner", Subject: o.Name,
			Detail: "it is revoked, but the peer's store is not open", Hint: "say it again while the peer runs"}
	}
	if a.Discard {
		n, err := h.Forget(ctx, id)
		if err != nil {
			return nil, err
		}
		r.Discarded = int64(n)
	}
	return r, nil
}

// revokeAway revokes an owner while there is no host; it returns the one that has to be told, if
// there is one by now.
func (p *Peer) revokeAway(ctx context.Context, id store.OwnerID) (*host.Host, error) {
	if err := host.RevokeOwner(ctx, p.ledger, id); err != nil {
		return nil, err
	}
	all, err := host.ListOwners(p.ledger)
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		if o.ID == id {
			return p.keeper.gate.shut(o.Fingerprint, id), nil
		}
	}
	return nil, nil
}

// pick finds the owner that a person means: by its id, at least the first letters, or by
// its name.
func pick(all []api.Owner, word string) (api.Owner, error) {
	var found []api.Owner
	for _, o := range all {
		if o.ID == strings.ToLower(word) {
			return o, nil
		}
		if o.Name == word || len(word) >= minPrefix && strings.HasPrefix(o.ID, strings.ToLower(word)) {
			found = append(found, o)
		}
	}
	e := &store.Error{Kind: store.NotFound, Op: "find owner", Subject: fmt.Sprintf("%q", word), Hint: "`stasis peer list` names them"}
	switch len(found) {
	case 0:
		return api.Owner{}, e
	case 1:
		return found[0], nil
	}
	e.Kind, e.Detail, e.Hint = store.Conflict, fmt.Sprintf("%d owners are meant", len(found)), "say it by the id that `stasis peer list` shows"
	return api.Owner{}, e
}
