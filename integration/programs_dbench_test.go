package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"stasis/integration/harness"
)

// dbenchLoad is what four clients of a file server did, from dbench's package.
const dbenchLoad = "/usr/share/dbench/client.txt"

// A file server for four clients runs on the vault, with attributes as Samba keeps them.
func TestDbench(t *testing.T) {
	soakProgram(t, "dbench")
	if _, err := os.Stat(dbenchLoad); err != nil {
		t.Skipf("this dbench has no load: %v", err)
	}
	v := twoNodes(t)
	seconds := harness.Count(3, 60)
	r := harness.Run(t, harness.Command{Args: []string{"dbench", "-c", dbenchLoad, "-D", v.Point, "-t", fmt.Sprint(seconds), "-x", "4"},
		Limit: time.Duration(seconds)*time.Second + time.Minute})
	said := r.Stdout + r.Stderr
	if r.Code != 0 || strings.Contains(said, "failed") || strings.Contains(said, "ERROR") {
		t.Error(r)
	}
	checked(t, v)
}
