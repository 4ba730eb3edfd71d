package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stasis/cmd/internal/mounts"
)

// setting gives the value of a key of a unit.
func setting(t *testing.T, path, key string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, key+"="); found {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("%s has no %s=", path, key)
	return ""
}

// A service manager that is less patient than the daemon would kill it while it syncs. And
// one that gives it a place of its own to mount in hides the vault from everybody.
func TestUnitsFitTheDaemon(t *testing.T) {
	paths, err := filepath.Glob("units/*/*.service")
	if err != nil || len(paths) != 2 {
		t.Fatalf("units: %v, %v", paths, err)
	}
	// The last attempt begins just before the time is over, and to find out who is in the
	// way may take as long.
	takes := 2*(busyLimit+unmountLimit) + mounts.HoldersLimit + closeLimit
	for _, path := range paths {
		text := setting(t, path, "TimeoutStopSec")
		if stop, err := time.ParseDuration(strings.Replace(text, "min", "m", 1)); err != nil || stop < takes {
			t.Errorf("%s: TimeoutStopSec=%s, and the daemon may take %s", path, text, takes)
		}
		for key, want := range map[string]string{"Type": "notify", "NotifyAccess": "main", "KillMode": "mixed", "Restart": "on-failure"} {
			if got := setting(t, path, key); got != want {
				t.Errorf("%s: %s=%s, want %s", path, key, got, want)
			}
		}
		unit, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(unit)) {
			for _, hides := range []string{"Protect", "Private", "ReadOnly", "ReadWrite", "Inaccessible", "Bind", "TemporaryFileSystem", "RootDirectory", "RootImage", "DynamicUser", "MountFlags"} {
				if strings.HasPrefix(line, hides) {
					t.Errorf("%s: %s gives the service mounts of its own", path, strings.TrimSpace(line))
				}
			}
		}
	}
}
