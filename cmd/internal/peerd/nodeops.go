package peerd

import (
	"context"
	"fmt"
	"path/filepath"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/nodes"
	"stasis/store"
)

func (p *Peer) settingsPath() string { return filepath.Join(p.o.State, config.PeerFileName) }

// nodeAdd adds a node: its store, where there is none yet, then to peer.toml, then to what
// the peer has open. One that was served alone becomes one of several.
func (p *Peer) nodeAdd(ctx context.Context, a api.NodeAddArgs) (any, error) {
	p.editing.Lock()
	defer p.editing.Unlock()
	old := p.settings.Load()
	n := config.Node{Name: a.Name, Kind: a.Kind, Path: a.Path, Capacity: a.Capacity, Zone: a.Zone, Rate: a.Rate}
	r := api.NodeAddResult{Warnings: []string{}}
	if err := nodes.FreeName(old, a.Name); err != nil {
		return nil, err
	}
	if a.Kind == api.KindPeer {
		var err error
		var id store.NodeID
		if n, id, r.Quota, err = nodes.Redeem(ctx, n, a, old.Nodes, nodes.Called(p.o.State), p.identity, p.log); err != nil {
			return nil, err
		}
		if id == p.leaf {
			return nil, &store.Error{Kind: store.Conflict, Op: "add node", Subject: fmt.Sprintf("%q", n.Name), Detail: "it is this peer itself"}
		}
		r.Address, r.ID = n.Address, id.String()
	}
	c, err := nodes.With(old, n, p.settingsPath(), config.ParsePeer)
	if err == nil {
		err = p.checkPlaces(c)
	}
	if err != nil {
		return nil, err
	}
	if n.Path != "" {
		id, known, err := nodes.Initialise(n, p.identity.Owner())
		if err != nil {
			return nil, err
		}
		r.ID, r.Known = id.String(), known
	}
	_, err = config.Edit(p.settingsPath(), func(text []byte) ([]byte, error) { return config.AddNode(p.settingsPath(), text, n) },
		func(c *config.Config) { c.Nodes = append(c.Nodes, n) })
	if err != nil {
		return nil, err
	}
	if err := p.Reload(); err != nil {
		return nil, err
	}
	if p.running() {
		// The vaults should find the peer open again once this is said to be done.
		if err := p.keeper.look(ctx); err != nil {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the node is listed, but the peer's nodes are away at this moment: %v", err))
		}
	}
	if d := p.keeper.depot(); d != nil {
		for _, s := range d.Router().StatusNear(ctx) {
			if s.Name == n.Name && s.Warning != "" {
				r.Warnings = append(r.Warnings, s.Warning)
			}
		}
	}
	r.Copies = c.Copies
	for _, o := range c.Nodes {
		if o.Durable() {
			r.Durable++
		}
	}
	return r, nil
}

// nodeRemove removes a node from the router, which may refuse, then from peer.toml.
func (p *Peer) nodeRemove(ctx context.Context, a api.NodeRemoveArgs) (any, error) {
	p.editing.Lock()
	defer p.editing.Unlock()
	c := p.settings.Load()
	n, listed := c.Node(a.Name)
	e := &store.Error{Kind: store.Unavailable, Op: "remove node", Subject: fmt.Sprintf("%q", a.Name)}
	switch {
	case listed && len(c.Nodes) == 1:
		e.Kind, e.Detail, e.Hint = store.Invalid, "it is the peer's only node", "add another one first"
		return nil, e
	case !p.running():
		e.Detail, e.Hint = "the peer does not run", "start it, so that what lies there can be looked at"
		return nil, e
	}
	d := p.keeper.depot()
	if d == nil {
		e.Detail, e.Err = "the peer's nodes are not open", p.keeper.state().Err
		return nil, e
	}
	m, err := d.Router().RemoveNode(ctx, a.Name, a.Force, a.DryRun)
	if err != nil {
		return nil, err
	}
	if listed && m.Removed {
		if err := p.unlist(n.Name); err != nil {
			return nil, fmt.Errorf("node %q is removed, but peer.toml still has it: %w", a.Name, err)
		}
	}
	return api.NodeRemoveResult{
		Removed: m.Removed, Crates: m.Crates, Bytes: m.Bytes, Below: m.Below, Only: m.Only, Unsent: m.Queued, Refusing: m.Refused,
	}, nil
}

// unlist takes a node out of peer.toml. Called with editing held.
func (p *Peer) unlist(name string) error {
	drop := func(c *config.Config) {
		var left []config.Node
		for _, o := range c.Nodes {
			if o.Name != name {
				left = append(left, o)
			}
		}
		c.Nodes = left
	}
	path := p.settingsPath()
	if _, err := config.Edit(path, func(text []byte) ([]byte, error) { return config.RemoveNode(path, text, name) }, drop); err != nil {
		return err
	}
	return p.Reload()
}
