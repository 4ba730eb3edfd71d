package container

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// A container is taken for nothing but itself.
func TestOpenRefuses(t *testing.T) {
	path, s := newContainer(t, MinCapacity, Options{})
	leaf := s.leaf
	try := func(what string, kind store.Kind, path string, want store.NodeID, owner store.OwnerID) {
		t.Helper()
		s, err := Open(context.Background(), path, want, owner, Options{})
		if err == nil {
			_ = s.Close()
		}
		if !errors.Is(err, kind) {
			t.Errorf("%s: %v, want %v", what, err, kind)
		}
		if err != nil && !strings.Contains(err.Error(), "; ") {
			t.Errorf("%s: %v says nothing of what to do", what, err)
		}
	}
	try("in use", store.Conflict, path, leaf, testOwner)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, p []byte) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, p, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	try("missing", store.Unavailable, filepath.Join(dir, "none"), leaf, testOwner)
	try("a directory", store.Unavailable, dir, leaf, testOwner)
	try("empty", store.Unavailable, write("empty", nil), leaf, testOwner)
	try("other", store.Unavailable, write("other", bytes.Repeat([]byte("x"), 100000)), leaf, testOwner)
	try("another leaf", store.Conflict, path, store.NewNodeID(), testOwner)
	try("another owner", store.Denied, path, leaf, store.OwnerID{8})
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(raw)
	bad[100] ^= 1
	bad[PageSize+100] ^= 1
	try("both superblocks damaged", store.Corrupt, write("bad", bad), leaf, testOwner)
	sb, _, _, err := readSupers(newLossy(raw))
	if err != nil {
		t.Fatal(err)
	}
	sb.version = FormatVersion + 1
	newer := bytes.Clone(raw)
	sb.encode(newer, 0)
	sb.encode(newer[PageSize:], 1)
	try("newer", store.Invalid, write("newer", newer), leaf, testOwner)

	// One damaged superblock is told of and written again.
	one := bytes.Clone(raw)
	one[100] ^= 1
	s, err = Open(context.Background(), write("one", one), leaf, testOwner, Options{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.Status(context.Background())
	if err != nil || st.Damage != 1 {
		t.Errorf("status %+v, %v; want one damage", st, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s = reopen(t, filepath.Join(dir, "one"), Options{}); s.damage.count() != 0 {
		t.Error("the damage is still there after it was mended")
	}
}

func TestInspect(t *testing.T) {
	path, s := newContainer(t, MinCapacity+5, Options{})
	info, err := Inspect(path) // while it is in use
	if err != nil || info.Leaf != s.leaf || info.Owner != testOwner || info.Capacity != MinCapacity || info.Created.IsZero() {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := Inspect(path + "x"); !errors.Is(err, store.Unavailable) {
		t.Errorf("missing: %v", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	path, _ := newContainer(t, MinCapacity, Options{})
	for name, c := range map[string]struct {
		path     string
		capacity int64
		kind     store.Kind
	}{
		"there already": {path, MinCapacity, store.Conflict},
		"too small":     {path + "1", MinCapacity - 1, store.Invalid},
		"negative":      {path + "1", -5, store.Invalid},
		"too large":     {path + "1", MaxCapacity + PageSize, store.Invalid},
		"no directory":  {filepath.Join(path+"1", "c"), MinCapacity, store.Unavailable},
	} {
		if _, err := Create(c.path, testOwner, c.capacity, Options{}); !errors.Is(err, c.kind) {
			t.Errorf("%s: %v, want %v", name, err, c.kind)
		}
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".stasis*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A file that is taken away or replaced under an open container is missing: what
// would be written there would be lost.
func TestFileTakenAway(t *testing.T) {
	path, s := newContainer(t, MinCapacity, Options{})
	ctx := context.Background()
	if err := s.Fence(ctx, nil, store.NewToken(), false); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	reserve := func() error {
		_, err := s.Reserve(ctx, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 4096})
		return err
	}
	if err := reserve(); !errors.Is(err, store.Unavailable) {
		t.Errorf("reserve: %v, want unavailable", err)
	}
	if _, err := s.Status(ctx); !errors.Is(err, store.Unavailable) {
		t.Errorf("status: %v, want unavailable", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := reserve(); !errors.Is(err, store.Unavailable) {
		t.Errorf("reserve: %v, want unavailable", err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if err := reserve(); err != nil {
		t.Errorf("back again: %v", err)
	}
}

// The lock is the file's, whatever name leads to it.
func TestLockedByAnotherName(t *testing.T) {
	path, _ := newContainer(t, MinCapacity, Options{})
	if err := unix.Link(path, path+"2"); err != nil {
		t.Skip(err)
	}
	if _, err := Open(context.Background(), path+"2", store.NodeID{}, testOwner, Options{}); !errors.Is(err, store.Conflict) {
		t.Errorf("got %v, want conflict", err)
	}
}
