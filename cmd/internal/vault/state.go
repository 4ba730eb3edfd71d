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
	"stasis/cmd/internal/statedir"
	"stasis/peer/identity"
	"stasis/store"
)

// What lies in a state directory, beside the configuration, the key and the control
// socket.
const (
	ledgerName = "ledger"
	cacheName  = "cache"
	// bodiesName is the file that says where the bodies lay last.
	bodiesName = "bodies.path"
)

// ours are the names that a state directory may hold before it is one.
var ours = map[string]bool{
	config.FileName: true, identity.FileName: true, ledgerName: true, config.DefaultBodies: true, cacheName: true,
	"nodes": true, bodiesName: true,
	statedir.LogName: true, statedir.LogName + statedir.OldSuffix: true, statedir.LockName: true, "control.sock": true, "lost+found": true,
}

// DefaultState is where the state of the vault of a mountpoint lies if nobody says
// otherwise.
func DefaultState(mountpoint string) (string, error) {
	return statedir.Default("stasis", mounts.Escape(mountpoint))
}

// IsState reports whether dir is a vault's state directory.
func IsState(dir string) bool {
	return mounts.IsFile(filepath.Join(dir, config.FileName))
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
