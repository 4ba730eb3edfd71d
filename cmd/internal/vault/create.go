package vault

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
	"stasis/store"
)

// takeState makes the state directory this process's, and a vault of it if it is to
// be one and is not yet.
func (v *Vault) takeState(ctx context.Context) error {
	dir := v.o.State
	if !v.o.Create && !IsState(dir) {
		return &store.Error{Kind: store.NotFound, Op: "open the vault", Subject: dir, Detail: "there is no vault in this directory",
			Hint: "`stasis list` shows the vaults there are"}
	}
	if err := Prepare(dir, v.o.Mountpoint); err != nil {
		return err
	}
	f, err := statedir.Lock(ctx, dir)
	if err != nil {
		return err
	}
	v.closers = append(v.closers, func(context.Context) error { return f.Close() })
	if err := usable(dir); err != nil { // it may have changed before it was ours
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, ledgerName)); errors.Is(err, fs.ErrNotExist) && v.o.Create {
		return v.make(ctx)
	}
	if v.identity, err = statedir.Key(dir); err != nil || v.o.Create {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, ledgerName)); errors.Is(err, fs.ErrNotExist) {
		return &store.Error{Kind: store.NotFound, Op: "open the ledger", Subject: filepath.Join(dir, ledgerName), Detail: "there is none",
			Hint: "a new vault gets one when it is mounted; one that is lost comes back from a backup with " + restoreCommand(dir, "BACKUP")}
	}
	return nil
}

// restoreCommand is what brings a ledger back.
func restoreCommand(state, backup string) string {
	return fmt.Sprintf("`stasis restore %s %s`", state, backup)
}

// Prepare makes the state directory for a vault that is to be mounted at mountpoint,
// unless there is something in the way: other content, or the mount itself.
func Prepare(dir, mountpoint string) error {
	if _, err := (nodes.Guard{State: dir, Mountpoint: mountpoint}).Resolve("the state directory", dir); err != nil {
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

// make makes the vault: key, nodes, settings, in this order, each durable before
// the next. It goes on where a making that was cut off ended. Settings that a person wrote
// beforehand are taken as they are.
func (v *Vault) make(ctx context.Context) error {
	// Faults in the settings come before anything is made.
	c, err := config.Parse(v.settingsPath(), []byte(config.Default))
	written := IsState(v.o.State)
	if written {
		c, err = config.Load(v.settingsPath())
	}
	if err != nil {
		return err
	}
	if err := v.checkPlaces(c); err != nil {
		return err
	}
	if v.identity, err = statedir.NewKey(v.o.State); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if err := v.makeNode(ctx, n); err != nil {
			return err
		}
	}
	v.fresh = true
	if written {
		return nil
	}
	return config.Write(v.settingsPath(), []byte(config.Default))
}

// makeNode initialises a node of a new vault. One that holds crates means that the
// vault is not new: its ledger is gone.
func (v *Vault) makeNode(ctx context.Context, n config.Node) error {
	if n.Path == "" {
		return nil
	}
	if mounts.Within(n.Path, v.o.State) {
		if err := os.MkdirAll(filepath.Dir(n.Path), 0o700); err != nil {
			return fmt.Errorf("make node %q: %w", n.Name, err)
		}
	}
	id, known, err := nodes.Initialise(n, v.identity.Owner())
	if err != nil || !known {
		return err
	}
	s, err := v.openStore(ctx, n, id)
	if err != nil {
		return err
	}
	status, err := s.Status(ctx)
	if err = errors.Join(err, s.Close()); err != nil {
		return err
	}
	if status.Crates > 0 {
		return &store.Error{Kind: store.NotFound, Op: "open the ledger", Subject: filepath.Join(v.o.State, ledgerName),
			Detail: fmt.Sprintf("it is gone, but node %q holds %d crates of this vault", n.Name, status.Crates),
			Hint:   "bring it back from a backup with " + restoreCommand(v.o.State, "BACKUP")}
	}
	return nil
}

// sameBodies refuses settings that have moved the directory of bodies while its
// content stayed behind: what lies there alone would count as lost.
func (v *Vault) sameBodies(c *config.Config) error {
	record := filepath.Join(v.o.State, bodiesName)
	raw, err := mounts.ReadFile(record, statedir.MaxNote)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read where the bodies lie: %w", err)
	}
	last, now := strings.TrimSuffix(string(raw), "\n"), c.Bodies
	// Counted from the state directory, so that it may move as a whole.
	if rel, err := filepath.Rel(v.o.State, now); err == nil && filepath.IsLocal(rel) {
		now = rel
	}
	if last == now || v.o.ReadOnly && last == "" {
		return nil
	}
	if last != "" {
		old := last
		if !filepath.IsAbs(old) {
			old = filepath.Join(v.o.State, old)
		}
		if holdsContent(old) {
			return &config.Error{File: v.settingsPath(), Message: fmt.Sprintf("bodies is %s, but the vault's bodies lie in %s", c.Bodies, old),
				Hint: "move what is there, or set bodies back"}
		}
	}
	if v.o.ReadOnly {
		return nil
	}
	return config.Write(record, []byte(now+"\n"))
}

// holdsContent reports whether anything but directories and empty files, which are kept for
// new bodies, lies below dir.
func holdsContent(dir string) bool {
	found := errors.New("found")
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // what can't be read or is not there
		}
		if info, err := d.Info(); err == nil && info.Size() > 0 {
			return found
		}
		return nil
	})
	return errors.Is(err, found)
}
