package fs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"stasis/fs/extent"
	"stasis/router"
	"stasis/store"
)

func (v *vault) crateOf(name string) (id store.CrateID) {
	v.t.Helper()
	in, err := v.find(name)
	must(v.t, err)
	must(v.t, v.eachExtent(in.List, func(e extent.Extent) error { id = e.Crate; return nil }))
	return id
}

// Replaced content is kept while the new has no copy at all, whatever has become of its places.
func TestReplacedIsKeptWithoutACopyOfTheNew(t *testing.T) {
	for name, c := range map[string]struct {
		nodes int
		lose  func(v *vault)
	}{
		// That a peer says Conflict is its word alone.
		"refused": {1, func(v *vault) {
			v.nodes[0].refuses.Store(true)
			v.overwrite("x", pattern(8192, 2))
		}},
		"removed": {2, func(v *vault) {
			b := v.nodes[1]
			b.hold.Store(1 << 20)
			v.policy.Avoid = []string{"a"}
			was := v.crateOf("x")
			v.overwrite("x", pattern(8192, 2))
			v.eventually("it is sealed", func() bool { return v.crateOf("x") != was })
			time.Sleep(time.Second)
			r, err := v.rt.RemoveNode(v.t.Context(), "b", true, false)
			if err != nil || !r.Removed {
				v.t.Fatalf("%+v, %v", r, err)
			}
			must(v.t, v.NodeRemoved())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			v := &vault{t: t, dir: t.TempDir(), policy: router.Policy{Copies: 1, Least: 1}}
			for i := range c.nodes {
				v.addNode(string(rune('a'+i)), 64*mib).kind = "grpc"
			}
			v.start()
			t.Cleanup(v.kill)
			if c.nodes > 1 {
				v.policy.Avoid = []string{"b"}
			}
			v.put("x", pattern(8192, 1))
			v.wait()
			was := v.crateOf("x")
			c.lose(v)
			v.eventually("it is sealed", func() bool { return v.crateOf("x") != was })
			time.Sleep(4 * time.Second)
			m, err := v.rt.Manifest(v.crateOf("x"))
			must(t, err)
			if _, err := v.nodes[0].Store.Stat(t.Context(), was); m.Copies() == 0 && err != nil {
				t.Errorf("the new content is at %+v, and the old was discarded: %v", m.Destinations, err)
			}
		})
	}
}

// A wait says that all have their copies when all have them, not when each once had.
func TestWaitLooksAgainAtWhatWasReached(t *testing.T) {
	v := newVault(t, 2, 64*mib, 64*mib)
	n := v.nodes[1]
	v.put("x", pattern(4096, 1))
	v.wait()
	x := v.crateOf("x")
	n.hold.Store(1 << 20)
	v.put("y", pattern(8192, 2))
	waits := make(chan struct{}, 1)
	type result struct {
		out WaitOutcome
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := v.Wait(context.Background(), WaitRequest{Paths: []string{"/"}, Progress: func(files, _ int64) {
			select {
			case waits <- struct{}{}:
			default:
			}
		}})
		done <- result{out, err}
	}()
	<-waits
	must(t, n.Store.Discard(t.Context(), store.DiscardRequest{Crate: x}))
	_, err := v.rt.Check(t.Context(), false, func(router.Finding) {})
	must(t, err)
	if s := v.safety("x"); s.Copies != 1 {
		t.Fatalf("after the check x is %+v", s)
	}
	n.hold.Store(4096) // y goes through; x is held
	time.Sleep(2 * time.Second)
	select {
	case r := <-done:
		t.Errorf("the wait ended with %+v, %v; x is %+v", r.out, r.err, v.safety("x"))
	default:
		n.hold.Store(0)
		if r := <-done; r.err != nil || r.out.Outcome != Reached {
			t.Errorf("the wait ended with %+v, %v", r.out, r.err)
		}
	}
}

// A wait amid many writers of an open file says that it has its copies when what they had written
// before has them.
func TestWaitAmidWriters(t *testing.T) {
	for round := range 3 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			v := newVault(t, 1, 512*mib)
			h := v.create("f")
			ctx, stop := context.WithCancel(t.Context())
			var writers sync.WaitGroup
			for i := range 8 {
				writers.Go(func() {
					rng := rand.New(rand.NewPCG(uint64(round), uint64(i)))
					for ctx.Err() == nil {
						if _, err := h.WriteAt(t.Context(), pattern(4096, byte(i)), rng.Int64N(16*mib/4096)*4096, false); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			time.Sleep(300 * time.Millisecond)
			limit, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			out, err := v.Wait(limit, WaitRequest{Paths: []string{"/"}})
			cancel()
			s := v.safety("f")
			stop()
			writers.Wait()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v; %+v", out, s)
			n := int64(0)
			for _, st := range v.rt.Status(t.Context()) {
				n += st.Crates
			}
			if out.Outcome == Reached && n == 0 {
				t.Error("a wait says that all have their copies, and no node has anything")
			}
			if out.Outcome != Reached {
				t.Errorf("the wait did not end in %s: %+v", 30*time.Second, out)
			}
			v.close(h)
			v.wait()
		})
	}
}
