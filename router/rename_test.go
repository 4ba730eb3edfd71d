package router

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/ledger"
	"stasis/store/storetest/fault"
)

// refusing is a store whose fence fails: the disk drops out, or another mount has used it.
type refusing struct{ store.Store }

func (refusing) Fence(context.Context, []store.Token, store.Token, bool) error {
	return &store.Error{Kind: store.Conflict, Op: "fence", Detail: "another mount used it since"}
}

// A node was given another name in the configuration, its store opens and its fence fails. A start
// without the disk strikes no copy on it.
func TestRenamedNodeIsFenced(t *testing.T) {
	g := newRig(t, gib, gib)
	g.start()
	crates, _ := g.add(two, 4096, 300<<10)
	g.waitCopies(2, crates...)
	g.settledPositions()
	for _, c := range crates {
		g.bodies.drop(c.ID)
	}
	g.stop()

	moved := g.places[1]
	g.places = g.places[:1]
	spec := NodeSpec{Name: "renamed", Kind: "directory", Durable: true, Open: func(ctx context.Context, id store.NodeID) (store.Store, error) {
		st, err := moved.open(ctx, id)
		return refusing{st}, err
	}}
	g.extra = []NodeSpec{spec}
	g.start()
	g.until("it was tried", func() bool { return g.node("renamed").LastError != "" })
	g.stop()

	// The disk is away at the next start; then it is there again and all is well with it.
	moved.unplug(true)
	spec.Open = moved.open
	g.extra = []NodeSpec{spec}
	g.start()
	time.Sleep(AuditFirst + 2*time.Second)
	for _, c := range crates {
		m, err := g.r.Manifest(c.ID)
		if err != nil || len(m.Destinations) != 2 {
			t.Errorf("crate %s: %d destinations, %v: nobody removed a node", c.ID, len(m.Destinations), err)
		}
	}
	moved.unplug(false)
	g.until("it is back", func() bool { return g.node("renamed").State == Online })
	g.places[0].unplug(true)
	g.places[0].fault.Down()
	for _, c := range crates {
		if _, err := moved.mem.Stat(context.Background(), c.ID); err != nil {
			t.Fatal(err)
		}
		if err := g.read(c); err != nil {
			t.Errorf("the node has it, and it can't be read: %v", err)
		}
	}
}

// A node that gets another name while its copies are counted anew is counted under that.
func TestRenamedAmidCount(t *testing.T) {
	g := newRig(t, gib, gib)
	g.start()
	crates, _ := g.add(two, 4096)
	g.waitCopies(2, crates...)
	g.settledPositions()
	g.places[1].fault.Stall(fault.List, 0)
	n := g.r.byName("n1")
	g.r.mu.Lock()
	n.doubtAll(wasPutBack)
	g.r.mu.Unlock()
	n.rouse(wakeKeeper)
	g.until("it counts", func() bool { g.r.mu.Lock(); defer g.r.mu.Unlock(); return n.at.counting })
	time.Sleep(500 * time.Millisecond)
	specs := g.specs()
	specs[1].Name = "renamed"
	if err := g.r.SetNodes(specs); err != nil {
		t.Fatal(err)
	}
	g.until("online", func() bool { return g.r.byName("renamed") != nil && g.node("renamed").State == Online })
	g.places[1].fault.Heal()
	g.settledPositions()
	g.waitCopies(2, crates...)
}

// A peer that is in no configuration for the moment is added under another name, by its address, so
// that its id is not known before, and its fence fails. All is as it was before.
func TestAddNodeThatFails(t *testing.T) {
	g := newRig(t, gib, gib)
	g.start()
	crates, _ := g.add(two, 4096, 300<<10)
	g.waitCopies(2, crates...)
	g.settledPositions()
	for _, c := range crates {
		g.bodies.drop(c.ID)
	}
	specs := g.specs()
	if err := g.r.SetNodes(specs[:1]); err != nil { // the person has taken it out of vault.toml: its records are kept
		t.Fatal(err)
	}
	add := specs[1]
	add.Name = "renamed"
	open := add.Open
	add.Open = func(ctx context.Context, id store.NodeID) (store.Store, error) {
		st, err := open(ctx, id)
		return refusing{st}, err
	}
	if err := g.r.AddNode(context.Background(), add, store.NodeID{}); err == nil {
		t.Fatal("added")
	}
	if s := g.r.Status(context.Background()); len(s) != 2 || s[1].Name != specs[1].Name || s[1].ID.IsZero() {
		t.Errorf("the nodes after an add that has failed: %+v", s)
	}
	time.Sleep(AuditFirst)
	g.stop()
	g.places[1].unplug(true)
	g.start()
	time.Sleep(AuditFirst + time.Second)
	for _, c := range crates {
		m, err := g.r.Manifest(c.ID)
		if err != nil || len(m.Destinations) != 2 {
			t.Errorf("crate %s: %d destinations, %v: nobody removed a node", c.ID, len(m.Destinations), err)
		}
	}
}

// A kill after any update of the ledger while a node is given another name leaves a record of it.
func TestRenamedAndKilled(t *testing.T) {
	g := newRig(t, gib, gib)
	g.start()
	crates, _ := g.add(two, 4096)
	g.waitCopies(2, crates...)
	g.settledPositions()
	id := g.r.byName("n1").nodeID()
	g.stop()
	if err := g.db.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(g.dir, "ledger")
	var left []string
	o := ledger.Options{Gate: func(ledger.Position) {
		at := filepath.Join(g.dir, fmt.Sprintf("left%d", len(left)))
		if out, err := exec.Command("cp", "-a", dir, at).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		left = append(left, at)
	}}
	var err error
	if g.db, err = ledger.Open(dir, o); err != nil {
		t.Fatal(err)
	}
	g.places[1].name = "renamed"
	g.start()
	g.until("online", func() bool { return g.node("renamed").State == Online })
	g.stop()
	if len(left) < 3 {
		t.Errorf("%d updates", len(left))
	}
	for _, at := range left {
		db, err := ledger.Open(at, ledger.Options{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := New(Options{Ledger: db, Owner: g.owner(), Bodies: g.bodies, ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		if n := r.byID[id]; n == nil || n.name != "n1" && n.name != "renamed" || len(r.nodes) != 2 {
			t.Errorf("%s: %d nodes, %+v", at, len(r.nodes), n)
		}
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Where two nodes say that they are one store, the error says which of them may lie.
func TestSameStore(t *testing.T) {
	for name, c := range map[string]struct{ was, is, says string }{
		"two disks":            {"directory", "container", "remove one of them"},
		"a peer beside a disk": {"directory", "grpc", `node "second" lies`},
		"a disk beside a peer": {"grpc", "directory", `node "n0" lies`},
		"two peers":            {"http", "grpc", "one of them lies"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, gib)
			g.places[0].kind = c.was
			g.start()
			spec := g.specs()[0]
			spec.Name, spec.Kind = "second", c.is
			err := g.r.AddNode(context.Background(), spec, store.NodeID{})
			if store.KindOf(err) != store.Conflict || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}
