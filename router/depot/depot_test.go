package depot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stasis/router"
	"stasis/store"
	"stasis/store/directory"
	"stasis/store/ledger"
	"stasis/store/storetest"
)

var owner = store.OwnerID{1, 2, 3}

// rig is a depot over directories, which outlive it, and its ledger.
type rig struct {
	t      testing.TB
	dir    string
	id     store.NodeID
	db     *ledger.DB
	s      *Store
	policy router.Policy
	clock  *storetest.Clock
	specs  []router.NodeSpec
	ids    []store.NodeID
	away   []atomic.Bool
}

func newRig(t testing.TB, nodes int, capacity int64, policy router.Policy, clock *storetest.Clock) *rig {
	t.Helper()
	g := &rig{t: t, dir: t.TempDir(), id: store.NewNodeID(), policy: policy, clock: clock, away: make([]atomic.Bool, nodes)}
	for i := range nodes {
		path := g.node(i)
		id, err := directory.Create(path, owner, capacity, directory.Options{})
		if err != nil {
			t.Fatal(err)
		}
		g.ids = append(g.ids, id)
		g.specs = append(g.specs, router.NodeSpec{Name: fmt.Sprintf("n%d", i), Kind: "directory", Durable: true,
			Open: func(ctx context.Context, want store.NodeID) (store.Store, error) {
				if g.away[i].Load() {
					return nil, &store.Error{Kind: store.Unavailable, Op: "open node", Detail: "it is away"}
				}
				s, err := directory.Open(ctx, path, want, owner, directory.Options{})
				if err != nil {
					return nil, err
				}
				return s, nil
			}})
	}
	g.open()
	return g
}

func (g *rig) node(i int) string { return filepath.Join(g.dir, fmt.Sprintf("node%d", i)) }

func (g *rig) open() {
	g.t.Helper()
	var err error
	if g.db, err = ledger.Open(filepath.Join(g.dir, "ledger"), ledger.Options{}); err != nil {
		g.t.Fatal(err)
	}
	o := Options{Ledger: g.db, Owner: owner, ID: g.id, Dir: filepath.Join(g.dir, "bodies"), Policy: g.policy, Nodes: g.specs}
	if g.clock != nil {
		o.Clock = g.clock
	}
	if g.s, err = Open(context.Background(), o); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(g.closeLedger)
	opened := g.s
	g.t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			g.t.Error(err)
		}
	})
}

func (g *rig) closeLedger() {
	if err := g.db.Close(); err != nil {
		g.t.Error(err)
	}
}

func (g *rig) reopen() *Store {
	g.t.Helper()
	if err := g.s.Close(); err != nil {
		g.t.Fatal(err)
	}
	g.closeLedger()
	g.open()
	return g.s
}

// damage flips a byte of the copy on a node.
func (g *rig) damage(i int, id store.CrateID, offset int64) {
	g.t.Helper()
	found := ""
	_ = filepath.Walk(g.node(i), func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() && strings.HasPrefix(filepath.Base(path), id.String()) {
			found = path
		}
		return err
	})
	f, err := os.OpenFile(found, os.O_RDWR, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		g.t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], offset); err != nil {
		g.t.Fatal(err)
	}
}

// A depot is a store as any other, with one node and with two copies.
func TestStore(t *testing.T) {
	for _, copies := range []int{1, 2} {
		t.Run(fmt.Sprint(copies), func(t *testing.T) {
			storetest.Run(t, storetest.Factory{New: func(t testing.TB, o storetest.Options) *storetest.Instance {
				g := newRig(t, copies, o.Capacity, router.Policy{Copies: copies, Least: copies}, o.Clock)
				adopt := filepath.Join(g.dir, "spool")
				if err := os.Mkdir(adopt, 0o700); err != nil {
					t.Fatal(err)
				}
				return &storetest.Instance{
					Store: g.s, AdoptDir: adopt, Leaves: copies, Settles: true,
					Reopen: func(testing.TB) store.Store { return g.reopen() },
					Damage: func(t testing.TB, id store.CrateID, offset int64) {
						for i := range copies {
							g.damage(i, id, offset)
						}
					},
				}
			}})
		})
	}
}

// put stores one crate under a reservation of its own.
func (g *rig) put(c storetest.Crate) []store.Receipt {
	g.t.Helper()
	id := store.NewReservationID()
	if _, err := g.s.Reserve(g.t.Context(), store.ReserveRequest{ID: id, Bytes: c.Charge()}); err != nil {
		g.t.Fatal(err)
	}
	receipts, err := g.s.Put(g.t.Context(), c.Put(id))
	if err != nil {
		g.t.Fatal(err)
	}
	return receipts
}

func (g *rig) has(c storetest.Crate) {
	g.t.Helper()
	rc, err := g.s.Open(g.t.Context(), c.ID, 0, -1)
	if err != nil {
		g.t.Fatal(err)
	}
	defer rc.Close()
	if p, err := io.ReadAll(rc); err != nil || !bytes.Equal(p, c.Data) {
		g.t.Errorf("read %d bytes, %v; want %d", len(p), err, len(c.Data))
	}
}

// copiesBecome waits until a crate has so many copies, and gives its receipts as a repeat does.
func (g *rig) copiesBecome(c storetest.Crate, want int) []store.Receipt {
	g.t.Helper()
	root := c.Root()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		receipts, err := g.s.Put(g.t.Context(), store.PutRequest{Crate: c.ID, Size: int64(len(c.Data)), Expect: &root})
		if err == nil && len(receipts) == want {
			return receipts
		}
		if time.Now().After(end) {
			g.t.Fatalf("%d receipts, %v; want %d", len(receipts), err, want)
		}
	}
}

