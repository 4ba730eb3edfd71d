package vault

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"stasis/cmd/internal/config"
	"stasis/router"
	"stasis/store"
	"stasis/store/container"
	"stasis/store/directory"
	"stasis/store/memory"
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
		Settings: fmt.Sprintf("%s %d %s", n.Kind, n.Capacity, n.Path),
		Open: func(ctx context.Context, want store.NodeID) (store.Store, error) {
			s, err := v.openStore(ctx, n, want)
			if heldElsewhere(n, want, err) {
				v.refusals.note(n, &store.Error{Kind: store.Conflict, Op: "open the store", Subject: "at " + n.Path, Detail: "another process uses it",
					Hint: "if this state directory is a copy of one that is in use, only one of them can be"})
			}
			return s, err
		},
	}
}

// openStore opens the store of a node. It never initialises one.
func (v *Vault) openStore(ctx context.Context, n config.Node, want store.NodeID) (store.Store, error) {
	switch n.Kind {
	case config.KindDirectory:
		capacity := n.Capacity
		if capacity == 0 {
			capacity = -1 // not what it was made with: the settings count
		}
		s, err := directory.Open(ctx, n.Path, want, v.identity.Owner(), directory.Options{Capacity: capacity, Log: v.log})
		if err != nil {
			return nil, err
		}
		return &watchedDirectory{s, func(err error) { v.refusals.note(n, err) }}, nil
	case config.KindContainer:
		s, err := container.Open(ctx, n.Path, want, v.identity.Owner(), container.Options{})
		if err != nil {
			return nil, err
		}
		return &watchedContainer{s, func(err error) { v.refusals.note(n, err) }}, nil
	}
	return memory.New(n.Capacity, memory.Options{Leaf: want})
}

// initialise makes the store of a node, in a place that is empty or not there. Where
// there is a store of this vault, it is known and stays as it is. Denied if it is another
// vault's.
func (v *Vault) initialise(n config.Node) (id store.NodeID, known bool, err error) {
	owner := v.identity.Owner()
	var m marker
	if m, err = inspect(n); err != nil {
		return id, false, err
	}
	switch {
	case m.there && m.owner != owner:
		return id, false, &store.Error{Kind: store.Denied, Op: fmt.Sprintf("use node %q", n.Name), Subject: "at " + n.Path,
			Detail: "it keeps the crates of another vault", Hint: "choose another place for this vault's"}
	case m.there:
		return m.id, true, nil
	}
	if err := checkParent(n); err != nil {
		return id, false, err
	}
	if n.Kind == config.KindContainer {
		id, err = container.Create(n.Path, owner, n.Capacity, container.Options{})
	} else {
		id, err = directory.Create(n.Path, owner, n.Capacity, directory.Options{})
	}
	return id, false, err
}

// watchedDirectory and watchedContainer report a fence that was refused; in all else
// they are the stores.
type watchedDirectory struct {
	*directory.Store
	refused func(error)
}

type watchedContainer struct {
	*container.Store
	refused func(error)
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
