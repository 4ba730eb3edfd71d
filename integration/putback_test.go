package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stasis/integration/harness"
)

// as copies files and directories as they are, in place of what is there.
func as(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// A place that was put back from a copy made before, while the vault was away or below it, is not
// up to date and not said to be: what it lacks is made again before `wait` is content, and it can be
// the only place from then on. That goes for what a peer's crates lie on, too.
func TestPlacePutBack(t *testing.T) {
	for _, kind := range []string{"directory", "container", "peer"} {
		for _, running := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/running=%v", kind, running), func(t *testing.T) {
				t.Parallel()
				if kind == "peer" && running {
					t.Skip("a peer that runs is put back when it is stopped")
				}
				v := harness.NewVault(t)
				v.Settings("copies = 2\n")
				v.Start()
				disk := filepath.Join(v.Base, "disk")
				v.OK("node", "add", v.Point, "near", "directory", disk)
				back := filepath.Join(v.Base, "back")
				var p *harness.Peer
				switch kind {
				case "directory":
					v.OK("node", "add", v.Point, "back", kind, back)
				case "container":
					v.OK("node", "add", v.Point, "back", kind, back, "--capacity", "200MiB")
				default:
					p = harness.NewPeer(t)
					p.Start()
					addPeer(t, v, "back", p, "grpc")
					back = filepath.Join(p.State, "nodes", "default")
				}
				harness.Write(t, "old\n", v.Point, "old")
				v.Wait(time.Minute)
				stop := func() {
					v.Unmount()
					if p != nil {
						p.Stop()
					}
				}
				start := func() {
					if p != nil {
						p.Start()
					}
					v.Start()
				}
				stop()
				kept := filepath.Join(v.Base, "kept")
				as(t, back, kept)
				start()
				for i := range 20 {
					harness.Write(t, fmt.Sprintf("new %d\n", i), v.Point, fmt.Sprint("new", i))
				}
				v.Wait(time.Minute)
				if running {
					as(t, kept, back+".new")
					if err := os.Rename(back, back+".gone"); err != nil {
						t.Fatal(err)
					}
					if err := os.Rename(back+".new", back); err != nil {
						t.Fatal(err)
					}
					harness.Eventually(t, returnLimit, "the node being told apart", func() (bool, string) {
						n := v.Status().Node(t, "back")
						return n.LastError != "" || strings.Contains(v.Log(), "counted anew"), n.LastError
					})
				} else {
					stop()
					as(t, kept, back)
					start()
					eventuallyNode(t, v, "back", "online")
				}
				harness.Eventually(t, returnLimit, "all being there again", func() (bool, string) {
					r := v.Stasis("wait", "--timeout", "20s", v.Point)
					n := v.Status().Node(t, "back")
					calm := n.LastError == "" || strings.Contains(n.LastError, "found damaged") // a peer tells of what it has lost
					return r.Code == 0 && n.Crates == 21 && calm, r.String() + n.LastError
				})
				everyFileHas(t, v, 2)
				v.Unmount()
				forgetLocal(t, v)
				if err := os.Rename(disk, disk+".away"); err != nil {
					t.Fatal(err)
				}
				v.Start()
				eventuallyNode(t, v, "back", "online")
				for i := range 20 {
					text, err := os.ReadFile(v.Path(fmt.Sprint("new", i)))
					if want := fmt.Sprintf("new %d\n", i); err != nil || string(text) != want {
						t.Errorf("%q, %v", text, err)
					}
				}
				v.Unmount()
			})
		}
	}
}

// A disk that turns read-only is said to take nothing, soon, with the reason, and `wait` doesn't run
// to its timeout; nothing is tried without end meanwhile.
func TestDiskTurnsReadOnly(t *testing.T) {
	for _, kind := range []string{"directory", "container"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			disk := harness.NewDisk(t, "ext4", 512<<20)
			v := harness.NewVault(t)
			v.Settings("copies = 2\n")
			v.Start()
			v.OK("node", "add", v.Point, "near", "directory", filepath.Join(v.Base, "near"))
			args := []string{"node", "add", v.Point, "bad", kind, filepath.Join(disk.Point, "place")}
			if kind == "container" {
				args = append(args, "--capacity", "200MiB")
			}
			v.OK(args...)
			harness.Write(t, "before\n", v.Point, "before")
			v.Wait(time.Minute)
			if out, err := exec.Command("mount", "-o", "remount,abort", disk.Point).CombinedOutput(); err != nil {
				t.Logf("%v: %s", err, out)
			}
			for i := range 50 {
				harness.Write(t, strings.Repeat("x", 10000), v.Point, fmt.Sprint("after", i))
			}
			begun := time.Now()
			harness.Eventually(t, returnLimit, "the node being said to take nothing", func() (bool, string) {
				n := v.Status().Node(t, "bad")
				return strings.Contains(n.LastError, "takes nothing") && strings.Contains(n.LastError, "read-only"), n.LastError
			})
			t.Logf("told after %s", time.Since(begun).Round(100*time.Millisecond))
			v.Fails(4, []string{"read-only"}, "wait", "--timeout", "60s", v.Point)
			before := cpuOf(t, v.PID())
			time.Sleep(10 * time.Second)
			if used := cpuOf(t, v.PID()) - before; used > 2*time.Second {
				t.Errorf("the daemon has used %s of a processor in ten seconds", used)
			}
			v.Unmount()
		})
	}
}
