package peerd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/nodes"
	"stasis/store"
)

// The states of a peer's node, as commands.md has them for a vault's.
const (
	online  = "online"
	missing = "missing"
	full    = "full"
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
	state := p.nodeNow(ctx)
	s.Nodes = append(s.Nodes, p.node(c.Nodes[0], state))
	s.State, s.Reason = judge(s)
	return s, nil
}

// nodeNow asks the node how it stands.
func (p *Peer) nodeNow(ctx context.Context) NodeState {
	if p.running() {
		p.keeper.glance(ctx)
		return p.keeper.state()
	}
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	s, err := nodes.Open(ctx, p.settings.Load().Nodes[0], p.leaf, p.identity, p.log)
	if err != nil {
		return NodeState{Err: err}
	}
	st, err := s.Status(ctx)
	return NodeState{Status: st, Err: errors.Join(err, s.Close())}
}

func (p *Peer) node(n config.Node, now NodeState) api.Node {
	st := now.Status
	out := api.Node{Name: n.Name, ID: p.leaf.String(), Kind: n.Kind, Path: n.Path, State: online, Durable: n.Durable(),
		Crates: st.Crates, Bytes: st.Used, Capacity: st.Capacity, Free: st.Free, Reserved: st.Reserved}
	switch {
	case now.Err != nil:
		out.State, out.LastError = missing, now.Err.Error()
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
	n := s.Nodes[0]
	var faults []string
	if !s.Peer.Running {
		faults = append(faults, "the peer does not run")
	}
	switch {
	case n.State == missing:
		faults = append(faults, fmt.Sprintf("node %q is missing", n.Name))
	case n.LastError != "":
		faults = append(faults, fmt.Sprintf("node %q: %s", n.Name, n.LastError))
	case n.State == full:
		faults = append(faults, fmt.Sprintf("node %q is full", n.Name))
	}
	if len(faults) > 0 {
		return api.StateDegraded, "Degraded: " + strings.Join(faults, "; ") + "."
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
	return api.StateSafe, fmt.Sprintf("All is well: %s in %s of %s.", config.FormatSize(n.Bytes), counted(n.Crates, "crate", "crates"), counted(active, "vault", "vaults"))
}

// counted writes a number with the words for one or for several.
func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
