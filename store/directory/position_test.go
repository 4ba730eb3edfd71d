package directory

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"stasis/store"
	"stasis/store/ledger"
	"stasis/store/storetest"
)

// The tests of positions put a store back into an earlier state, as a person does with a
// backup, and look whether it can be told.

// rolled is a store with a copy of an earlier state of it.
type rolled struct {
	root, copied string
	s            *Store
	there        storetest.Crate // in both
	gone         storetest.Crate // discarded since the copy
	added        storetest.Crate // put since the copy
	then, now    store.Position
}

func newRolled(t *testing.T) *rolled {
	t.Helper()
	base := t.TempDir()
	x := &rolled{root: filepath.Join(base, "node"), copied: filepath.Join(base, "copy")}
	x.s = admitted(t, makeStore(t, x.root, 0, Options{}))
	t.Cleanup(func() { _ = x.s.Close() })
	x.there, _ = put(t, x.s, 5000)
	x.gone, _ = put(t, x.s, 6000)
	x.close(t)
	run(t, "cp", "-a", x.root, x.copied)
	x.s = openStore(t, x.root, Options{})
	x.then = status(t, x.s).Position
	admitted(t, x.s)
	x.added, _ = put(t, x.s, 7000)
	if err := x.s.Discard(context.Background(), store.DiscardRequest{Crate: x.gone.ID}); err != nil {
		t.Fatal(err)
	}
	if x.now = status(t, x.s).Position; x.now.Count <= x.then.Count || x.now.Mark == x.then.Mark {
		t.Fatalf("its position goes from %v to %v", x.then, x.now)
	}
	return x
}

