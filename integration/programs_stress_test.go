package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"stasis/integration/harness"
)

const (
	// stressEach is how long one stressor runs, and stressLimit bounds all of them: some
	// clear up for as long as they ran.
	stressEach  = 5 * time.Second
	stressLimit = 20 * time.Minute
)

// notOurs are the stressors of the class filesystem that say nothing of a mount.
var notOurs = []string{
	"bind-mount", // refused by stress-ng itself: it may hang a machine
	"binderfs",   // mounts a filesystem of its own, which few kernels have
	"io",         // syncs every filesystem of the machine, also those that other tests broke
}

// Everything that stress-ng knows to do to a filesystem, by root and by somebody whom
// permissions stop, is answered as it expects, and leaves nothing.
func TestStress(t *testing.T) {
	harness.NeedRoot(t)
	if !harness.Soak() {
		t.Skip("takes minutes; `make soak` runs it")
	}
	soakProgram(t, "stress-ng")
	for _, who := range []struct {
		name string
		as   []string
	}{{"root", nil}, {"nobody", byNobody}} {
		t.Run(who.name, func(t *testing.T) {
			v := forOthers(t)
			dir := ownedByNobody(t, v.Path("stress"))
			r := harness.Run(t, harness.Command{Dir: dir, Limit: stressLimit, Args: append(append([]string{}, who.as...),
				"stress-ng", "--class", "filesystem", "--exclude", strings.Join(notOurs, ","), "--seq", "0",
				"--timeout", fmt.Sprint(stressEach.Seconds()), "--verify", "--temp-path", dir)})
			if r.Code != 0 {
				t.Error(r)
			}
			if left := names(t, dir); len(left) > 0 {
				t.Errorf("left over: %q", left)
			}
			checked(t, v)
		})
	}
}
