package statedir

import (
	"os"
	"path/filepath"
	"strings"

	"stasis/store"
)

// Home is the directory below which what a user's daemons keep lies:
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

// Default is where state lies if nobody says otherwise: $STATE_DIRECTORY, which a
// service manager sets, or name in Home.
func Default(name string) (string, error) {
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return filepath.Abs(dir)
	}
	home, err := Home()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, name), nil
}
