package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"stasis/cmd/internal/config"
	"stasis/cmd/internal/mounts"
	"stasis/peer/identity"
	"stasis/store"
)

// What lies in a state directory, beside the configuration, the key and the control
// socket.
const (
	ledgerName = "ledger"
	cacheName  = "cache"
	LogName    = "stasis.log"
	// bodiesName is the file that says where the bodies lay last.
	bodiesName = "bodies.path"
)

// ours are the names that a state directory may hold before it is one.
var ours = map[string]bool{
	config.FileName: true, identity.FileName: true, ledgerName: true, config.DefaultBodies: true, cacheName: true,
	"nodes": true, bodiesName: true,
	LogName: true, LogName + oldSuffix: true, lockName: true, "control.sock": true, "lost+found": true,
}

// Home is the directory below which the state of a user's vaults lies:
// $XDG_DATA_HOME/stasis. It is data and not state in the sense of the XDG rules: a vault's
// ledger may be the only copy there is.
func Home() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "stasis"), nil
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local/share/stasis"), nil
	}
	return "", &store.Error{Kind: store.Invalid, Op: "find the state directory", Detail: "neither HOME nor XDG_DATA_HOME is set", Hint: "say where with --state DIR"}
}

// DefaultState is where the state of the vault of a mountpoint lies if nobody says
// otherwise. $STATE_DIRECTORY, which a service manager sets, wins.
func DefaultState(mountpoint string) (string, error) {
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return filepath.Abs(dir)
	}
	home, err := Home()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, mounts.Escape(mountpoint)), nil
}

// IsState reports whether dir is a vault's state directory.
func IsState(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, config.FileName))
	return err == nil && info.Mode().IsRegular()
}

// usable reports whether dir is a state directory, or may become one as it is absent,
// empty or half made.
func usable(dir string) error {
	if IsState(dir) {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look into the state directory: %w", err)
	}
	for _, e := range entries {
		if !ours[e.Name()] && !strings.HasPrefix(e.Name(), ".key-") && !strings.HasPrefix(e.Name(), ".vault-") {
			return &store.Error{Kind: store.Conflict, Op: "make the state directory", Subject: dir,
				Detail: fmt.Sprintf("it has other content (%q) and no %s", e.Name(), config.FileName), Hint: "choose an empty directory with --state"}
		}
		if e.Name() == ledgerName {
			return &store.Error{Kind: store.NotFound, Op: "read", Subject: filepath.Join(dir, config.FileName),
				Detail: "the ledger is there, the settings are not", Hint: "put vault.toml back from a backup, or write one that names the vault's nodes"}
		}
	}
	return nil
}

// key loads the vault's key.
func key(dir string) (identity.Identity, error) {
	return identity.Load(filepath.Join(dir, identity.FileName))
}

// newKey is key that makes one for a vault that has never run.
func newKey(dir string) (identity.Identity, error) {
	id, err := key(dir)
	if errors.Is(err, store.NotFound) {
		id = identity.New()
		err = identity.Create(filepath.Join(dir, identity.FileName), id)
	}
	return id, err
}
