package depot

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"stasis/router"
	"stasis/store"
	"stasis/store/directory"
	"stasis/store/storetest"
)

type slowList struct{ *directory.Store }

func (s slowList) List(ctx context.Context, _ []byte) (store.Page, error) {
	<-ctx.Done()
	return store.Page{}, &store.Error{Kind: store.Unavailable, Op: "list", Err: ctx.Err()}
}

// A depot gives no receipts for copies that it is counting anew.
func TestReceiptsForUnknownCopies(t *testing.T) {
	gen := storetest.NewGen(storetest.Seed(t))
	g := newRig(t, 2, 64<<20, router.Policy{Copies: 2, Least: 2}, nil)
	first, lost := gen.Crate(4096), gen.Crate(4096)
	first.ID, lost.ID = store.NewCrateID(), store.NewCrateID()
	g.put(first)
	g.copiesBecome(first, 2)
	if err := g.s.Close(); err != nil {
		t.Fatal(err)
	}
	g.closeLedger()
	kept := g.dir + "/kept"
	run := func(args ...string) {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	run("cp", "-a", g.node(1), kept)
	g.open()
	g.put(lost)
	g.copiesBecome(lost, 2)
	if err := g.s.Close(); err != nil {
		t.Fatal(err)
	}
	g.closeLedger()
	_ = os.RemoveAll(g.node(1))
	run("cp", "-a", kept, g.node(1))
	g.specs[1].Open = func(ctx context.Context, want store.NodeID) (store.Store, error) {
		s, err := directory.Open(ctx, g.node(1), want, owner, directory.Options{})
		if err != nil {
			return nil, err
		}
		return slowList{s}, nil
	}
	g.open()
	root := lost.Root()
	m, err := g.s.Router().Manifest(lost.ID)
	if err != nil {
		t.Fatal(err)
	}
	receipts, err := g.s.Put(t.Context(), store.PutRequest{Crate: lost.ID, Size: int64(len(lost.Data)), Expect: &root})
	if err != nil || len(receipts) != m.Copies() {
		t.Errorf("%d receipts, %v, where %d copies are known: node 1 was put back and lacks the crate", len(receipts), err, m.Copies())
	}
}
