package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"stasis/integration/harness"
	"stasis/store"
)

const (
	// conflictTime is how long a crook may refuse all that it is sent, and conflictFiles how
	// many files there are meanwhile.
	conflictTime  = 17 * time.Second
	conflictFiles = 20
	// mostMinted is how many ids of crates each file may cost.
	mostMinted = 2
	// gapTime is how long a crook says that events were missed and lists without an end, and
	// mostPages how many pages are asked for meanwhile.
	gapTime   = 6 * time.Second
	mostPages = 100
	// checkWithin bounds `stasis check` of a vault with few crates.
	checkWithin = 60 * time.Second
	// damageTime is how long a crook says that one crate is damaged, and mostResent how many
	// bytes of it may be sent again meanwhile.
	damageTime = 5 * time.Second
	mostResent = 4 * criedSize
	// criedSize is the size of that crate, in bytes.
	criedSize = 8 << 20
	// namedWithin is how soon the status names who gives wrong receipts.
	namedWithin = 30 * time.Second
	// forgedTime is how long forged receipts are given, when a vault must not believe them.
	forgedTime = 4 * time.Second
)

// nearPath is the directory of the honest node.
func nearPath(v *harness.Vault) string { return filepath.Join(v.Base, "near") }

// small writes files of one block or less and gives what is in them.
func small(t *testing.T, v *harness.Vault, n int, name string) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	for i := range n {
		content := harness.Bytes(uint64(i)+uint64(len(name))<<32, 1000+i*1000)
		all[fmt.Sprintf("%s%d", name, i)] = content
	}
	for name, content := range all {
		if err := os.WriteFile(v.Path(name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// isRight reads all files, each of which has to be what was written.
func isRight(t *testing.T, v *harness.Vault, when string, all map[string][]byte) {
	t.Helper()
	for name, want := range all {
		got, err := os.ReadFile(v.Path(name))
		if err != nil {
			t.Errorf("%s: %s can't be read: %v", when, name, err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s: %s has wrong bytes", when, name)
		}
	}
}

// aCopyNowhere fails for each file that counts a copy. It looks twice: the attributes come one
// after the other.
func aCopyNowhere(t *testing.T, v *harness.Vault, when string, all map[string][]byte) {
	t.Helper()
	wrong := 0
	for name := range all {
		n, state := v.Xattr("copies", name), v.Xattr("state", name)
		if n != "0" || state == "durable" {
			time.Sleep(200 * time.Millisecond)
			n, state = v.Xattr("copies", name), v.Xattr("state", name)
		}
		if n != "0" || state == "durable" {
			wrong++
			t.Logf("%s: %s is %s with %s copies on %q", when, name, state, n, v.Xattr("nodes", name))
		}
	}
	if wrong > 0 {
		t.Errorf("%s: %d of %d files count a copy that nobody vouches for", when, wrong, len(all))
	}
}

// onSecondTry breaks off the first attempt to put each crate, and lies in the next.
func onSecondTry(l untruth) untruth {
	var mu sync.Mutex
	tried := make(map[store.CrateID]bool)
	return untruth{name: l.name + ", at the second try", call: l.call, mutate: func(r *rand.Rand, a *said) {
		mu.Lock()
		again := tried[a.crate]
		tried[a.crate] = true
		mu.Unlock()
		if !again {
			a.err = &store.Error{Kind: store.Unavailable, Op: "put", Detail: "the link broke"}
			return
		}
		l.mutate(r, a)
	}}
}

// A receipt that fits together but is of other bytes is no copy. The body stays, the state is
// never durable, and what programs read is right: while the honest node is away, when it is
// back, and when only nodes are left to read from.
func TestPeerForgesReceipts(t *testing.T) {
	forge := named("receipt: sums of other bytes")[0]
	for _, protocol := range []string{"grpc", "http"} {
		for _, c := range []struct {
			name   string
			copies int
			large  bool
			lie    untruth
		}{
			{"one copy", 1, false, forge}, {"two copies", 2, false, forge}, {"large", 2, true, forge},
			{"large, second try", 1, true, onSecondTry(forge)},
			{"other size", 1, false, named("receipt: sums of a longer crate")[0]},
		} {
			t.Run(protocol+", "+c.name, func(t *testing.T) {
				t.Parallel()
				v, l := besideCrook(t, protocol, c.copies)
				place := localPlace(t, "near", nearPath(v))
				place.away()
				back := sync.OnceFunc(place.back)
				defer back()
				eventuallyNode(t, v, "near", "missing")
				l.be(newPlan(harness.Seed(t), 1, c.lie))
				all := make(map[string][]byte)
				if c.large {
					all["large"] = harness.Bytes(7, 5<<20+100)
					if err := os.WriteFile(v.Path("large"), all["large"], 0o644); err != nil {
						t.Fatal(err)
					}
				} else {
					all = small(t, v, 8, "f")
				}
				for end := time.Now().Add(forgedTime); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
					aCopyNowhere(t, v, "under forged receipts", all)
					if t.Failed() {
						break
					}
				}
				if n, _ := l.called(callPut); n == 0 {
					t.Error("nothing was sent to the crook")
				}
				v.Unmount()
				v.Start()
				isRight(t, v, "after a mount", all)
				back()
				eventuallyNode(t, v, "near", "online")
				harness.Eventually(t, returnLimit, "all files on the honest node", func() (bool, string) {
					for name := range all {
						if !strings.Contains(v.Xattr("nodes", name), "near") {
							return false, name + " is on " + v.Xattr("nodes", name) + ", " + v.Xattr("state", name)
						}
					}
					return true, ""
				})
				v.Unmount()
				forgetLocal(t, v)
				v.Start()
				isRight(t, v, "from the nodes alone", all)
				if n := logged(t, v, "retired"); n > 0 {
					t.Errorf("the log says %d times that a crate is retired", n)
				}
				v.Unmount()
			})
		}
	}
}

// Who gives wrong receipts twice is named by the status, soon.
func TestPeerThatForgesIsNamed(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			v, l := besideCrook(t, protocol, 2)
			l.be(newPlan(harness.Seed(t), 1, named("receipt: sums of other bytes")...))
			all := small(t, v, 4, "f")
			start := time.Now()
			harness.Eventually(t, namedWithin, "a status that names the crook", func() (bool, string) {
				n := v.Status().Node(t, "crook")
				text := v.OK("status", v.Point)
				if strings.ContainsAny(text, "\x1b\a\u009b\u202E") {
					t.Errorf("the status plays with the terminal: %q", text)
				}
				return n.LastError != "" && strings.Contains(strings.SplitN(text, "\n", 2)[0], "crook"), text
			})
			t.Logf("named after %s\n%s", time.Since(start).Round(time.Millisecond), v.OK("status", v.Point))
			isRight(t, v, "under forged receipts", all)
			v.Unmount()
		})
	}
}