// A node that is away holds nothing up, gets its copy when it is back, and is told of; any
// one of them then has everything.
func TestNodeThatIsAway(t *testing.T) {
	gen := storetest.NewGen(storetest.Seed(t))
	g := newRig(t, 2, 64<<20, router.Policy{Copies: 2}, nil)
	first := gen.Crate(3 << 20)
	if got := g.put(first); len(got) != 2 {
		t.Errorf("%d receipts with both nodes there", len(got))
	}
	g.away[1].Store(true)
	g.reopen()
	second := gen.Crate(3 << 20)
	begun := time.Now()
	if got := g.put(second); len(got) != 1 || got[0].Leaf != g.ids[0] {
		t.Errorf("receipts with a node away: %+v", got)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("a put beside a node that is away took %s", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	heard := make(chan store.Event, 100)
	go func() {
		_ = g.s.Events(ctx, store.Cursor{}, func(e store.Event) error { heard <- e; return nil }) // it ends with ctx
	}()
	g.away[1].Store(false)
	g.copiesBecome(second, 2)
	for told := false; !told; {
		select {
		case e := <-heard:
			told = e.Kind == store.EventCopies && e.Crate != nil && *e.Crate == second.ID
		case <-time.After(10 * time.Second):
			t.Fatal("nobody was told of the second copy")
		}
	}
	g.away[0].Store(true)
	g.reopen()
	g.has(first)
	g.has(second)
}

// What was sent and got no receipt is not there after a restart, and leaves nothing.
func TestNothingWithoutAReceiptIsKept(t *testing.T) {
	gen := storetest.NewGen(storetest.Seed(t))
	g := newRig(t, 1, 64<<20, router.Policy{Copies: 1}, nil)
	kept, lost := gen.Crate(100), gen.Crate(2<<20)
	g.put(kept)
	// As a crash leaves it that comes before the first byte is sent.
	id := store.NewReservationID()
	if _, err := g.s.Reserve(t.Context(), store.ReserveRequest{ID: id, Bytes: lost.Charge()}); err != nil {
		t.Fatal(err)
	}
	_, plan, err := g.s.take(t.Context(), id, lost.Charge())
	if err != nil {
		t.Fatal(err)
	}
	_, err = g.s.shared.Update(func(tx *ledger.Tx) error {
		return g.s.router.RegisterTx(tx, router.NewCrate{ID: lost.ID, Size: int64(len(lost.Data)), Plan: plan})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(g.dir, "bodies", lost.ID.String()), lost.Data, 0o600); err != nil {
		t.Fatal(err)
	}
	g.reopen()
	g.has(kept)
	if _, err := g.s.Stat(t.Context(), lost.ID); !errors.Is(err, store.NotFound) {
		t.Errorf("stat: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(g.dir, "bodies")); err != nil || len(left) > 0 {
		t.Errorf("%d bodies are left, %v", len(left), err)
	}
	if st, err := g.s.Status(t.Context()); err != nil || st.Crates != 1 || st.Used != kept.Charge() || st.Reserved != lost.Charge() {
		t.Errorf("status %+v, %v", st, err)
	}
	if _, err := g.s.Put(t.Context(), lost.Put(id)); err != nil {
		t.Errorf("its space is not there any more: %v", err)
	}
	g.has(lost)
}

// What came through a store, or must not go to one, does not go there.
func TestPathsAreKept(t *testing.T) {
	g := newRig(t, 2, 64<<20, router.Policy{Copies: 1}, nil)
	for i := range g.ids {
		shares, err := g.s.Reserve(t.Context(), store.ReserveRequest{ID: store.NewReservationID(), Bytes: 4096, Path: []store.NodeID{g.ids[i]}})
		if err != nil || len(shares) != 1 || shares[0].Leaf != g.ids[1-i] {
			t.Errorf("what came through node %d goes to %+v, %v", i, shares, err)
		}
		shares, err = g.s.Reserve(t.Context(), store.ReserveRequest{ID: store.NewReservationID(), Bytes: 4096, Exclude: []store.NodeID{g.ids[i]}})
		if err != nil || len(shares) != 1 || shares[0].Leaf != g.ids[1-i] {
			t.Errorf("what must not go to node %d goes to %+v, %v", i, shares, err)
		}
	}
	for name, r := range map[string]store.ReserveRequest{
		"in a circle":     {Path: []store.NodeID{g.id}},
		"with three":      {Copies: 3},
		"to nobody":       {Exclude: g.ids},
		"with two of one": {Copies: 2, Exclude: g.ids[:1]},
	} {
		r.ID, r.Bytes = store.NewReservationID(), 4096
		if shares, err := g.s.Reserve(t.Context(), r); !errors.Is(err, store.NoSpace) {
			t.Errorf("%s: %+v, %v", name, shares, err)
		}
	}
	shares, err := g.s.Reserve(t.Context(), store.ReserveRequest{ID: store.NewReservationID(), Bytes: 4096, Copies: 2})
	if err != nil || len(shares) != 2 || shares[0].Leaf == shares[1].Leaf {
		t.Errorf("two copies: %+v, %v", shares, err)
	}
}
