package router

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/storetest/fault"
)

// A node that answers and takes nothing is said to, soon, and costs a few calls a minute, whatever
// kind of calls it is that fail; it is not chosen, and gets what is meant for it when it takes
// things again.
func TestRefusingNode(t *testing.T) {
	readOnly := &store.Error{Kind: store.Unavailable, Op: "write", Detail: "read-only file system"}
	for name, ops := range map[string][]fault.Op{
		"puts":     {fault.Put},
		"space":    {fault.Reserve, fault.Renew, fault.Release},
		"discards": {fault.Discard},
		"all":      {fault.Put, fault.Reserve, fault.Renew, fault.Release, fault.Discard},
	} {
		t.Run(name, func(t *testing.T) {
			farRig(t, 3, func(g *rig, links []*link) {
				for _, p := range g.places {
					p.kind = ""
				}
				g.start()
				before, _ := g.add(two, 4096, 3*mib)
				g.waitCopies(2, before...)
				bad := g.places[0]
				for _, op := range ops {
					bad.fault.Fail(op, 0, readOnly)
				}
				g.kill(before[0].ID)
				crates, _ := g.add(Policy{Copies: 3}, 4096, 3*mib)
				time.Sleep(10 * time.Second)
				s := g.node(bad.name)
				if s.State != Online || !s.Refuses || !strings.Contains(s.LastError, "read-only") {
					t.Errorf("after ten seconds: %+v", s)
				}
				calls := bad.calls()
				time.Sleep(5 * time.Minute)
				// It is asked for its status every three seconds, and for each kind at most once in some.
				if n := bad.calls() - calls; n > 5*60*3 {
					t.Errorf("%d calls in five minutes", n)
				}
				if plan, err := g.r.Draw(context.Background(), DrawRequest{Policy: two, Bytes: 4096}); err != nil || len(plan.Targets) != 2 ||
					plan.Targets[0].Node == s.ID || plan.Targets[1].Node == s.ID {
					t.Errorf("%+v, %v", plan, err)
				} else {
					g.r.Return(plan)
				}
				bad.fault.Heal()
				g.waitCopies(3, crates...)
				g.until("all is well", func() bool { s := g.node(bad.name); return s.LastError == "" && !s.Refuses })
				g.until("no leak", func() bool { return g.leak() == nil })
			})
		})
	}
}

// calls is how many calls of any kind a place has had.
func (p *spot) calls() (n int) {
	for _, op := range []fault.Op{fault.Reserve, fault.Renew, fault.Release, fault.Put, fault.Open, fault.Verify, fault.Stat, fault.Discard, fault.List, fault.Status} {
		n += p.fault.Calls(op)
	}
	return n
}

// forgetful denies a mount that it was not told of since it forgot.
type forgetful struct {
	store.Store
	told   *atomic.Bool
	fences *atomic.Int64
}

func (f forgetful) Fence(context.Context, []store.Token, store.Token, bool) error {
	f.fences.Add(1)
	f.told.Store(true)
	return nil
}

func (f forgetful) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	if !f.told.Load() {
		return nil, &store.Error{Kind: store.Denied, Op: "put", Detail: "another mount has used it since"}
	}
	return f.Store.Put(ctx, r)
}

// A node that denies a mount which it had taken, as one put back from a backup does, is told again
// which mount it is; one that goes on denying is told so now and then.
func TestNodeThatForgetsTheMount(t *testing.T) {
	farRig(t, 2, func(g *rig, _ []*link) {
		var told atomic.Bool
		var fences atomic.Int64
		bad := g.places[1]
		bad.wrap = func(s store.Store) store.Store { return forgetful{s, &told, &fences} }
		g.start()
		before, _ := g.add(two, 4096)
		g.waitCopies(2, before...)
		told.Store(false)
		crates, _ := g.add(two, 4096, 5000)
		g.waitCopies(2, crates...)
		if s := g.node(bad.name); s.State != Online || s.LastError != "" {
			t.Errorf("afterwards: %+v", s)
		}
		bad.fault.Fail(fault.Put, 0, &store.Error{Kind: store.Denied, Op: "put", Detail: "no"})
		n := fences.Load()
		crates, _ = g.add(two, 4096)
		time.Sleep(30 * time.Minute)
		if n := fences.Load() - n; n < 2 || n > 15 {
			t.Errorf("it was told %d times in half an hour", n)
		}
		bad.fault.Heal()
		g.waitCopies(2, crates...)
	})
}