func (x *rolled) close(t *testing.T) {
	t.Helper()
	if err := x.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// old checks that the store is in the state of the copy and says so, and that it goes on
// unlike it did before.
func (x *rolled) old(t *testing.T) {
	t.Helper()
	x.s = openStore(t, x.root, Options{})
	if at := status(t, x.s).Position; at != x.then {
		t.Errorf("put back, it is at %v, and was at %v", at, x.then)
	}
	has(t, x.s, x.there)
	has(t, x.s, x.gone)
	if err := holds(x.s, x.added); !errors.Is(err, store.NotFound) {
		t.Errorf("a crate from after the copy: %v", err)
	}
	admitted(t, x.s)
	for range 4 {
		put(t, x.s, 100)
		if at := status(t, x.s).Position; at.Count == x.now.Count && at.Mark == x.now.Mark || at.Count == x.then.Count {
			t.Errorf("with another history it is at %v again", at)
		}
	}
}

// TestPutBack puts the copy back while the store is closed.
func TestPutBack(t *testing.T) {
	for name, back := range ways() {
		t.Run(name, func(t *testing.T) {
			x := newRolled(t)
			x.close(t)
			back(t, x)
			x.old(t)
		})
	}
}

// ways are those in which people put a copy back.
func ways() map[string]func(t *testing.T, x *rolled) {
	return map[string]func(t *testing.T, x *rolled){
		// As rsync --delete does: the root stays, what lies in it is new.
		"within": func(t *testing.T, x *rolled) {
			names, err := os.ReadDir(x.root)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range names {
				if err := os.RemoveAll(filepath.Join(x.root, n.Name())); err != nil {
					t.Fatal(err)
				}
			}
			run(t, "cp", "-a", x.copied+"/.", x.root)
		},
		"aside": func(t *testing.T, x *rolled) {
			if err := os.Rename(x.root, x.root+".aside"); err != nil {
				t.Fatal(err)
			}
			run(t, "cp", "-a", x.copied, x.root)
		},
		// The marker too is the same file with the same content.
		"over": func(t *testing.T, x *rolled) {
			for _, name := range []string{indexName, cratesName} {
				if err := os.RemoveAll(filepath.Join(x.root, name)); err != nil {
					t.Fatal(err)
				}
			}
			run(t, "cp", "-a", x.copied+"/.", x.root)
		},
	}
}

// TestPutBackWhileOpen puts it back below the running store, which must acknowledge nothing
// from then on and change nothing of what lies there now, not at its end either.
func TestPutBackWhileOpen(t *testing.T) {
	for name, back := range ways() {
		for _, first := range []string{"status", "put", "discard", "list"} {
			t.Run(name+"/"+first, func(t *testing.T) {
				x := newRolled(t)
				c, ctx := newCrate(300), context.Background()
				r := reserve(t, x.s, c.Charge())
				back(t, x)
				before := fingerprint(t, x.root)
				ops := map[string]func() error{
					"status":  func() error { _, err := x.s.Status(ctx); return err },
					"put":     func() error { _, err := x.s.Put(ctx, c.Put(r)); return err },
					"discard": func() error { return x.s.Discard(ctx, store.DiscardRequest{Crate: x.there.ID}) },
					"list":    func() error { _, err := x.s.List(ctx, nil); return err },
				}
				for _, op := range []string{first, "status", "put", "discard", "list"} {
					if err := ops[op](); !errors.Is(err, store.Unavailable) {
						t.Errorf("%s on a store whose content was replaced: %v", op, err)
					}
				}
				x.close(t)
				if after := fingerprint(t, x.root); after != before {
					t.Errorf("the store has changed what was put in its place:\n%s\nwas\n%s", after, before)
				}
				x.old(t)
			})
		}
	}
}

// fingerprint tells names and contents of all files below a directory.
func fingerprint(t *testing.T, dir string) (out string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out += fmt.Sprintf("%s %x\n", path, sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSignLost: the file in the root only says what the index has. A store without it, or
// with a damaged one, opens, and is where it was.
func TestSignLost(t *testing.T) {
	x := newRolled(t)
	path := filepath.Join(x.root, PositionName)
	for name, hurt := range map[string]func() error{
		"lost":     func() error { return os.Remove(path) },
		"empty":    func() error { return os.Truncate(path, 0) },
		"damaged":  func() error { flip(t, path, 40); return nil },
		"longer":   func() error { return os.WriteFile(path, append(encodeSign(x.now), '\n'), 0o600) },
		"an older": func() error { return os.WriteFile(path, encodeSign(x.then), 0o600) },
		"a later":  func() error { return os.WriteFile(path, encodeSign(after(x.now)), 0o600) },
	} {
		if err := hurt(); err != nil {
			t.Fatal(err)
		}
		if _, err := x.s.Status(context.Background()); !errors.Is(err, store.Unavailable) {
			t.Errorf("%s, and the open store says %v", name, err)
		}
		x.close(t)
		x.s = openStore(t, x.root, Options{})
		if at := status(t, x.s).Position; at != x.now {
			t.Errorf("%s: it is at %v, and was at %v", name, at, x.now)
		}
	}
	has(t, x.s, x.added)
}

// edit changes the index of a closed store.
func (x *rolled) edit(t *testing.T, fn func(tx *ledger.Tx) error) {
	t.Helper()
	i, err := openIndex(filepath.Join(x.root, indexName), withDefaults(Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.update(fn); err != nil {
		t.Fatal(err)
	}
	if err := i.db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPositionAnew: a store of a program that kept no position gets one, and one that such a
// program has used since is never where it was before.
func TestPositionAnew(t *testing.T) {
	key := []byte{keyPosition}
	for name, c := range map[string]struct {
		lost bool // the file in the root, too
		fn   func(tx *ledger.Tx) error
	}{
		"none ever": {true, func(tx *ledger.Tx) error { tx.Delete(key); return nil }},
		"none":      {false, func(tx *ledger.Tx) error { tx.Delete(key); return nil }},
		"damaged":   {false, func(tx *ledger.Tx) error { tx.Put(key, []byte{recordVersion, 1}); return nil }},
		"used since": {false, func(tx *ledger.Tx) error {
			token := store.NewToken()
			tx.Put([]byte{keyFence}, token[:])
			return nil
		}},
	} {
		x := newRolled(t)
		x.close(t)
		x.edit(t, c.fn)
		least := x.now.Count
		if c.lost {
			least = 0
			if err := os.Remove(filepath.Join(x.root, PositionName)); err != nil {
				t.Fatal(err)
			}
		}
		x.s = openStore(t, x.root, Options{})
		at := status(t, x.s).Position
		if at.Count <= least || at == x.now || at.Mark == x.now.Mark {
			t.Errorf("%s: it is at %v, and was at %v", name, at, x.now)
		}
		x.close(t)
		x.s = openStore(t, x.root, Options{})
		if again := status(t, x.s).Position; again != at {
			t.Errorf("%s: opened again it goes from %v to %v", name, at, again)
		}
		has(t, x.s, x.added)
	}
}

// TestPositionRebuilt: an index that was made anew has another position than any before.
func TestPositionRebuilt(t *testing.T) {
	x := newRolled(t)
	x.close(t)
	if err := os.RemoveAll(filepath.Join(x.root, indexName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Rebuild(context.Background(), x.root, owner, Options{}, nil); err != nil {
		t.Fatal(err)
	}
	x.s = openStore(t, x.root, Options{})
	if at := status(t, x.s).Position; at.Count <= x.now.Count || at.Mark == x.now.Mark {
		t.Errorf("rebuilt, it is at %v, and was at %v", at, x.now)
	}
}
