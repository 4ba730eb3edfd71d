package peerd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/nodes"
	"stasis/store"
)

// The states of a peer's node, as commands.md has them for a vault's.
const (
	online      = "online"
	missing     = "missing"
	unreachable = "unreachable"
	full        = "full"
)

func (p *Peer) status(ctx context.Context) (*api.Status, error) {
	c := p.settings.Load()
	owners, err := p.owners(ctx)
	if err != nil {
		return nil, err
	}
	s := &api.Status{Schema: api.Schema, Copies: c.Copies, Nodes: []api.Node{}, Dir: p.o.State,
		Peer: &api.Peer{Running: p.running(), Fingerprint: p.Fingerprint(), Serving: []api.Serves{}, Owners: owners}}
	for _, a := range p.served() {
		s.Peer.Serving = append(s.Peer.Serving, api.Serves(a))
	}
	several, err := p.delegates(c)
	if err != nil {
		return nil, err
	}
	if several {
		err = p.tellNodes(ctx, c, s)
	} else {
		s.Nodes = append(s.Nodes, p.node(c.Nodes[0], p.nodeNow(ctx)))
	}
	s.State, s.Reason = judge(s)
	return s, err
}

// tellNodes tells of several nodes: what the router knows of them or, of a peer that does not
// run, what each says itself.
func (p *Peer) tellNodes(ctx context.Context, c *config.Config, s *api.Status) error {
	if !p.running() {
		for _, n := range c.Nodes {
			s.Nodes = append(s.Nodes, p.node(n, p.lookAt(ctx, n, store.NodeID{})))
		}
		return nil
	}
	d := p.keeper.depot()
	if d == nil {
		return p.keeper.state().Err
	}
	for _, n := range d.Router().Status(ctx) {
		s.Nodes = append(s.Nodes, nodes.Tell(n, c, config.PeerFileName))
	}
	pending := d.Router().Pending()
	s.Pending = api.Pending{Crates: pending.Crates, Bytes: pending.Bytes}
	if !pending.Oldest.IsZero() {
		s.Pending.OldestSeconds = max(0, int64(time.Since(pending.Oldest).Seconds()))
	}
	return nil
}

// nodeNow asks the node how it stands.
func (p *Peer) nodeNow(ctx context.Context) NodeState {
	if p.running() {
		p.keeper.glance(ctx)
		return p.keeper.state()
	}
	return p.lookAt(ctx, p.settings.Load().Nodes[0], p.leaf)
}

// lookAt opens a node for a moment.
func (p *Peer) lookAt(ctx context.Context, n config.Node, leaf store.NodeID) NodeState {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	s, err := nodes.Open(ctx, n, leaf, p.identity, p.log)
	if err != nil {
		return NodeState{Err: err}
	}
	st, err := s.Status(ctx)
	return NodeState{Status: st, Err: errors.Join(err, s.Close())}
}

func (p *Peer) node(n config.Node, now NodeState) api.Node {
	st := now.Status
	out := api.Node{Name: n.Name, Kind: n.Kind, Path: n.Path, Address: n.Address, Peer: n.Peer, Zone: n.Zone, State: online, Durable: n.Durable(),
		Crates: st.Crates, Bytes: st.Used, Capacity: st.Capacity, Free: st.Free, Reserved: st.Reserved}
	if !st.Leaf.IsZero() {
		out.ID = st.Leaf.String()
	}
	switch {
	case now.Err != nil && n.Remote():
		out.State, out.LastError = unreachable, now.Err.Error()
	case now.Err != nil:
		out.State, out.LastError = missing, now.Err.Error()
	case now.Trouble != nil:
		out.Refuses, out.LastError = true, "it takes nothing: "+now.Trouble.Error()
	case st.Free < store.BlockSize:
		out.State = full
	}
	if st.Damage > 0 && out.LastError == "" {
		out.LastError = fmt.Sprintf("%s found damaged since it was opened; look at the disk", counted(st.Damage, "place was", "places were"))
	}
	return out
}

// judge says how the peer stands, in a word and in a sentence.
func judge(s *api.Status) (state, sentence string) {
	var faults []string
	if !s.Peer.Running {
		faults = append(faults, "the peer does not run")
	}
	crates, bytes := int64(0), int64(0)
	for _, n := range s.Nodes {
		waits := ""
		if n.PendingCrates > 0 {
			waits = ", " + counted(n.PendingCrates, "crate waits", "crates wait") + " for it"
		}
		switch {
		case n.State == missing || n.State == unreachable:
			faults = append(faults, fmt.Sprintf("node %q is %s%s", n.Name, n.State, waits))
		case n.LastError != "":
			faults = append(faults, fmt.Sprintf("node %q: %s", n.Name, n.LastError))
		case n.State == full:
			faults = append(faults, fmt.Sprintf("node %q is full%s", n.Name, waits))
		}
		crates += n.Crates
		bytes += n.Bytes
	}
	if len(faults) > 0 {
		return api.StateDegraded, "Degraded: " + strings.Join(faults, "; ") + "."
	}
	if s.Pending.Crates > 0 {
		return api.StatePending, fmt.Sprintf("Copies are under way: %s, %s to send.", counted(s.Pending.Crates, "crate", "crates"), config.FormatSize(s.Pending.Bytes))
	}
	active := int64(0)
	for _, o := range s.Peer.Owners {
		if !o.Revoked {
			active++
		}
	}
	if active == 0 {
		return api.StateSafe, "All is well: nobody keeps anything here yet; `stasis peer invite` lets a vault in."
	}
	return api.StateSafe, fmt.Sprintf("All is well: %s in %s of %s.", config.FormatSize(bytes), counted(crates, "crate", "crates"), counted(active, "vault", "vaults"))
}

// counted writes a number with the words for one or for several.
func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
