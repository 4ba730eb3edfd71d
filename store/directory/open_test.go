package directory

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stasis/store"
)

// fails checks an error's kind, and that it is a sentence for a person.
func fails(t testing.TB, err error, kind store.Kind, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got error %v, want %v", err, kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	base := t.TempDir()
	at := func(name string) string { return filepath.Join(base, name) }
	make := func(name string) error {
		_, err := Create(at(name), owner, 1<<20, Options{})
		return err
	}
	if err := make("new"); err != nil {
		t.Fatal(err)
	}
	fails(t, make("new"), store.Conflict, "already", "choose another directory")
	fails(t, make("no/parent"), store.Invalid, "is not there", "mount its disk")
	if _, err := os.Stat(at("no")); err == nil {
		t.Error("a parent was made where a disk may be missing")
	}
	for _, name := range []string{"foreign", "file"} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("foreign/thesis.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, make("foreign"), store.Conflict, "thesis.txt", "choose an empty directory")
	fails(t, make("foreign/thesis.txt"), store.Conflict, "not a directory")
	if names, _ := os.ReadDir(at("foreign")); len(names) != 1 {
		t.Errorf("a refused Create has left %v", names)
	}
	_, err := Create(at("file"), store.OwnerID{}, 0, Options{})
	fails(t, err, store.Invalid)
	_, err = Create(at("file"), owner, -1, Options{})
	fails(t, err, store.Invalid)

	// Crates without a marker are somebody's data.
	if err := os.Remove(at("new/" + MarkerName)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at("new"), cratesName, "00", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, make("new"), store.Conflict, "marker")
	// What an interrupted Create leaves is made whole; a new disk's own directory is no hindrance.
	if err := os.Remove(filepath.Join(at("new"), cratesName, "00", "x")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at("new/lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := make("new"); err != nil {
		t.Errorf("create over the rest of an interrupted one: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	ctx := context.Background()
	base := t.TempDir()
	root := filepath.Join(base, "node")
	id, err := Create(root, owner, 1<<20, Options{})
	if err != nil {
		t.Fatal(err)
	}
	open := func(path string, want store.NodeID, who store.OwnerID) error {
		s, err := Open(ctx, path, want, who, Options{})
		if err == nil {
			err = s.Close()
		}
		return err
	}
	if err := open(root, id, owner); err != nil {
		t.Fatal(err)
	}
	if m, err := Inspect(root); err != nil || m.ID != id || m.Owner != owner {
		t.Errorf("inspect: %+v, %v", m, err)
	}
	fails(t, open(root, store.NewNodeID(), owner), store.Conflict, "mount the right one")
	fails(t, open(root, id, store.OwnerID{9}), store.Denied, "another vault")
	fails(t, open(base, id, owner), store.Unavailable, "missing", "mount it")
	fails(t, open(filepath.Join(base, "none"), id, owner), store.Unavailable, "missing")
	if names, _ := os.ReadDir(base); len(names) != 1 {
		t.Errorf("something was made in a directory without a marker: %v", names)
	}
	_, err = Inspect(base)
	fails(t, err, store.NotFound)

	s := openStore(t, root, Options{})
	fails(t, open(root, id, owner), store.Conflict, "in use")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// A store that can't be read gives up what it took, so that it opens when it is put right.
	tmp := filepath.Join(root, tempName)
	if err := os.Remove(tmp); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tmp, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, open(root, id, owner), store.Unavailable)
	if err := os.Remove(tmp); err != nil {
		t.Fatal(err)
	}
	if err := open(root, id, owner); err != nil {
		t.Fatal(err)
	}

	marker := filepath.Join(root, MarkerName)
	good, err := os.ReadFile(marker)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := append([]byte{}, good...)
		bad[i] ^= 1
		if err := os.WriteFile(marker, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(root, id, owner); store.KindOf(err) != store.Corrupt && store.KindOf(err) != store.Invalid {
			t.Fatalf("byte %d of the marker changed: %v", i, err)
		}
	}
	newer := strings.Replace(string(good), "version 1", "version 2", 1)
	if err := os.WriteFile(marker, []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, open(root, id, owner), store.Invalid, "newer")
}

// TestUnmounted: a disk that goes from under an open store is missing, whatever is
// asked, and nothing is written in its place.
func TestUnmounted(t *testing.T) {
	ctx := context.Background()
	base := t.TempDir()
	root, away := filepath.Join(base, "node"), filepath.Join(base, "away")
	s := admitted(t, makeStore(t, root, 1<<20, Options{}))
	c, r := put(t, s, 5000)
	if err := os.Rename(root, away); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	check := func(err error) { t.Helper(); fails(t, err, store.Unavailable, "missing") }
	_, err := s.Stat(ctx, c.ID)
	check(err)
	_, err = s.Open(ctx, c.ID, 0, -1)
	check(err)
	_, err = s.List(ctx, nil)
	check(err)
	_, err = s.Status(ctx)
	check(err)
	_, err = s.Reserve(ctx, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 1})
	check(err)
	_, err = s.Put(ctx, newCrate(10).Put(r))
	check(err)
	check(s.PutBatch(ctx, []store.PutRequest{newCrate(10).Put(r)})[0].Err)
	check(s.Discard(ctx, store.DiscardRequest{Crate: c.ID}))
	_, err = s.File(ctx, c.ID)
	check(err)
	if names, _ := os.ReadDir(root); len(names) != 0 {
		t.Errorf("written in place of the disk: %v", names)
	}
	// Another store there is not it, either.
	if _, err := Create(root, owner, 0, Options{}); err != nil {
		t.Fatal(err)
	}
	_, err = s.Stat(ctx, c.ID)
	check(err)
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, root); err != nil {
		t.Fatal(err)
	}
	has(t, s, c)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestCapacity: what a store was made with holds until somebody says otherwise.
func TestCapacity(t *testing.T) {
	root := filepath.Join(t.TempDir(), "node")
	if _, err := Create(root, owner, 1<<20, Options{}); err != nil {
		t.Fatal(err)
	}
	for given, want := range map[int64]int64{0: 1 << 20, 5 << 20: 5 << 20, -1: 0} {
		s := openStore(t, root, Options{Capacity: given})
		if st, err := s.Status(context.Background()); err != nil || st.Capacity != want {
			t.Errorf("opened with %d: %+v, %v", given, st, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
