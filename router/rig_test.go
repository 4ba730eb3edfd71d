package router

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/ledger"
	"stasis/store/memory"
	"stasis/store/storetest"
	"stasis/store/storetest/fault"
)

// rig is a router with memory nodes that claim to be durable, so that their copies
// count, and that outlive it: what it is tested against.
type rig struct {
	t      testing.TB
	dir    string
	db     *ledger.DB
	r      *Router
	gen    *storetest.Gen
	bodies *bodies
	seen   *observer
	places []*spot
	extra  []NodeSpec
	clock  Clock
	cache  string // its directory; empty: none
	rate   int64  // of every node
}

// spot is one place with a node.
type spot struct {
	name  string
	zone  string
	mem   *memory.Store
	fault *fault.Store
	kind  string // empty: directory
	wrap  func(store.Store) store.Store

	mu      sync.Mutex
	missing bool
}

// lasting is a memory store that says it is durable and is not closed with the router.
type lasting struct{ store.Store }

func (l lasting) Status(ctx context.Context) (store.Status, error) {
	s, err := l.Store.Status(ctx)
	s.Durable = true
	return s, err
}

func (l lasting) Close() error { return nil }

func (p *spot) unplug(missing bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.missing = missing
}

func (p *spot) open(context.Context, store.NodeID) (store.Store, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.missing {
		return nil, &store.Error{Kind: store.Unavailable, Op: "open node", Detail: "no marker"}
	}
	if p.wrap != nil {
		return p.wrap(lasting{p.fault}), nil
	}
	return lasting{p.fault}, nil
}

// bodies are files in a directory.
type bodies struct {
	dir string
	mu  sync.Mutex
	has map[store.CrateID]Body
}

func (b *bodies) Body(c store.CrateID) (Body, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if x, ok := b.has[c]; ok {
		return x, nil
	}
	return Body{}, &store.Error{Kind: store.NotFound, Op: "find body"}
}

func (b *bodies) add(t testing.TB, c storetest.Crate) {
	t.Helper()
	path := filepath.Join(b.dir, c.ID.String())
	if err := os.WriteFile(path, c.Data, 0o600); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.has[c.ID] = Body{Path: path, Size: int64(len(c.Data)), Adoptable: true}
}

func (b *bodies) have(c store.CrateID) bool {
	_, err := b.Body(c)
	return err == nil
}

func (b *bodies) there(c store.CrateID) bool {
	x, err := b.Body(c)
	if err != nil {
		return false
	}
	_, err = os.Lstat(x.Path)
	return err == nil
}

func (b *bodies) drop(c store.CrateID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if x, ok := b.has[c]; ok {
		_ = os.Remove(x.Path)
	}
	delete(b.has, c)
}

// observer notes what it is told.
type observer struct {
	mu      sync.Mutex
	placed  map[store.CrateID]Manifest
	retired map[store.CrateID]bool
	rotten  map[store.CrateID]bool
	adopted map[store.CrateID]store.NodeID
	changes int
}

func (o *observer) ReceivedTx(*ledger.Tx, *Manifest, bool) (bool, error) { return false, nil }

func (o *observer) Placed(ms []Manifest) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range ms {
		o.placed[m.Crate] = m
	}
	return nil
}

func (o *observer) Adopted(c store.CrateID, n store.NodeID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.adopted[c] = n
}

func (o *observer) Retired(m Manifest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.retired[m.Crate] = true
}

func (o *observer) Rotten(c store.CrateID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rotten[c] = true
}

func (o *observer) Counted() {}

func (o *observer) NodesChanged() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changes++
}