// Conflict to each put retires nothing that is right: the crate goes elsewhere or waits, and
// no more ids are made than files were written.
func TestPeerSaysConflict(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			v, l := besideCrook(t, protocol, 2)
			l.be(newPlan(harness.Seed(t), 1, named("put: conflict, and is not done")...))
			all := small(t, v, conflictFiles, "f")
			time.Sleep(conflictTime)
			puts, minted := l.called(callPut)
			retired := logged(t, v, "retired")
			calls, _, received := l.figures()
			t.Logf("%d files in %s: %d ids of crates, %d puts, %d calls, %.1f MiB; the log says %d times that one is retired; inodes and crates at the honest node: %d",
				len(all), conflictTime, minted, puts, calls, mib(received), retired, v.Status().Node(t, "near").Crates)
			if minted > mostMinted*conflictFiles || retired > 0 {
				t.Errorf("%d ids were made for %d files, and %d crates retired", minted, conflictFiles, retired)
			}
			if n := v.Status().Node(t, "near").Crates; n != conflictFiles {
				t.Errorf("the honest node has %d crates of %d files", n, conflictFiles)
			}
			isRight(t, v, "under conflicts", all)
			v.Unmount()
			forgetLocal(t, v)
			v.Start()
			isRight(t, v, "from the nodes alone", all)
			v.Unmount()
		})
	}
}

// A list without an end, asked for as events were missed, ends all the same, and so does a
// check.
func TestPeerListsWithoutEnd(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		for _, how := range []string{"list: no end", "list: empty, and goes on", "list: the same again"} {
			t.Run(protocol+", "+how, func(t *testing.T) {
				t.Parallel()
				v, l := besideCrook(t, protocol, 2)
				all := small(t, v, 8, "f")
				v.Wait(time.Minute)
				before, _ := l.called(callList)
				l.be(newPlan(harness.Seed(t), 1, named(how, "event: gap")...))
				time.Sleep(gapTime)
				after, _ := l.called(callList)
				pages := after - before
				t.Logf("%d pages in %s", pages, gapTime)
				if pages > mostPages {
					t.Errorf("%d pages were asked for in %s, want at most %d", pages, gapTime, mostPages)
				}
				start := time.Now()
				r := v.StasisIn(harness.Command{Limit: checkWithin}, "check", v.Point)
				t.Logf("the check took %s, and ended with %d: %.300s", time.Since(start).Round(time.Millisecond), r.Code, r.Stdout)
				if took := time.Since(start); took > checkWithin {
					t.Errorf("the check took %s", took)
				}
				isRight(t, v, "under endless lists", all)
				v.Unmount()
			})
		}
	}
}

// One who says again and again that a crate is damaged does not have it sent again and again.
func TestPeerCriesDamage(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			v, l := besideCrook(t, protocol, 2)
			content := harness.Bytes(3, criedSize)
			// It has not got the crate, so that it takes all of it each time.
			l.be(newPlan(harness.Seed(t), 1, named("put: nothing is kept")...))
			if err := os.WriteFile(v.Path("large"), content, 0o644); err != nil {
				t.Fatal(err)
			}
			v.Wait(time.Minute)
			before, _, sent := l.figures()
			l.be(newPlan(harness.Seed(t), 1, named("put: nothing is kept", "event: damaged")[:2]...))
			time.Sleep(damageTime)
			calls, lies, received := l.figures()
			t.Logf("%d events in %s: %d calls, %.0f MiB sent again", lies, damageTime, calls-before, mib(received-sent))
			if received-sent > mostResent {
				t.Errorf("%.0f MiB were sent again, want at most %.0f", mib(received-sent), mib(mostResent))
			}
			l.be(nil)
			isRight(t, v, "under cries of damage", map[string][]byte{"large": content})
			drained(t, v, time.Minute)
			v.Unmount()
		})
	}
}
