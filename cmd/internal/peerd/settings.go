package peerd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"stasis/cmd/internal/config"
	"stasis/cmd/internal/nodes"
)

// readSettings reads peer.toml, or what holds where there is none.
func (p *Peer) readSettings() (*config.Config, error) {
	path := filepath.Join(p.o.State, config.PeerFileName)
	c, err := config.ParsePeer(path, []byte(config.DefaultPeer))
	if _, missing := os.Stat(path); !errors.Is(missing, fs.ErrNotExist) {
		c, err = config.LoadPeer(path)
	}
	if err == nil {
		err = oneNode(path, c)
	}
	if err == nil {
		err = p.checkPlaces(c)
	}
	return c, err
}

// oneNode refuses what this peer can't do: it keeps every crate once, on one node of its
// own machine.
func oneNode(path string, c *config.Config) error {
	refuse := func(line int, hint, format string, args ...any) error {
		return &config.Error{File: path, Line: line, Message: fmt.Sprintf(format, args...), Hint: hint}
	}
	switch {
	case len(c.Nodes) == 0:
		return refuse(0, "add one, or remove the file for the default", "there is no [[node]]")
	case len(c.Nodes) > 1:
		return refuse(c.Nodes[1].Line(), "run a second peer for it", "a peer keeps its crates on one node, and this is the second")
	case c.Copies > 1:
		return refuse(0, "let the vault have its copies on several peers", "copies = %d, but a peer keeps each crate once", c.Copies)
	}
	n := c.Nodes[0]
	switch {
	case n.Remote():
		return refuse(n.Line(), "its kind is one of directory, container, memory", "the node of a peer can't be another peer")
	case n.Rate > 0:
		return refuse(n.Line(), "set it where the vault has this peer as a node", "the node of a peer has no rate")
	case n.Zone != "":
		return refuse(n.Line(), "set it where the vault has this peer as a node", "the node of a peer has no zone")
	}
	return nil
}

func (p *Peer) checkPlaces(c *config.Config) error {
	var taken []nodes.Place
	for _, name := range []string{ledgerName, spoolName} {
		taken = append(taken, nodes.Place{Name: "the peer's " + name, Path: filepath.Join(p.o.State, name)})
	}
	return nodes.Guard{State: p.o.State, NoMount: true}.Check(c.Nodes, taken)
}

// Reload reads the settings again; where they are refused those before stay in force.
func (p *Peer) Reload() error {
	c, err := p.readSettings()
	if err != nil {
		return err
	}
	if old := p.settings.Swap(c); !old.Equal(c) {
		p.keeper.reopen()
	}
	return nil
}