// newRig makes a rig with nodes of the given capacities, in bytes.
func newRig(t testing.TB, capacities ...int64) *rig {
	t.Helper()
	g := &rig{t: t, dir: t.TempDir(), gen: storetest.NewGen(storetest.Seed(t)), clock: System}
	g.bodies = &bodies{dir: filepath.Join(g.dir, "bodies"), has: make(map[store.CrateID]Body)}
	if err := os.Mkdir(g.bodies.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i, c := range capacities {
		g.place(fmt.Sprintf("n%d", i), c)
	}
	db, err := ledger.Open(filepath.Join(g.dir, "ledger"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g.db = db
	t.Cleanup(func() {
		g.stop()
		if err := g.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *rig) place(name string, capacity int64) *spot {
	g.t.Helper()
	m, err := memory.New(capacity, memory.Options{})
	if err != nil {
		g.t.Fatal(err)
	}
	p := &spot{name: name, mem: m, fault: fault.Wrap(m)}
	g.places = append(g.places, p)
	return p
}

func (g *rig) specs() []NodeSpec {
	var out []NodeSpec
	for _, p := range g.places {
		kind := "directory"
		if p.kind != "" {
			kind = p.kind
		}
		out = append(out, NodeSpec{Name: p.name, Kind: kind, Zone: p.zone, Durable: true, Rate: g.rate, Open: p.open})
	}
	return append(out, g.extra...)
}

// start makes and starts a router on the ledger.
func (g *rig) start(plans ...Plan) {
	g.t.Helper()
	g.seen = &observer{placed: make(map[store.CrateID]Manifest), retired: make(map[store.CrateID]bool), rotten: make(map[store.CrateID]bool), adopted: make(map[store.CrateID]store.NodeID)}
	r, err := New(Options{Ledger: g.db, Owner: g.owner(), Bodies: g.bodies, BodyDir: g.bodies.dir, Observer: g.seen, Clock: g.clock, CacheDir: g.cache, CacheFloor: 1})
	if err != nil {
		g.t.Fatal(err)
	}
	if err := r.SetNodes(g.specs()); err != nil {
		g.t.Fatal(err)
	}
	for _, p := range plans {
		r.Restore(p)
	}
	if err := r.Start(context.Background()); err != nil {
		g.t.Fatal(err)
	}
	g.r = r
}

func (g *rig) stop() {
	if g.r == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), CloseLimit)
	defer cancel()
	if err := g.r.Close(ctx); err != nil {
		g.t.Error(err)
	}
	g.r = nil
}

// add hands crates of one content to the router, as the filesystem does.
func (g *rig) add(p Policy, sizes ...int) ([]storetest.Crate, Plan) {
	g.t.Helper()
	var crates []storetest.Crate
	bytes := int64(0)
	for _, s := range sizes {
		c := g.gen.Crate(s)
		c.ID = store.NewCrateID()
		crates = append(crates, c)
		bytes += c.Charge()
		g.bodies.add(g.t, c)
	}
	plan, err := g.r.Draw(context.Background(), DrawRequest{Policy: p, Bytes: bytes})
	if err != nil {
		g.t.Fatal(err)
	}
	if err := g.enqueue(plan, crates...); err != nil {
		g.t.Fatal(err)
	}
	return crates, plan
}

func (g *rig) enqueue(plan Plan, crates ...storetest.Crate) error {
	var added []Added
	for _, c := range crates {
		if err := g.register(plan, c); err != nil {
			return err
		}
		_, err := g.db.Space(ledger.Local).Update(func(tx *ledger.Tx) error {
			a, err := g.r.EnqueueTx(tx, c.ID, int64(len(c.Data)), plan)
			added = append(added, a)
			return err
		})
		if err != nil {
			return err
		}
	}
	g.r.Handover(plan, added...)
	return nil
}

func (g *rig) register(plan Plan, c storetest.Crate) error {
	_, err := g.db.Space(ledger.Shared).Update(func(tx *ledger.Tx) error {
		return g.r.RegisterTx(tx, NewCrate{ID: c.ID, Size: int64(len(c.Data)), Origin: 7, Plan: plan})
	})
	return err
}

func (g *rig) kill(ids ...store.CrateID) {
	g.t.Helper()
	for _, id := range ids {
		_, err := g.db.Space(ledger.Shared).Update(func(tx *ledger.Tx) error {
			_, err := g.r.DeadTx(tx, id, DeadKeys)
			return err
		})
		if err != nil {
			g.t.Fatal(err)
		}
		g.bodies.drop(id)
	}
	g.r.Kick()
}

// until polls for a condition.
func (g *rig) until(what string, ok func() bool) {
	g.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			for _, s := range g.r.Status(context.Background()) {
				g.t.Logf("%+v", s)
			}
			g.t.Fatalf("not in time: %s", what)
		}
	}
}

func (g *rig) copies(id store.CrateID) int {
	m, err := g.r.Manifest(id)
	if err != nil {
		return -1
	}
	return m.Copies()
}

func (g *rig) waitCopies(n int, crates ...storetest.Crate) {
	g.t.Helper()
	for _, c := range crates {
		g.until(fmt.Sprintf("%d copies of %s", n, c.ID), func() bool { return g.copies(c.ID) == n })
	}
}

// read reads a crate in full and compares.
func (g *rig) read(c storetest.Crate) error {
	p := make([]byte, len(c.Data))
	n, err := g.r.ReadAt(context.Background(), c.ID, p, 0)
	if err != nil {
		return err
	}
	if n != len(p) || string(p) != string(c.Data) {
		return errors.New("other bytes than were written")
	}
	return nil
}

// leak compares what the router believes is promised, and what the nodes have
// reserved, with what should be: called when nothing is under way and no plan held.
func (g *rig) leak() error {
	g.r.mu.Lock()
	defer g.r.mu.Unlock()
	for _, n := range g.r.nodes {
		if n.grant.promised != 0 || n.grant.resident != 0 {
			return fmt.Errorf("node %s: promised %d, resident %d", n.name, n.grant.promised, n.grant.resident)
		}
		for _, q := range n.queue {
			if q.crates != 0 || q.bytes != 0 {
				return fmt.Errorf("node %s: queue %+v", n.name, n.queue)
			}
		}
	}
	return nil
}

// room is what the router thinks its grants leave it.
func (g *rig) room() (sum int64) {
	g.r.mu.Lock()
	defer g.r.mu.Unlock()
	for _, n := range g.r.nodes {
		sum += n.grant.room()
	}
	return sum
}

func status(t testing.TB, p *spot) store.Status {
	t.Helper()
	s, err := p.mem.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
