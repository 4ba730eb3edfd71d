package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"stasis/cmd/internal/config"
	"stasis/cmd/internal/control"
	"stasis/cmd/internal/mounts"
	"stasis/cmd/internal/statedir"
	"stasis/cmd/internal/terminal"
	"stasis/cmd/internal/vault"
	"stasis/store"
)

// target is the vault, and perhaps the path in it, or the peer that a command is about.
type target struct {
	state  string       // the state directory
	peer   bool         // it is a peer's
	mount  mounts.Mount // the zero Mount if it is not mounted
	inside string       // the path counted from the vault's root, "" for the root
}

func (t target) mounted() bool { return t.mount.Point != "" }

// daemon is whom to ask about it.
func (t target) daemon() control.Daemon {
	return control.Daemon{State: t.state, Mount: t.mount.Device}
}

// errForeign says that what is mounted somewhere is not the vault that it names.
func errForeign(m mounts.Mount) error {
	who := "a user who is not known"
	if m.User >= 0 {
		who = fmt.Sprintf("user %d", m.User)
	}
	hint := "only that user and root may ask about it"
	if os.Geteuid() == 0 {
		hint = "take it away with `umount " + m.Point + "`"
	}
	return &store.Error{Kind: store.Denied, Op: "find the vault of", Subject: m.Point,
		Detail: fmt.Sprintf("%s has mounted it, and it is not known to be the vault of %s that it says it is", who, m.Source), Hint: hint}
}

// name is how the person calls the vault, in a message.
func (t target) name() string {
	if t.mounted() {
		return store.Printable(t.mount.Point, terminal.MaxLine)
	}
	return store.Printable(t.state, terminal.MaxLine)
}

// path writes a path of the vault for the person: in full where it is mounted.
func (t target) path(inside string) string {
	if !t.mounted() || t.mount.Root != "/" {
		return inside
	}
	return filepath.Join(t.mount.Point, inside)
}

// findTarget gives the vault of an argument; "" is what the person left out.
func findTarget(ctx context.Context, arg string) (target, error) {
	t, err := findAny(ctx, arg)
	if err == nil && t.peer {
		err = fmt.Errorf("%s is a peer's state directory, and this is about vaults", t.state)
	}
	return t, err
}

// findAny is findTarget for commands that a peer answers too.
func findAny(ctx context.Context, arg string) (target, error) {
	table, err := mounts.Read()
	if err != nil {
		return target{}, err
	}
	if arg == "" {
		return defaultTarget(ctx, table)
	}
	path, m, err := table.Resolve(arg)
	if err != nil {
		return target{}, err
	}
	if m.Foreign {
		return target{}, errForeign(m)
	}
	if m.IsVault() {
		return target{state: m.Source, mount: m, inside: m.Inside(path)}, nil
	}
	if vault.IsState(path) {
		m, _ := statedir.Mounted(ctx, table, path)
		return target{state: path, mount: m}, nil
	}
	if statedir.IsPeer(path) {
		return target{state: path, peer: true}, nil
	}
	// The mountpoint of a vault that is not mounted.
	if state, err := vault.DefaultState(path); err == nil && vault.IsState(state) {
		if m, ok := statedir.Mounted(ctx, table, state); ok {
			return target{}, fmt.Errorf("%s is not where its vault is mounted; that is %s", arg, m.Point)
		}
		return target{state: state}, nil
	}
	return target{}, fmt.Errorf("%s is neither inside a mounted vault nor a state directory; `stasis list` shows the vaults there are", arg)
}

// targetInside is findTarget for commands about a path, which needs a mount.
func targetInside(ctx context.Context, arg string) (target, error) {
	t, err := findTarget(ctx, arg)
	if err == nil && !t.mounted() {
		err = fmt.Errorf("the vault of %s is not mounted; mount it first with stasis-mount", arg)
	}
	return t, err
}

func defaultTarget(ctx context.Context, table mounts.Table) (target, error) {
	if dir, err := mounts.Abs("."); err == nil {
		m, _ := table.Covering(dir)
		if m.Foreign {
			return target{}, errForeign(m)
		}
		if m.IsVault() {
			return target{state: m.Source, mount: m, inside: m.Inside(dir)}, nil
		}
	}
	all, err := allVaults(ctx, table)
	if err != nil {
		return target{}, err
	}
	switch len(all) {
	case 0:
		if peers := defaultPeers(); len(peers) == 1 {
			return target{state: peers[0], peer: true}, nil
		}
		return target{}, errors.New("there is no vault yet; `stasis-mount DIRECTORY` makes one")
	case 1:
		return all[0], nil
	}
	names := []string{}
	for _, t := range all {
		names = append(names, t.name())
	}
	return target{}, usageError{fmt.Errorf("say which vault: %s", strings.Join(names, ", "))}
}

// allVaults are the mounted ones and those below the data home.
func allVaults(ctx context.Context, table mounts.Table) ([]target, error) {
	// Anybody may have several mounts that name one directory, of which his daemon would have to
	// be asked; all together they are waited for no longer than one.
	ctx, cancel := context.WithTimeout(ctx, control.MaxSilence)
	defer cancel()
	found := map[string]target{}
	for _, m := range table.Vaults() {
		if _, ok := found[m.Source]; !ok && ownedState(m.Source) {
			m, _ := statedir.Mounted(ctx, table, m.Source)
			found[m.Source] = target{state: m.Source, mount: m}
		}
	}
	home, err := statedir.Home()
	if err == nil {
		entries, err := os.ReadDir(home)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("list the vaults: %w", err)
		}
		for _, e := range entries {
			dir, _, err := table.Resolve(filepath.Join(home, e.Name()))
			if err != nil {
				continue // a broken link is no vault
			}
			if _, ok := found[dir]; !ok && vault.IsState(dir) {
				found[dir] = target{state: dir}
			}
		}
	}
	all := []target{}
	for _, t := range found {
		all = append(all, t)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].state < all[j].state })
	return all, nil
}

// ownedState reports whether a mounted vault is one that this user may ask about.
func ownedState(state string) bool {
	held, _, err := mounts.Hold(filepath.Join(state, config.FileName))
	if err != nil {
		return false
	}
	held.Close()
	return true
}

// kind is what the target is, in a word.
func (t target) kind() string {
	if t.peer {
		return "peer"
	}
	return "vault"
}
