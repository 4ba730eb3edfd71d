package names

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"stasis/store/ledger"
)

// newTree opens a namespace with a clock that the test sets.
func newTree(t *testing.T, clock *int64) *Tree {
	t.Helper()
	db, err := ledger.Open(t.TempDir(), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	o := Options{}
	if clock != nil {
		o.Now = func() int64 { return *clock }
	}
	tree, err := Open(db, o)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func mustCreate(t testing.TB, tree *Tree, dir Ino, name string, mode uint32) Inode {
	t.Helper()
	in, _, err := tree.Create(dir, name, Spec{Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// A listing in small steps, with the directory changed between any two, gives
// each entry that stayed exactly once, an entry renamed within the directory once
// under one of its names, and no cookie twice.
func TestReadDirWhileChanging(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tree := newTree(t, nil)
		d := mustCreate(t, tree, Root, "d", unix.S_IFDIR|0o755).Ino
		n := rapid.IntRange(1, 60).Draw(rt, "entries")
		stay, renamed := map[Ino]bool{}, map[Ino]bool{}
		var loose []string // may come and go
		for i := range n {
			switch rapid.IntRange(0, 2).Draw(rt, "kind") {
			case 0:
				stay[mustCreate(t, tree, d, fmt.Sprint("stay", i), 0o644).Ino] = true
			case 1:
				renamed[mustCreate(t, tree, d, fmt.Sprint("rename", i), 0o644).Ino] = true
			default:
				loose = append(loose, fmt.Sprint("loose", i))
				mustCreate(t, tree, d, loose[len(loose)-1], 0o644)
			}
		}
		seen, cookies := map[Ino]int{}, map[uint64]bool{}
		for cookie := uint64(0); ; {
			es, err := tree.ReadDir(d, cookie, rapid.IntRange(1, 7).Draw(rt, "limit"))
			if err != nil {
				rt.Fatal(err)
			}
			if len(es) == 0 {
				break
			}
			for _, e := range es {
				if e.Cookie <= cookie || e.Cookie < FirstCookie || cookies[e.Cookie] {
					rt.Fatalf("cookie %d after %d", e.Cookie, cookie)
				}
				cookies[e.Cookie] = true
				cookie = e.Cookie
				seen[e.Ino]++
			}
			for ino := range renamed {
				if !rapid.Bool().Draw(rt, "rename it") {
					continue
				}
				in, err := tree.Get(ino)
				if err != nil {
					rt.Fatal(err)
				}
				name, err := tree.Path(ino)
				if err != nil {
					rt.Fatal(err)
				}
				if _, _, err := tree.Rename(Rename{From: in.Parent, Name: name[len("/d/"):], To: d, NewName: name[len("/d/"):] + "x"}); err != nil {
					rt.Fatal(err)
				}
			}
			if len(loose) > 0 && rapid.Bool().Draw(rt, "unlink") {
				if _, _, err := tree.Unlink(d, loose[0]); err != nil {
					rt.Fatal(err)
				}
				loose = loose[1:]
			}
			if rapid.IntRange(0, 3).Draw(rt, "create") == 0 {
				mustCreate(t, tree, d, fmt.Sprint("new", cookie), 0o644)
			}
		}
		for ino := range stay {
			if seen[ino] != 1 {
				rt.Fatalf("inode %d stayed and was listed %d times", ino, seen[ino])
			}
		}
		for ino := range renamed {
			if seen[ino] != 1 {
				rt.Fatalf("inode %d was renamed and listed %d times", ino, seen[ino])
			}
		}
	})
}

// A program that makes an entry for each one it reads would never come to an
// end; LastCookie is where it can be told to stop.
func TestLastCookieEndsListing(t *testing.T) {
	tree := newTree(t, nil)
	for i := range 10 {
		mustCreate(t, tree, Root, fmt.Sprint(i), 0o644)
	}
	end, seen := tree.LastCookie(), 0
	for cookie := uint64(0); ; {
		es, err := tree.ReadDir(Root, cookie, 1)
		if err != nil || len(es) != 1 {
			t.Fatal(es, err)
		}
		if es[0].Cookie > end {
			break
		}
		seen++
		cookie = es[0].Cookie
		mustCreate(t, tree, Root, fmt.Sprint("made for ", seen), 0o644)
	}
	if seen != 10 {
		t.Fatalf("%d entries before the end, want 10", seen)
	}
}
