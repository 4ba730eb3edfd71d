package names

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/ledger"
)

// Times follow ext4: the directories touched, and the inode whose links
// changed; nothing else moves.
func TestTimes(t *testing.T) {
	clock := int64(1000)
	tree := newTree(t, &clock)
	a := mustCreate(t, tree, Root, "a", unix.S_IFDIR|0o755).Ino
	b := mustCreate(t, tree, Root, "b", unix.S_IFDIR|0o755).Ino
	f := mustCreate(t, tree, a, "f", 0o644).Ino
	g := mustCreate(t, tree, b, "g", 0o644).Ino
	all := map[string]Ino{"root": Root, "a": a, "b": b, "f": f, "g": g}
	steps := []struct {
		what    string
		do      func() error
		content string // whose mtime and ctime move
		status  string // whose ctime alone moves
	}{
		{"create", func() error { _, _, err := tree.Create(a, "h", Spec{Mode: 0o600}); return err }, "a", ""},
		{"mkdir", func() error { _, _, err := tree.Create(a, "d", Spec{Mode: unix.S_IFDIR | 0o700}); return err }, "a", ""},
		{"link", func() error { _, _, err := tree.Link(f, b, "f2"); return err }, "b", "f"},
		{"unlink", func() error { _, _, err := tree.Unlink(b, "f2"); return err }, "b", "f"},
		{"rename in a directory", func() error { return rename(tree, Rename{From: a, Name: "f", To: a, NewName: "f3"}) }, "a", "f"},
		{"rename across", func() error { return rename(tree, Rename{From: a, Name: "f3", To: b, NewName: "f"}) }, "a b", "f"},
		{"rename of nothing", func() error { return rename(tree, Rename{From: b, Name: "f", To: b, NewName: "f"}) }, "", ""},
		{"exchange", func() error { return rename(tree, Rename{From: b, Name: "f", To: a, NewName: "h", Exchange: true}) }, "a b", "f"},
		{"rename over", func() error { return rename(tree, Rename{From: a, Name: "h", To: b, NewName: "g"}) }, "a b", "f g"},
		{"rmdir", func() error { _, _, err := tree.Rmdir(a, "d"); return err }, "a", ""},
		{"failed create", func() error {
			if _, _, err := tree.Create(b, "g", Spec{}); err != syscall.EEXIST {
				return fmt.Errorf("%v, want EEXIST", err)
			}
			return nil
		}, "", ""},
		{"setxattr", func() error { _, err := tree.SetXattr(f, "user.x", nil, 0); return err }, "", "f"},
		{"setxattr to what it is", func() error { _, err := tree.SetXattr(f, "user.x", nil, 0); return err }, "", ""},
		{"removexattr", func() error { _, err := tree.RemoveXattr(f, "user.x"); return err }, "", "f"},
		{"chmod", func() error { return update(tree, f, func(in *Inode) { in.Mode = 0o600 }) }, "", "f"},
		{"chown", func() error { return update(tree, f, func(in *Inode) { in.UID = 5 }) }, "", "f"},
		{"atime alone", func() error { return update(tree, f, func(in *Inode) { in.Atime = 7 }) }, "", ""},
		{"list alone", func() error { return update(tree, f, func(in *Inode) { in.List = 7 }) }, "", ""},
		{"policy", func() error { _, err := tree.SetPolicy(a, []byte("p"), nil); return err }, "", ""},
	}
	for _, s := range steps {
		before := map[string]Inode{}
		for name, ino := range all {
			before[name], _ = tree.Get(ino)
		}
		clock += 10
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.what, err)
		}
		for name, ino := range all {
			in, err := tree.Get(ino)
			if err != nil {
				t.Fatal(err)
			}
			content := strings.Contains(s.content, name)
			status := content || strings.Contains(s.status, name)
			if (in.Mtime != before[name].Mtime) != content || (in.Ctime != before[name].Ctime) != status {
				t.Errorf("%s: %s has mtime %d -> %d, ctime %d -> %d", s.what, name, before[name].Mtime, in.Mtime, before[name].Ctime, in.Ctime)
			}
		}
	}
}

func rename(tree *Tree, r Rename) error { _, _, err := tree.Rename(r); return err }

func update(tree *Tree, ino Ino, fn func(*Inode)) error {
	_, _, err := tree.Update(ino, func(in *Inode) error { fn(in); return nil })
	return err
}

