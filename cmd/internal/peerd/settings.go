package peerd

import (
	"errors"
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
		err = fit(path, c)
	}
	if err == nil {
		err = p.checkPlaces(c)
	}
	return c, err
}

// fit refuses what a peer can't do.
func fit(path string, c *config.Config) error {
	if len(c.Nodes) == 0 {
		return &config.Error{File: path, Message: "there is no [[node]]", Hint: "add one, or remove the file for the default"}
	}
	return nil
}

func (p *Peer) checkPlaces(c *config.Config) error {
	var taken []nodes.Place
	for _, name := range []string{ledgerName, spoolName, passingName} {
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
	old := p.settings.Swap(c)
	if old.Equal(c) {
		return nil
	}
	if d := p.keeper.depot(); d != nil {
		return d.SetNodes(p.specs(c), policyOf(c))
	}
	p.keeper.reopen()
	return nil
}
