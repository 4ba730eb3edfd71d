package peerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"stasis/cmd/internal/config"
	"stasis/cmd/internal/mounts"
	"stasis/cmd/internal/nodes"
	"stasis/cmd/internal/statedir"
	"stasis/peer/identity"
	"stasis/store"
)

// What lies in a state directory, beside the settings, the key, the log and the control
// socket.
const (
	ledgerName = "ledger"
	spoolName  = "spool"
	// passingName is the directory of crates on their way to several nodes.
	passingName = "passing"
	// servedName is the file that says where the peer listened last, for invites that are
	// made while it does not run.
	servedName = "served"
)

// stateName is where a peer's state lies in $XDG_DATA_HOME.
const stateName = "stasis-peer"

// ours are the names that a state directory may hold before it is one.
var ours = map[string]bool{
	config.PeerFileName: true, identity.FileName: true, statedir.LeafName: true, ledgerName: true, spoolName: true, passingName: true, servedName: true,
	"nodes": true, statedir.LogName: true, statedir.LogName + statedir.OldSuffix: true, statedir.LockName: true,
	"control.sock": true, "lost+found": true,
}

// DefaultState is where a peer's state lies if nobody says otherwise: $STATE_DIRECTORY,
// which a service manager sets, or stasis-peer in the data home.
func DefaultState() (string, error) { return statedir.Default(stateName) }

// usable reports whether dir is a peer's state directory, or may become one as it is
// absent, empty or half made.
func usable(dir string) error {
	e := &store.Error{Kind: store.Conflict, Op: "make the state directory", Subject: dir, Hint: "choose an empty directory with --state"}
	if _, err := os.Lstat(filepath.Join(dir, config.FileName)); err == nil {
		e.Detail = "it is a vault's"
		return e
	}
	if statedir.IsPeer(dir) {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look into the state directory: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if !ours[name] && !strings.HasPrefix(name, ".key-") && !strings.HasPrefix(name, ".vault-") {
			e.Detail = fmt.Sprintf("it has other content (%q) and no %s", name, config.PeerFileName)
			return e
		}
	}
	return nil
}

// Prepare makes the state directory, unless there is something in the way: other content,
// or a vault's mount.
func Prepare(dir string) error {
	if _, err := (nodes.Guard{State: dir, NoMount: true}).Resolve("a peer's state directory", dir); err != nil {
		return err
	}
	if err := usable(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	return nil
}

// takeState makes the state directory this process's, and a peer of it if it is to be one
// and is not yet.
func (p *Peer) takeState(ctx context.Context) error {
	dir := p.o.State
	if !p.o.Create && !statedir.IsPeer(dir) {
		return &store.Error{Kind: store.NotFound, Op: "open the peer", Subject: dir, Detail: "there is no peer in this directory",
			Hint: "`stasis-peer --state " + dir + "` makes one"}
	}
	if err := Prepare(dir); err != nil {
		return err
	}
	f, err := statedir.Lock(ctx, dir)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, func(context.Context) error { return f.Close() })
	if err := usable(dir); err != nil { // it may have changed before it was ours
		return err
	}
	c, err := p.readSettings()
	if err != nil {
		return err
	}
	p.settings.Store(c)
	raw, err := mounts.ReadFile(filepath.Join(dir, statedir.LeafName), statedir.MaxNote)
	if err == nil {
		p.leaf, err = store.ParseNodeID(strings.TrimSpace(string(raw)))
	}
	switch {
	case err == nil:
		p.identity, err = statedir.Key(dir)
		return err
	case errors.Is(err, fs.ErrNotExist) && p.o.Create:
		return p.make(ctx, c)
	}
	return fmt.Errorf("read which store is the peer's: %w", err)
}

// make makes the peer: key, node, settings, and last the record of the node's leaf, each
// durable before the next. It goes on where a making that was cut off ended.
func (p *Peer) make(ctx context.Context, c *config.Config) (err error) {
	dir := p.o.State
	if p.identity, err = statedir.NewKey(dir); err != nil {
		return err
	}
	if p.leaf, err = p.makeNodes(ctx, c); err != nil {
		return err
	}
	settings := filepath.Join(dir, config.PeerFileName)
	if _, err := os.Lstat(settings); errors.Is(err, fs.ErrNotExist) {
		if err := config.Write(settings, []byte(config.DefaultPeer)); err != nil {
			return err
		}
	}
	return config.Write(filepath.Join(dir, statedir.LeafName), []byte(p.leaf.String()+"\n"))
}

// makeNodes makes the stores of the nodes on this machine, and gives the id under which the
// peer is a node of its vaults: that of its only node, or one of its own.
func (p *Peer) makeNodes(ctx context.Context, c *config.Config) (leaf store.NodeID, err error) {
	for _, n := range c.Nodes {
		if n.Path == "" {
			continue
		}
		if mounts.Within(n.Path, p.o.State) {
			if err := os.MkdirAll(filepath.Dir(n.Path), 0o700); err != nil {
				return leaf, fmt.Errorf("make node %q: %w", n.Name, err)
			}
		}
		id, known, err := nodes.Initialise(n, p.identity.Owner())
		if err != nil {
			return leaf, err
		}
		if _, gone := os.Lstat(p.ledgerPath()); known && errors.Is(gone, fs.ErrNotExist) {
			if err := p.isEmpty(ctx, n, id); err != nil {
				return leaf, err
			}
		}
		leaf = id
	}
	if n := c.Nodes[0]; len(c.Nodes) > 1 || c.Copies > 1 || n.Path == "" {
		leaf = store.NewNodeID()
	}
	return leaf, nil
}

// isEmpty wants a store of a making that was cut off: one that holds crates means that
// the peer is not new, and that its ledger is gone.
func (p *Peer) isEmpty(ctx context.Context, n config.Node, id store.NodeID) error {
	s, err := nodes.Open(ctx, n, id, p.identity, p.log)
	if err != nil {
		return err
	}
	status, err := s.Status(ctx)
	if err = errors.Join(err, s.Close()); err != nil {
		return err
	}
	if status.Crates > 0 {
		return &store.Error{Kind: store.NotFound, Op: "open the ledger", Subject: p.ledgerPath(),
			Detail: fmt.Sprintf("it is gone, but node %q holds %d crates of this peer", n.Name, status.Crates),
			Hint:   "bring the state directory back from a backup"}
	}
	return nil
}

func (p *Peer) ledgerPath() string { return filepath.Join(p.o.State, ledgerName) }
