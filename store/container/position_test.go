package container

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"
	"testing"

	"stasis/store"
	"stasis/store/storetest"
)

// TestPositionAtEachWrite kills a container after each of its writes: there is one position
// to each set of crates, it never falls, and it is not below one that was told.
func TestPositionAtEachWrite(t *testing.T) {
	f, s := lossyStore(t, MinCapacity)
	ctx := context.Background()
	type moment struct {
		f    *lossyFile
		told store.Position
	}
	var (
		mu      sync.Mutex
		moments []moment
		told    store.Position
	)
	if err := s.Fence(ctx, nil, store.NewToken(), true); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.fail = func(kind string, _, _ int64) error {
		if kind != "write" && kind != "sync" {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		f := newLossy(f.data) // f.mu is held
		moments = append(moments, moment{f, told})
		return nil
	}
	f.mu.Unlock()
	learn := func() {
		st, err := s.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		told = st.Position
	}
	g := storetest.NewGen(3)
	var cs []storetest.Crate
	for i := range 5 {
		c := g.Crate(3000)
		store1(t, s, c)
		learn()
		cs = append(cs, c)
		if i == 3 {
			if err := s.Fence(ctx, nil, store.NewToken(), true); err != nil {
				t.Fatal(err)
			}
			learn()
		}
		if i > 1 {
			if err := s.Discard(ctx, store.DiscardRequest{Crate: cs[i-2].ID}); err != nil {
				t.Fatal(err)
			}
			learn()
		}
	}
	states := make(map[store.Position]string)
	for i, m := range moments {
		k, err := openLossy(m.f)
		if err != nil {
			t.Fatal(err)
		}
		st, err := k.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		page, err := k.List(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		ids := ""
		for _, c := range page.Crates {
			ids += c.ID.String() + " "
		}
		if st.Position.Count < m.told.Count {
			t.Errorf("killed after write %d it is at %v, and had said that it was at %v", i, st.Position, m.told)
		}
		if was, ok := states[st.Position]; ok && was != ids {
			t.Errorf("killed after write %d it is at %v with %s, as it was with %s", i, st.Position, ids, was)
		}
		states[st.Position] = ids
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d moments, %d positions", len(moments), len(states))
}

// TestContainerPutBack puts a copy of the file back, with the container closed and under a
// running one, which must then acknowledge and write nothing more.
func TestContainerPutBack(t *testing.T) {
	for _, how := range []string{"closed", "over", "aside"} {
		t.Run(how, func(t *testing.T) {
			path, s := newContainer(t, MinCapacity, Options{})
			ctx, g := context.Background(), storetest.NewGen(1)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			at := func() store.Position {
				t.Helper()
				st, err := s.Status(ctx)
				must(err)
				return st.Position
			}
			must(s.Fence(ctx, nil, store.NewToken(), true))
			there, added := g.Crate(3000), g.Crate(4000)
			store1(t, s, there)
			then := at()
			must(s.Close())
			must(exec.Command("cp", "-a", path, path+".copy").Run())
			open := func() {
				t.Helper()
				var err error
				s, err = Open(ctx, path, store.NodeID{}, testOwner, Options{})
				must(err)
			}
			open()
			if now := at(); now != then {
				t.Errorf("opened again it goes from %v to %v", then, now)
			}
			must(s.Fence(ctx, nil, store.NewToken(), true))
			store1(t, s, added)
			must(s.Discard(ctx, store.DiscardRequest{Crate: there.ID}))
			now := at()
			switch how {
			case "closed":
				must(s.Close())
				must(exec.Command("cp", "-a", path+".copy", path).Run())
			case "over":
				must(exec.Command("cp", "-a", path+".copy", path).Run())
			case "aside":
				must(os.Rename(path, path+".aside"))
				must(exec.Command("cp", "-a", path+".copy", path).Run())
			}
			if how != "closed" {
				before, err := os.ReadFile(path)
				must(err)
				for range 2 {
					if _, err := s.Status(ctx); !errors.Is(err, store.Unavailable) {
						t.Errorf("the status of a container that was replaced: %v", err)
					}
					if err := s.Discard(ctx, store.DiscardRequest{Crate: added.ID}); !errors.Is(err, store.Unavailable) {
						t.Errorf("a discard in a container that was replaced: %v", err)
					}
					if err := s.Fence(ctx, nil, store.NewToken(), true); !errors.Is(err, store.Unavailable) {
						t.Errorf("a fence of a container that was replaced: %v", err)
					}
				}
				must(s.Close())
				if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
					t.Errorf("the open container has changed what was put in its place, %v", err)
				}
			}
			open()
			defer s.Close()
			if got := at(); got != then {
				t.Errorf("put back it is at %v, and was at %v", got, then)
			}
			if p, err := contents(s, there.ID); err != nil || !bytes.Equal(p, there.Data) {
				t.Errorf("what it had then: %v", err)
			}
			must(s.Fence(ctx, nil, store.NewToken(), true))
			for range 3 {
				store1(t, s, g.Crate(100))
				if got := at(); got == now || got.Count <= then.Count {
					t.Errorf("with another history it is at %v", got)
				}
			}
		})
	}
}

// TestPositionAnew: marks of a program that kept no position, and damaged ones, lead to a
// position unlike any before; the next opening finds that.
func TestPositionAnew(t *testing.T) {
	for _, how := range []string{"none", "one of none", "damaged", "zeros"} {
		f, s := lossyStore(t, MinCapacity)
		ctx := context.Background()
		g := storetest.NewGen(1)
		gone := g.Crate(4000)
		store1(t, s, g.Crate(3000))
		store1(t, s, gone)
		if err := s.Discard(ctx, store.DiscardRequest{Crate: gone.ID}); err != nil {
			t.Fatal(err)
		}
		st, err := s.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		k := f.killed()
		sb, log, _, v := layout(t, k)
		newest := s.standing.at
		for i := range int64(markPages) {
			at := superPages + i
			raw := k.data[at*PageSize:][:PageSize]
			switch {
			case how == "none" || how == "one of none" && at == newest:
				m := log.mark()
				m.encode(v.key, raw, at, sb.generation)
			case how == "damaged" && at == newest:
				raw[100] ^= 1
			case how == "zeros":
				clear(raw)
			}
		}
		was := st.Position
		if s, err = openLossy(k); err != nil {
			t.Fatal(err)
		}
		if st, err = s.Status(ctx); err != nil || st.Position.Count == 0 || st.Position == was {
			t.Errorf("%s: it is at %v, and was at %v, %v", how, st.Position, was, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = openLossy(k.killed()); err != nil {
			t.Fatal(err)
		}
		if again, err := s.Status(ctx); err != nil || again.Position != st.Position {
			t.Errorf("%s: opened again it goes from %v to %v, %v", how, st.Position, again.Position, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
