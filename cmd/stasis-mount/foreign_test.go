package main

import (
	"context"
	"strings"
	"testing"

	"stasis/cmd/internal/mounts"
)

// A mount of another user's is not called a vault, whichever it says that it is: `stasis umount`
// would refuse it.
func TestForeignMountIsNoVault(t *testing.T) {
	for _, source := range []string{"/home/other/state", "/home/me/state"} {
		m := mounts.Mount{Root: "/", Point: "/mnt/x", Type: mounts.Type, Source: source, User: 1001, Foreign: true}
		err := clearStale(context.Background(), mounts.Table{m}, m, "/home/me/state")
		if err == nil || !strings.Contains(err.Error(), "user 1001") || strings.Contains(err.Error(), "stasis umount") {
			t.Errorf("of %s: %v", source, err)
		}
	}
}
