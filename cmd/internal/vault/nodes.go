package vault

import (
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

// refusals remembers that a node is another process's, or another copy's of this
// state directory. At the start that is a reason to stop; later it is the node's trouble
// alone.
type refusals struct {
	mu  sync.Mutex
	err error
}

func (r *refusals) note(n config.Node, err error) {
	if !errors.Is(err, store.Conflict) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = fmt.Errorf("node %q: %w", n.Name, err)
	}
}

func (r *refusals) first() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}
