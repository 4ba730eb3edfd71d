package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"stasis/cmd/internal/config"
	"stasis/cmd/internal/nodes"
	"stasis/router"
	"stasis/store"
	"stasis/store/container"
	"stasis/store/directory"
)

// specs are the nodes of a configuration, as the router wants them.
func (v *Vault) specs(c *config.Config) []router.NodeSpec {
	var specs []router.NodeSpec
	for _, n := range c.Nodes {
		specs = append(specs, v.spec(n))
	}
	return specs
}

func (v *Vault) spec(n config.Node) router.NodeSpec {
	return router.NodeSpec{
		Name: n.Name, Kind: n.Kind, Zone: n.Zone, Durable: n.Durable(), Rate: n.Rate,
		Settings: nodes.Settings(n),
		Open: func(ctx context.Context, want store.NodeID) (store.Store, error) {
			s, err := v.openStore(ctx, n, want)
			if nodes.HeldElsewhere(n, want, err) {
				v.refusals.note(n, &store.Error{Kind: store.Conflict, Op: "open the store", Subject: "at " + n.Path, Detail: "another process uses it",
					Hint: "if this state directory is a copy of one that is in use, only one of them can be"})
			}
			return s, err
		},
	}
}

// openStore opens the store of a node. It never initialises one.
func (v *Vault) openStore(ctx context.Context, n config.Node, want store.NodeID) (store.Store, error) {
	s, err := nodes.Open(ctx, n, want, v.identity, v.log)
	if err != nil {
		return nil, err
	}
	refused := func(err error) { v.refusals.note(n, err) }
	switch s := s.(type) {
	case *directory.Store:
		return &watchedDirectory{s, refused}, nil
	case *container.Store:
		return &watchedContainer{s, refused}, nil
	case nodes.Peer:
		return &watchedPeer{s, refused}, nil
	}
	return s, nil
}

// watchedDirectory, watchedContainer and watchedPeer report a fence that was refused; in all else
// they are the stores.
type watchedDirectory struct {
	*directory.Store
	refused func(error)
}

type watchedContainer struct {
	*container.Store
	refused func(error)
}

type watchedPeer struct {
	nodes.Peer
	refused func(error)
}

// Fence is store.Fencer's.
func (s *watchedPeer) Fence(ctx context.Context, known []store.Token, next store.Token, takeOver bool) error {
	err := s.Peer.Fence(ctx, known, next, takeOver)
	s.refused(err)
	return err
}

// Fence is store.Fencer's.
func (s *watchedDirectory) Fence(ctx context.Context, known []store.Token, next store.Token, takeOver bool) error {
	err := s.Store.Fence(ctx, known, next, takeOver)
	s.refused(err)
	return err
}

// Fence is store.Fencer's.
func (s *watchedContainer) Fence(ctx context.Context, known []store.Token, next store.Token, takeOver bool) error {
	err := s.Store.Fence(ctx, known, next, takeOver)
	s.refused(err)
	return err
}

// refusals remembers which nodes are another process's, or another copy's of this state
// directory. At the start that is a reason to stop; later it is the node's trouble alone. A node
// on another machine is no reason where one has taken this mount for the last that used it: its
// word alone must not keep a vault from being mounted.
type refusals struct {
	mu        sync.Mutex
	near, far error
	accepted  bool
}

// note takes a node's answer to whether this mount may use it; nil: it may.
func (r *refusals) note(n config.Node, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := &r.far
	if n.Address == "" {
		at = &r.near
	}
	switch {
	case err == nil:
		r.accepted = true
	case errors.Is(err, store.Conflict) && *at == nil:
		*at = fmt.Errorf("node %q: %w", n.Name, err)
	}
}

// reason is why the vault is not to be mounted; nil if it is.
func (r *refusals) reason() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.near == nil && r.accepted {
		return nil
	}
	return cmp.Or(r.near, r.far)
}
