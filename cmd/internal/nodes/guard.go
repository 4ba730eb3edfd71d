package nodes

import (
	"fmt"

	"stasis/cmd/internal/config"
	"stasis/cmd/internal/mounts"
	"stasis/store"
)

// Guard refuses places that would bite their own tail: what a mount is made of must not
// lie in that mount, nor what a peer keeps in any.
type Guard struct {
	State      string
	Mountpoint string // where the vault is to be mounted; "" while it is not, and for a peer
	// NoMount: nothing may lie in any vault's mount.
	NoMount bool
}

// Place is a path with what it is called.
type Place struct{ Name, Path string }

// Resolve follows path's symlinks without touching the vault's mount. Invalid, in words
// for a person, if it lies where it can't.
func (g Guard) Resolve(what, path string) (string, error) {
	table, err := mounts.Read()
	if err != nil {
		return "", err
	}
	if g.Mountpoint != "" {
		// The mount may not be there yet, or be in another namespace.
		table = append(table, mounts.Mount{Root: "/", Point: g.Mountpoint, Type: mounts.Type, Source: g.State})
	}
	real, m, err := table.Resolve(path)
	if err != nil {
		return "", err
	}
	e := &store.Error{Kind: store.Invalid, Op: "use", Subject: path, Hint: "choose a place outside of it"}
	switch {
	case m.IsVault() && m.Source == g.State:
		e.Detail = fmt.Sprintf("%s can't lie inside the vault's own mountpoint %s", what, m.Point)
	case m.IsVault() && g.NoMount:
		e.Detail = fmt.Sprintf("%s can't lie inside the vault mounted at %s: what it keeps could go in a circle", what, m.Point)
	default:
		return real, nil
	}
	return "", e
}

// Check tests the places of nodes: outside of the mount, and none of them inside another,
// inside the state directory's own, or inside what else is taken.
func (g Guard) Check(all []config.Node, taken []Place) error {
	if _, err := g.Resolve("the state directory", g.State); err != nil {
		return err
	}
	for i, p := range taken {
		path, err := g.Resolve(p.Name, p.Path)
		if err != nil {
			return err
		}
		taken[i].Path = path
	}
	for _, n := range all {
		if n.Path == "" {
			continue
		}
		path, err := g.Resolve(fmt.Sprintf("node %q", n.Name), n.Path)
		if err != nil {
			return err
		}
		if g.Mountpoint != "" && mounts.Within(g.Mountpoint, path) {
			return nested(n, "the vault's mountpoint", g.Mountpoint)
		}
		if mounts.Within(g.State, path) {
			return nested(n, "the state directory", g.State)
		}
		for _, p := range taken {
			if mounts.Within(path, p.Path) || mounts.Within(p.Path, path) {
				return nested(n, p.Name, p.Path)
			}
		}
		taken = append(taken, Place{fmt.Sprintf("node %q", n.Name), path})
	}
	return nil
}

func nested(n config.Node, other, path string) error {
	return &store.Error{Kind: store.Invalid, Op: fmt.Sprintf("use node %q", n.Name), Subject: "at " + n.Path,
		Detail: fmt.Sprintf("it and %s (%s) lie one in the other", other, path), Hint: "give the node a place of its own"}
}
