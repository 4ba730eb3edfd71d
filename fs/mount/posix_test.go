package mount

import (
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// notOffered are the tests of go-fuse's suite that ask for what the mount does not
// have, with the reason.
var notOffered = map[string]string{
	// go-fuse leaves this one out on every filesystem.
	"FcntlFlockLocksFile": "it wants a POSIX lock to exclude the process that holds it",
}

// go-fuse's own suite: what programs rely on in any filesystem, each on a mount of its
// own.
func TestPosix(t *testing.T) {
	for name, run := range posixtest.All {
		t.Run(name, func(t *testing.T) {
			if why := notOffered[name]; why != "" {
				t.Skip(why)
			}
			run(t, newVault(t, Options{}).mnt())
		})
	}
}