// A program that saves by writing a new file and renaming it over the old one
// keeps the settled content of the old until the new is safe, where that is nobody
// else's.
func TestRenameInherit(t *testing.T) {
	for _, c := range []struct {
		name    string
		inherit bool
		linked  bool // the replaced file has another name
		own     bool // the moved file has content of its own
		want    bool
	}{
		{"takes over", true, false, false, true},
		{"not asked to", false, false, false, false},
		{"another name needs it", true, true, false, false},
		{"has its own", true, false, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := newTree(t, nil)
			old := mustCreate(t, tree, Root, "f", 0o644).Ino
			tmp := mustCreate(t, tree, Root, "f.tmp", 0o644).Ino
			if err := update(tree, old, func(in *Inode) { in.List, in.Size = 5, 500 }); err != nil {
				t.Fatal(err)
			}
			if c.linked {
				if _, _, err := tree.Link(old, Root, "other"); err != nil {
					t.Fatal(err)
				}
			}
			if c.own {
				if err := update(tree, tmp, func(in *Inode) { in.List, in.Size = 6, 60 }); err != nil {
					t.Fatal(err)
				}
			}
			before, _ := tree.Get(tmp)
			replaced, pos, err := tree.Rename(Rename{From: Root, Name: "f.tmp", To: Root, NewName: "f", Inherit: c.inherit})
			if err != nil || pos == 0 || replaced == nil || replaced.Ino != old {
				t.Fatal(replaced, pos, err)
			}
			moved, _ := tree.Get(tmp)
			if c.want {
				if moved.List != 5 || moved.Size != 500 || replaced.List != 0 || replaced.Size != 0 {
					t.Fatalf("moved %+v, replaced %+v", moved, replaced)
				}
			} else if moved.List != before.List || moved.Size != before.Size || replaced.List != 5 || replaced.Size != 500 {
				t.Fatalf("moved %+v, replaced %+v", moved, replaced)
			}
			if stored, _ := tree.Get(old); stored != *replaced {
				t.Fatalf("replaced is stored as %+v, returned as %+v", stored, *replaced)
			}
			if err := verify(tree); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// One update carries the inode and keys of the caller, or neither.
func TestUpdateTx(t *testing.T) {
	tree := newTree(t, nil)
	f := mustCreate(t, tree, Root, "f", 0o644).Ino
	boom := errors.New("boom")
	for _, fail := range []error{boom, nil} {
		_, err := tree.space.Update(func(tx *ledger.Tx) error {
			for range 2 { // a second change in one update builds on the first
				if _, err := tree.UpdateTx(tx, f, func(in *Inode) error { in.Size += 10; return nil }); err != nil {
					return err
				}
			}
			tx.Put([]byte("emine"), []byte("x"))
			return fail
		})
		if err != fail {
			t.Fatal(err)
		}
		_, ok, _ := tree.space.Get([]byte("emine"))
		in, _ := tree.Get(f)
		_, bytes, _ := tree.Counters()
		if want := fail == nil; ok != want || (in.Size == 20) != want || (bytes == 20) != want {
			t.Fatalf("fn returned %v: key %v, size %d, counted %d", fail, ok, in.Size, bytes)
		}
	}
	_, _, err := tree.Update(f, func(in *Inode) error {
		*in = Inode{Ino: 99, Mode: unix.S_IFDIR | 0o111, Nlink: 9, Parent: 8, Target: "t", Size: 3}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if in, _ := tree.Get(f); in.Ino != f || !in.IsRegular() || in.Nlink != 1 || in.Parent != Root || in.Target != "" || in.Mode&0o7777 != 0o111 {
		t.Fatalf("an update changed what it must not: %+v", in)
	}
	if err := verify(tree); err != nil {
		t.Fatal(err)
	}
}

func TestUpdateRefused(t *testing.T) {
	tree := newTree(t, nil)
	d := mustCreate(t, tree, Root, "d", unix.S_IFDIR|0o755).Ino
	f := mustCreate(t, tree, Root, "f", 0o644).Ino
	if err := update(tree, 99, func(*Inode) {}); err != syscall.ENOENT {
		t.Error(err)
	}
	if err := update(tree, d, func(in *Inode) { in.List = 1 }); err != syscall.EINVAL {
		t.Error(err)
	}
	if err := update(tree, f, func(in *Inode) { in.Size = -1 }); err != syscall.EINVAL {
		t.Error(err)
	}
}

// An inode without names stays until it is removed, may get a name again, and
// is found after a restart.
func TestOrphans(t *testing.T) {
	tree := newTree(t, nil)
	tmp, _, err := tree.Tmpfile(Root, Spec{Mode: 0o600})
	if err != nil || tmp.Nlink != 0 {
		t.Fatal(tmp, err)
	}
	f := mustCreate(t, tree, Root, "f", 0o644).Ino
	left, _, err := tree.Unlink(Root, "f")
	if err != nil || left.Ino != f || left.Nlink != 0 {
		t.Fatal(left, err)
	}
	if orphans, err := tree.Orphans(); err != nil || len(orphans) != 2 {
		t.Fatal(orphans, err)
	}
	if in, _, err := tree.Link(tmp.Ino, Root, "t"); err != nil || in.Nlink != 1 {
		t.Fatal(in, err)
	}
	if _, err := tree.Remove(tmp.Ino, nil); err != syscall.EBUSY {
		t.Fatalf("removing what has a name: %v", err)
	}
	// More attributes than one update may delete.
	for i := range 3*removeBatch + 1 {
		if _, err := tree.SetXattr(f, fmt.Sprint("user.", i), []byte("v"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tree.SetPolicy(f, []byte("p"), nil); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	if _, err := tree.Remove(f, func(*ledger.Tx, Inode) error { return boom }); err != boom {
		t.Fatal(err)
	}
	if _, err := tree.Get(f); err != nil {
		t.Fatalf("a failed removal removed: %v", err)
	}
	var was Inode
	if _, err := tree.Remove(f, func(tx *ledger.Tx, in Inode) error { was = in; tx.Put([]byte("Lx"), nil); return nil }); err != nil || was.Ino != f {
		t.Fatal(was, err)
	}
	if _, ok, _ := tree.space.Get([]byte("Lx")); !ok {
		t.Fatal("the caller's key is not there")
	}
	if _, err := tree.Get(f); err != syscall.ENOENT {
		t.Fatal(err)
	}
	if _, _, err := tree.Link(f, Root, "again"); err != syscall.ENOENT {
		t.Fatal(err)
	}
	if err := verify(tree); err != nil {
		t.Fatal(err)
	}
}

func TestXattr(t *testing.T) {
	tree := newTree(t, nil)
	f := mustCreate(t, tree, Root, "f", 0o644).Ino
	set := func(name string, n, flags int) error {
		_, err := tree.SetXattr(f, name, make([]byte, n), flags)
		return err
	}
	for _, c := range []struct {
		what      string
		got, want error
	}{
		{"replace what is not set", set("user.a", 1, unix.XATTR_REPLACE), syscall.ENODATA},
		{"create", set("user.a", 1, unix.XATTR_CREATE), nil},
		{"create again", set("user.a", 1, unix.XATTR_CREATE), syscall.EEXIST},
		{"replace", set("user.a", 0, unix.XATTR_REPLACE), nil},
		{"unknown flag", set("user.a", 0, 8), syscall.EINVAL},
		{"largest value", set("user.big", MaxXattrValue, 0), nil},
		{"too large", set("user.big", MaxXattrValue+1, 0), syscall.E2BIG},
		{"no name", set("", 1, 0), syscall.ERANGE},
		{"longest name", set(strings.Repeat("n", MaxXattrName), 1, 0), nil},
		{"name too long", set(strings.Repeat("n", MaxXattrName+1), 1, 0), syscall.ERANGE},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
	if v, err := tree.GetXattr(f, "user.a"); err != nil || v == nil || len(v) != 0 {
		t.Errorf("an empty value is %v, %v", v, err)
	}
	if _, err := tree.GetXattr(f, "user.b"); err != syscall.ENODATA {
		t.Error(err)
	}
	if _, err := tree.RemoveXattr(f, "user.b"); err != syscall.ENODATA {
		t.Error(err)
	}
	if _, err := tree.SetXattr(99, "user.a", nil, 0); err != syscall.ENOENT {
		t.Error(err)
	}
	n, full := 0, error(nil)
	for i := 0; full == nil; i++ {
		full = set(fmt.Sprintf("user.%0240d", i), 0, 0)
	}
	names, err := tree.ListXattr(f)
	for _, name := range names {
		n += len(name) + 1
	}
	if full != syscall.ENOSPC || err != nil || n > MaxXattrList || n < MaxXattrList-300 {
		t.Errorf("the list is full at %d bytes, %v, %v", n, full, err)
	}
	if err := set("user.a", 9, 0); err != nil {
		t.Errorf("replacing a value in a full list: %v", err)
	}
}

// A policy holds for everything below it until a nearer one; a file is found
// through the directory it was named in last.
func TestPolicy(t *testing.T) {
	tree := newTree(t, nil)
	a := mustCreate(t, tree, Root, "a", unix.S_IFDIR|0o755).Ino
	b := mustCreate(t, tree, a, "b", unix.S_IFDIR|0o755).Ino
	f := mustCreate(t, tree, b, "f", 0o644).Ino
	expect := func(ino Ino, policy string, from Ino) {
		t.Helper()
		p, at, err := tree.EffectivePolicy(ino)
		if err != nil || string(p) != policy || at != from {
			t.Errorf("policy of %d is %q from %d, %v; want %q from %d", ino, p, at, err, policy, from)
		}
	}
	expect(f, "", 0)
	for _, c := range []struct {
		ino    Ino
		policy string
	}{{Root, "root's"}, {a, "a's"}, {f, "f's"}} {
		if _, err := tree.SetPolicy(c.ino, []byte(c.policy), nil); err != nil {
			t.Fatal(err)
		}
	}
	expect(b, "a's", a)
	expect(f, "f's", f)
	if _, err := tree.SetPolicy(f, nil, nil); err != nil {
		t.Fatal(err)
	}
	expect(f, "a's", a)
	if err := rename(tree, Rename{From: b, Name: "f", To: Root, NewName: "f"}); err != nil {
		t.Fatal(err)
	}
	expect(f, "root's", Root)
	// The directory named last is gone, another name remains.
	if _, _, err := tree.Link(f, b, "f"); err != nil {
		t.Fatal(err)
	}
	expect(f, "a's", a)
	if _, _, err := tree.Unlink(b, "f"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tree.Rmdir(a, "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Remove(b, nil); err != nil {
		t.Fatal(err)
	}
	expect(f, "root's", Root)
	if p, err := tree.Path(f); err != syscall.ENOENT {
		t.Errorf("path %q, %v", p, err)
	}
}

// Numbers are given once: over restarts, and over a crash that forgets what was
// taken of a block.
func TestNumbersAreNotReused(t *testing.T) {
	dir := t.TempDir()
	inos, lists, last := map[Ino]bool{}, map[ListID]bool{}, uint64(0)
	for round := range 4 {
		db, err := ledger.Open(dir, ledger.Options{})
		if err != nil {
			t.Fatal(err)
		}
		tree, err := Open(db, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			in := mustCreate(t, tree, Root, fmt.Sprint(round, i), 0o644)
			if _, _, err := tree.Unlink(Root, fmt.Sprint(round, i)); err != nil {
				t.Fatal(err)
			}
			if _, err := tree.Remove(in.Ino, nil); err != nil {
				t.Fatal(err)
			}
			list, err := tree.NewListID()
			if err != nil {
				t.Fatal(err)
			}
			if inos[in.Ino] || lists[list] || in.cookie <= last || list == 0 {
				t.Fatalf("inode %d, cookie %d or list %d was given before", in.Ino, in.cookie, list)
			}
			inos[in.Ino], lists[list], last = true, true, in.cookie
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A record that is damaged is said to be so, never taken for an absence.
func TestCorruptRecords(t *testing.T) {
	tree := newTree(t, nil)
	f := mustCreate(t, tree, Root, "f", 0o644)
	for _, key := range [][]byte{inodeKey(f.Ino), dentryKey(Root, "f"), cookieKey(Root, f.cookie)} {
		good, _, err := tree.space.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		put := func(v []byte) {
			if _, err := tree.space.Update(func(tx *ledger.Tx) error { tx.Put(key, v); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		put([]byte{version + 1})
		_, lookup := tree.Lookup(Root, "f")
		_, list := tree.ReadDir(Root, 0, 10)
		if !errors.Is(lookup, store.Corrupt) && !errors.Is(list, store.Corrupt) {
			t.Errorf("key %q damaged: lookup %v, listing %v", key, lookup, list)
		}
		put(good)
	}
}

func BenchmarkCreate(b *testing.B) {
	db, err := ledger.Open(b.TempDir(), ledger.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	tree, err := Open(db, Options{})
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		mustCreate(b, tree, Root, fmt.Sprint(i), 0o644)
	}
}

func BenchmarkLookup(b *testing.B) {
	db, err := ledger.Open(b.TempDir(), ledger.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	tree, err := Open(db, Options{})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		mustCreate(b, tree, Root, fmt.Sprint(i), 0o644)
	}
	for i := 0; b.Loop(); i++ {
		if _, err := tree.Lookup(Root, fmt.Sprint(i%1000)); err != nil {
			b.Fatal(err)
		}
	}
}
