package depot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
}

func newRig(t testing.TB, nodes int, capacity int64, policy router.Policy, clock *storetest.Clock) *rig {
	t.Helper()
	g := &rig{t: t, dir: t.TempDir(), id: store.NewNodeID(), policy: policy, clock: clock}
	for i := range nodes {
		path := g.node(i)
		id, err := directory.Create(path, owner, capacity, directory.Options{})
		if err != nil {
			t.Fatal(err)
		}
		g.ids = append(g.ids, id)
		g.specs = append(g.specs, router.NodeSpec{Name: fmt.Sprintf("n%d", i), Kind: "directory", Durable: true,
			Open: func(ctx context.Context, want store.NodeID) (store.Store, error) {
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
