package peerd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"stasis/cmd/internal/config"
	"stasis/cmd/internal/nodes"
	"stasis/peer/host"
	"stasis/router"
	"stasis/router/depot"
	"stasis/store"
)

// delegates reports whether the peer keeps its crates on several nodes, or may: what was once
// a depot stays one, as the ledger says where its crates are.
func (p *Peer) delegates(c *config.Config) (bool, error) {
	if n := c.Nodes[0]; len(c.Nodes) > 1 || c.Copies > 1 || n.Remote() || n.Rate > 0 || n.Zone != "" {
		return true, nil // what a single store does not know of, a router does
	}
	return depot.Made(p.ledger)
}

// openDepot opens the router over the nodes. A node that was served alone until now becomes
// one of them.
func (p *Peer) openDepot(ctx context.Context, c *config.Config) (*depot.Store, error) {
	made, err := depot.Made(p.ledger)
	if err != nil {
		return nil, err
	}
	var former store.Store
	if !made {
		if former, err = p.openFormer(ctx, c); err != nil {
			return nil, err
		}
	}
	tokens, err := host.Tokens(p.ledger)
	if err != nil {
		return nil, err
	}
	return depot.Open(ctx, depot.Options{Ledger: p.ledger, Owner: p.identity.Owner(), ID: p.leaf, Dir: p.passing(c), Policy: policyOf(c),
		Nodes: p.specs(c), Log: p.log, Former: former, Tokens: tokens, TakeOver: p.o.TakeOver})
}

// openFormer opens the node that was served alone until now; nil if there is none, as the
// peer is new.
func (p *Peer) openFormer(ctx context.Context, c *config.Config) (store.Store, error) {
	for _, n := range c.Nodes {
		if n.Path == "" {
			continue
		}
		m, err := nodes.Inspect(n)
		if err != nil || !m.There || m.ID != p.leaf {
			continue
		}
		s, err := nodes.Open(ctx, n, p.leaf, p.identity, p.log)
		if err != nil {
			return nil, err
		}
		if err := host.Part(ctx, p.ledger, s, p.o.TakeOver); err != nil {
			return nil, errors.Join(err, s.Close())
		}
		return s, nil
	}
	owners, err := host.ListOwners(p.ledger)
	if err != nil {
		return nil, err
	}
	crates := int64(0)
	for _, o := range owners {
		crates += o.Crates
	}
	if crates > 0 {
		return nil, &store.Error{Kind: store.Unavailable, Op: "open the nodes", Detail: fmt.Sprintf("the node that has the peer's %s is not among them, or not there", counted(crates, "crate", "crates")),
			Hint: "list it in peer.toml as it was, and see that its disk is mounted"}
	}
	return nil, nil
}

func policyOf(c *config.Config) router.Policy {
	return router.Policy{Copies: c.Copies, Least: c.Least}
}

// specs are the nodes as the router wants them.
func (p *Peer) specs(c *config.Config) []router.NodeSpec {
	var specs []router.NodeSpec
	for _, n := range c.Nodes {
		specs = append(specs, p.spec(n))
	}
	return specs
}

func (p *Peer) spec(n config.Node) router.NodeSpec {
	return router.NodeSpec{
		Name: n.Name, Kind: n.Kind, Zone: n.Zone, Durable: n.Durable(), Rate: n.Rate, Settings: nodes.Settings(n),
		Open: func(ctx context.Context, want store.NodeID) (store.Store, error) {
			return nodes.Open(ctx, n, want, p.identity, p.log)
		},
	}
}

// passing is the directory for crates on their way to the nodes: on the filesystem of the
// first directory node, which can adopt them.
func (p *Peer) passing(c *config.Config) string { return p.beside(firstDirectory(c), passingName) }

// spool is the directory for uploads that are not complete, where crates can be taken over
// from it without a second write.
func (p *Peer) spool(c *config.Config) string { return p.beside(firstDirectory(c), spoolName) }

// firstDirectory is the first directory node; the first node if there is none.
func firstDirectory(c *config.Config) config.Node {
	for _, n := range c.Nodes {
		if n.Kind == config.KindDirectory {
			return n
		}
	}
	return c.Nodes[0]
}

// beside is a place of the peer's own on a node's filesystem: in the state directory where
// that lies there, or else next to the node, if that can be.
func (p *Peer) beside(n config.Node, name string) string {
	own := filepath.Join(p.o.State, name)
	if n.Kind != config.KindDirectory || sameDevice(p.o.State, n.Path) || unix.Access(filepath.Dir(n.Path), unix.W_OK) != nil {
		return own
	}
	return n.Path + "." + name
}

func sameDevice(a, b string) bool {
	var x, y unix.Stat_t
	return unix.Stat(a, &x) == nil && unix.Stat(b, &y) == nil && x.Dev == y.Dev
}
