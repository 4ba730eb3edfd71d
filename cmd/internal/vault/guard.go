package vault

import (
	"fmt"
	"path/filepath"

	"stasis/cmd/internal/config"
	"stasis/cmd/internal/mounts"
	"stasis/store"
)

// guard refuses places that would bite their own tail: what a mount is made of
// must not lie in that mount.
type guard struct {
	state      string
	mountpoint string // "" while the vault is not mounted
}

// resolve follows path's symlinks without touching the vault's mount. Invalid, in words
// for a person, if it lies in there.
func (g guard) resolve(what, path string) (string, error) {
	table, err := mounts.Read()
	if err != nil {
		return "", err
	}
	if g.mountpoint != "" {
		// The mount may not be there yet, or be in another namespace.
		table = append(table, mounts.Mount{Root: "/", Point: g.mountpoint, Type: mounts.Type, Source: g.state})
	}
	real, m, err := table.Resolve(path)
	if err != nil {
		return "", err
	}
	if m.IsVault() && m.Source == g.state {
		return "", &store.Error{Kind: store.Invalid, Op: "use", Subject: path,
			Detail: fmt.Sprintf("%s can't lie inside the vault's own mountpoint %s", what, m.Point), Hint: "choose a place outside of it"}
	}
	return real, nil
}

// places checks all places of a configuration: outside of the mount, and none of the
// nodes inside another or inside what the vault itself needs.
func (g guard) places(c *config.Config) error {
	if _, err := g.resolve("the state directory", g.state); err != nil {
		return err
	}
	bodies, err := g.resolve("the directory of bodies", c.Bodies)
	if err != nil {
		return err
	}
	type place struct{ name, path string }
	taken := []place{{"the directory of bodies", bodies}}
	for _, name := range []string{ledgerName, cacheName} {
		taken = append(taken, place{"the vault's " + name, filepath.Join(g.state, name)})
	}
	for _, n := range c.Nodes {
		if n.Path == "" {
			continue
		}
		path, err := g.resolve(fmt.Sprintf("node %q", n.Name), n.Path)
		if err != nil {
			return err
		}
		if g.mountpoint != "" && mounts.Within(g.mountpoint, path) {
			return nested(n, "the vault's mountpoint", g.mountpoint)
		}
		if mounts.Within(g.state, path) {
			return nested(n, "the vault's state directory", g.state)
		}
		for _, p := range taken {
			if mounts.Within(path, p.path) || mounts.Within(p.path, path) {
				return nested(n, p.name, p.path)
			}
		}
		taken = append(taken, place{fmt.Sprintf("node %q", n.Name), path})
	}
	return nil
}

func nested(n config.Node, other, path string) error {
	return &store.Error{Kind: store.Invalid, Op: fmt.Sprintf("use node %q", n.Name), Subject: "at " + n.Path,
		Detail: fmt.Sprintf("it and %s (%s) lie one in the other", other, path), Hint: "give the node a place of its own"}
}
