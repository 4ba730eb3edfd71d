package statedir

import (
	"os"
	"path/filepath"
	"strings"

	"stasis/cmd/internal/config"
	"stasis/cmd/internal/mounts"
	"stasis/store"
)

// dataHome is the directory for a user's data: $XDG_DATA_HOME.
func dataHome() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return dir, nil
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local/share"), nil
	}
	return "", &store.Error{Kind: store.Invalid, Op: "find the state directory", Detail: "neither HOME nor XDG_DATA_HOME is set", Hint: "say where with --state DIR"}
}

// Home is the directory below which the state of a user's vaults lies:
// $XDG_DATA_HOME/stasis. It is data and not state in the sense of the XDG rules: a vault's
// ledger may be the only copy there is.
func Home() (string, error) {
	home, err := dataHome()
	return filepath.Join(home, "stasis"), err
}

// Default is where state lies if nobody says otherwise: $STATE_DIRECTORY, which a
// service manager sets, or a path in the user's data home.
func Default(path ...string) (string, error) {
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return filepath.Abs(dir)
	}
	home, err := dataHome()
	if err != nil {
		return "", err
	}
	return filepath.Join(append([]string{home}, path...)...), nil
}

// LeafName is the file in a peer's state directory that says which store is the peer's. It
// is the last thing that is made of a new peer.
const LeafName = "leaf"

// IsPeer reports whether dir is a peer's state directory.
func IsPeer(dir string) bool {
	for _, name := range []string{config.PeerFileName, LeafName} {
		if mounts.IsFile(filepath.Join(dir, name)) {
			return true
		}
	}
	return false
}
