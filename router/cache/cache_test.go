package cache

import (
	"bytes"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"stasis/store"
)

func open(t *testing.T, o Options) *Cache {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "cache")
	}
	if o.Available == nil {
		o.Available = func() (int64, error) { return 1 << 50, nil }
	}
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func content(k Key, n int) []byte { return bytes.Repeat([]byte{k.Crate[15], byte(k.Block)}, n/2) }

// keep puts a block and waits for it.
func keep(t *testing.T, c *Cache, k Key, n int) {
	t.Helper()
	c.Put(k, content(k, n))
	until(t, "it is written", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, soon := c.soon[k]
		return !soon
	})
}

func has(c *Cache, k Key, n int) bool { return bytes.Equal(c.Get(k, int64(n)), content(k, n)) }

func key(crate byte, block int64) Key { return Key{store.CrateID{6: 0x70, 8: 0x80, 15: crate}, block} }

// What was kept is there again after a restart, in the order in which it was used, and
// what does not belong there is gone.
func TestRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	c := open(t, Options{Dir: dir, Bytes: 1 << 20})
	for i := range 4 {
		k := key(1, int64(i))
		keep(t, c, k, 4096)
		at := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(c.path(k), at, at); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	stray := filepath.Join(dir, folder(key(1, 0).Crate), "stray")
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c = open(t, Options{Dir: dir, Bytes: 4 * 4096})
	keep(t, c, key(1, 4), 4096)
	if n, b := c.Size(); n != 4 || b != 4*4096 || has(c, key(1, 0), 4096) || !has(c, key(1, 1), 4096) {
		t.Errorf("%d blocks, %d bytes", n, b)
	}
	if _, err := os.Lstat(stray); !os.IsNotExist(err) {
		t.Errorf("the stray file: %v", err)
	}
	c.Close()
	if err := os.WriteFile(filepath.Join(dir, versionFile), []byte("stasis cache 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = open(t, Options{Dir: dir, Bytes: 1 << 20})
	if has(c, key(1, 1), 4096) {
		t.Error("blocks of another version were kept")
	}
}

// The cap holds, and what is used stays.
func TestLeastRecentlyUsedGoes(t *testing.T) {
	c := open(t, Options{Bytes: 8 * 4096})
	for i := range 40 {
		keep(t, c, key(2, int64(i)), 4096)
		if !has(c, key(2, 0), 4096) {
			t.Fatalf("the block in use went at %d", i)
		}
		if _, b := c.Size(); b > 8*4096 {
			t.Fatalf("%d bytes", b)
		}
	}
	if has(c, key(2, 5), 4096) {
		t.Error("an old block is still there")
	}
}

// The floor of free disk is never broken: what others take is given back.
func TestFloor(t *testing.T) {
	var others atomic.Int64
	var opened atomic.Pointer[Cache]
	const disk, floor = 100 << 20, 20 << 20
	free := func() (int64, error) {
		used := int64(0)
		if c := opened.Load(); c != nil {
			_, used = c.Size()
		}
		return disk - others.Load() - used, nil
	}
	c := open(t, Options{Bytes: 1 << 30, Floor: floor, Available: free})
	opened.Store(c)
	for i := range 200 {
		keep(t, c, key(3, int64(i)), 1<<20)
		if f, _ := free(); f < floor {
			t.Fatalf("%d bytes are free", f)
		}
	}
	if n, _ := c.Size(); n < 40 {
		t.Errorf("only %d blocks are kept", n)
	}
	others.Store(75 << 20)
	c.trim(0)
	if n, _ := c.Size(); n != 0 {
		t.Errorf("%d blocks are kept although others need the room", n)
	}
	keep(t, c, key(3, 1000), 1<<20)
	if n, _ := c.Size(); n != 0 {
		t.Error("a block was kept below the floor")
	}
}

// What can't be spared stays while others can go.
func TestSpare(t *testing.T) {
	only := key(9, 0)
	c := open(t, Options{Bytes: 4 * 4096, Spare: func(id store.CrateID) bool { return id != only.Crate }})
	keep(t, c, only, 4096)
	for i := range 20 {
		keep(t, c, key(4, int64(i)), 4096)
	}
	if !has(c, only, 4096) {
		t.Error("the only copy went")
	}
	if n, b := c.Size(); n != 4 || b != 4*4096 {
		t.Errorf("%d blocks, %d bytes", n, b)
	}
}

// A file that is too short or too long is dropped.
func TestTorn(t *testing.T) {
	c := open(t, Options{Bytes: 1 << 20})
	k := key(5, 1)
	keep(t, c, k, 4096)
	if err := os.Truncate(c.path(k), 100); err != nil {
		t.Fatal(err)
	}
	if c.Get(k, 4096) != nil {
		t.Error("a torn block was given")
	}
	if n, _ := c.Size(); n != 0 {
		t.Error("it is still in the books")
	}
}

// Whatever a file is called, a name that is read is the one that is written.
func FuzzName(f *testing.F) {
	f.Add(name(key(1, 2)))
	f.Add("x.1")
	f.Fuzz(func(t *testing.T, s string) {
		if k, ok := parse(s); ok && name(k) != s {
			t.Errorf("%q is read as %v", s, k)
		}
	})
}
