package integration

import (
	"fmt"
	"os"
	"testing"

	"stasis/integration/harness"
)

// A peer that lies when it is invited is refused, or is a node whose lies count for nothing:
// the honest node stays the one that it is, and keeps what is written.
func TestPeerLiesWhenInvited(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			seed := harness.Seed(t)
			v := harness.NewVault(t)
			v.Settings("copies = 1\n")
			v.Start()
			v.OK("node", "add", v.Point, "near", "directory", nearPath(v))
			near := v.Status().Node(t, "near").ID
			all := map[string][]byte{}
			for i, l := range append(redeemLies, named("status: ", "fence: ")...) {
				c := newCrook(t)
				c.besides(t, near)
				c.be(newPlan(seed+uint64(i), 1, l))
				name := fmt.Sprintf("crook%d", i)
				r := v.Stasis("node", "add", v.Point, name, "peer", c.invitation(t), "--protocol", protocol)
				plain(t, l.name, r.Stdout+r.Stderr)
				t.Logf("%s: exit code %d: %.200s", l.name, r.Code, r.Stdout+r.Stderr)
				all[name] = harness.Bytes(seed+uint64(i), 5000)
				if err := os.WriteFile(v.Path(name), all[name], 0o644); err != nil {
					t.Fatal(err)
				}
				s := v.Status()
				if n := s.Node(t, "near"); n.ID != near || n.State != "online" {
					t.Errorf("%s: the honest node is %+v", l.name, n)
				}
				c.be(nil)
				if r.Code == 0 {
					if r := v.Stasis("node", "remove", v.Point, name, "--force"); r.Code != 0 {
						t.Errorf("%s: %v", l.name, r)
					}
				}
			}
			isRight(t, v, "after all", all)
			drained(t, v, settleWithin)
			v.Unmount()
		})
	}
}
