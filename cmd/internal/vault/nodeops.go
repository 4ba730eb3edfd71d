package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/nodes"
	"stasis/store"
)

// nodeAdd adds a node: its store, where there is none yet, then to the router, which
// refuses what can't be, then to vault.toml.
func (v *Vault) nodeAdd(ctx context.Context, a api.NodeAddArgs) (any, error) {
	v.editing.Lock()
	defer v.editing.Unlock()
	n := config.Node{Name: a.Name, Kind: a.Kind, Path: a.Path, Capacity: a.Capacity, Zone: a.Zone, Rate: a.Rate}
	r := api.NodeAddResult{Warnings: []string{}}
	var id store.NodeID
	if a.Kind == api.KindPeer {
		// An invite is good for one vault: what can be refused is refused before it is used.
		others := v.settings.Load()
		if err := nodes.FreeName(others, a.Name); err != nil {
			return nil, err
		}
		at := v.o.Mountpoint
		if at == "" {
			at = v.o.State
		}
		var err error
		if n, id, r.Quota, err = nodes.Redeem(ctx, n, a, others.Nodes, nodes.Called(at), v.identity, v.log); err != nil {
			return nil, err
		}
		r.Address = n.Address
	}
	c, err := v.withNode(v.settings.Load(), n)
	if err != nil {
		return nil, err
	}
	if err := v.checkPlaces(c); err != nil {
		return nil, err
	}
	r.Copies = c.Copies
	if n.Path != "" {
		if id, r.Known, err = nodes.Initialise(n, v.identity.Owner()); err != nil {
			return nil, err
		}
	}
	if err := v.join(ctx, n, id); err != nil {
		return nil, err
	}
	path := v.settingsPath()
	_, err = config.Edit(path, func(text []byte) ([]byte, error) { return config.AddNode(path, text, n) },
		func(c *config.Config) { c.Nodes = append(c.Nodes, n) })
	if err != nil {
		_, undo := v.router.RemoveNode(ctx, n.Name, true, false)
		return nil, errors.Join(err, undo)
	}
	v.settings.Store(c)
	for _, s := range v.router.Status(ctx) {
		if s.Durable && s.Configured {
			r.Durable++
		}
		if s.Name != n.Name {
			continue
		}
		r.ID = s.ID.String()
		if s.Warning != "" {
			r.Warnings = append(r.Warnings, s.Warning)
		}
	}
	return r, nil
}

// join adds a node to the router. One that was removed a moment ago may still be on its
// way out.
func (v *Vault) join(ctx context.Context, n config.Node, id store.NodeID) error {
	end := v.parted.Add(partWait)
	for {
		err := v.router.AddNode(ctx, v.spec(n), id)
		if !nodes.HeldElsewhere(n, id, err) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(partPoll):
		}
	}
}

// withNode is a configuration and one more node, checked as if it stood in the file.
func (v *Vault) withNode(c *config.Config, n config.Node) (*config.Config, error) {
	return nodes.With(c, n, v.settingsPath(), config.Parse)
}

// pause has nothing sent to a node, or to any.
func (v *Vault) pause(a api.PauseArgs) (any, error) {
	if a.For < 0 {
		return nil, &store.Error{Kind: store.Invalid, Op: "pause", Detail: "its time is negative"}
	}
	var r api.PauseResult
	if a.For > 0 {
		r.Until = time.Now().Add(a.For)
	}
	return r, v.router.Pause(a.Node, r.Until)
}

// nodeRemove removes a node from the router, which may refuse, then from vault.toml. After
// a crash in between the node is there again, with the crates it has: nothing was said to
// be done.
func (v *Vault) nodeRemove(ctx context.Context, a api.NodeRemoveArgs) (any, error) {
	v.editing.Lock()
	defer v.editing.Unlock()
	m, err := v.router.RemoveNode(ctx, a.Name, a.Force, a.DryRun)
	if err != nil {
		return nil, err
	}
	if m.Removed {
		v.parted = time.Now()
	}
	if m.Removed && m.Crates > 0 {
		if err := v.fsys.NodeRemoved(); err != nil {
			return nil, err
		}
	}
	if n, listed := v.settings.Load().Node(a.Name); listed && m.Removed {
		if err := v.unlist(n); err != nil {
			return nil, fmt.Errorf("node %q is removed, but vault.toml still has it: %w", a.Name, err)
		}
	}
	return api.NodeRemoveResult{
		Removed: m.Removed, Crates: m.Crates, Bytes: m.Bytes, Below: m.Files, Only: m.OnlyFiles, Unsent: m.Queued, Refusing: m.Refused,
	}, nil
}

// unlist takes a node out of vault.toml. Called with editing held.
func (v *Vault) unlist(n config.Node) error {
	path := v.settingsPath()
	drop := func(c *config.Config) {
		var left []config.Node
		for _, o := range c.Nodes {
			if o.Name != n.Name {
				left = append(left, o)
			}
		}
		c.Nodes = left
	}
	_, err := config.Edit(path, func(text []byte) ([]byte, error) { return config.RemoveNode(path, text, n.Name) }, drop)
	if err != nil {
		return err
	}
	c := *v.settings.Load()
	drop(&c)
	v.settings.Store(&c)
	return nil
}
