package names

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// What is remembered of where policies are set never outlives what it was learned from: after
// any change it is what a climb finds.
func TestInheritance(t *testing.T) {
	clock := int64(1)
	tree := newTree(t, &clock)
	r := rand.New(rand.NewPCG(1, 2))
	dirs := []Ino{Root}
	parent, name := map[Ino]Ino{Root: Root}, map[Ino]string{}
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	climb := func(ino Ino) Ino {
		for {
			if _, ok, err := tree.Policy(ino); err != nil {
				t.Fatal(err)
			} else if ok {
				return ino
			}
			if ino == Root {
				return 0
			}
			ino = parent[ino]
		}
	}
	for step := range 2000 {
		at, to, as := dirs[r.IntN(len(dirs))], dirs[r.IntN(len(dirs))], names[r.IntN(len(names))]
		switch r.IntN(6) {
		case 0, 1:
			if in, _, err := tree.Create(at, as, Spec{Mode: unix.S_IFDIR | 0o755}); err == nil {
				dirs, parent[in.Ino], name[in.Ino] = append(dirs, in.Ino), at, as
			}
		case 2:
			var p []byte
			if r.IntN(2) == 0 {
				p = []byte{byte(step)}
			}
			if _, err := tree.SetPolicy(at, p, nil); err != nil {
				t.Fatal(err)
			}
		case 3:
			if at != Root && rename(tree, Rename{From: parent[at], Name: name[at], To: to, NewName: as, NoReplace: true}) == nil {
				parent[at], name[at] = to, as
			}
		case 4:
			if at != Root && to != Root && rename(tree, Rename{From: parent[at], Name: name[at], To: parent[to], NewName: name[to], Exchange: true}) == nil {
				parent[at], parent[to], name[at], name[to] = parent[to], parent[at], name[to], name[at]
			}
		}
		for range 3 {
			ino := dirs[r.IntN(len(dirs))]
			if _, from, err := tree.EffectivePolicy(ino); err != nil || from != climb(ino) {
				t.Fatalf("step %d: the policy of %d is that of %d, %v; a climb finds %d", step, ino, from, err, climb(ino))
			}
		}
	}
	// A file whose directory was removed takes the root's.
	d := mustCreate(t, tree, Root, "gone", unix.S_IFDIR|0o755).Ino
	f := mustCreate(t, tree, d, "f", 0o644).Ino
	if _, err := tree.SetPolicy(Root, []byte{1}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.SetPolicy(d, []byte{2}, nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []Ino{d, Root} {
		if _, from, err := tree.EffectivePolicy(f); err != nil || from != want {
			t.Errorf("the policy is that of %d, %v, not of %d", from, err, want)
		}
		if want == Root {
			break
		}
		if _, _, err := tree.Unlink(d, "f"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := tree.Rmdir(Root, "gone"); err != nil {
			t.Fatal(err)
		}
		if _, err := tree.Remove(d, nil); err != nil {
			t.Fatal(err)
		}
	}
	// What is remembered is bounded.
	many := make([]Ino, inheritanceMost-1)
	for i := range many {
		many[i] = Ino(1<<40 + i)
	}
	for range 3 {
		tree.inherits.learn(tree.inherits.now(), many, Root)
	}
	if n := len(tree.inherits.from); n > inheritanceMost {
		t.Errorf("%d directories are remembered", n)
	}
}
