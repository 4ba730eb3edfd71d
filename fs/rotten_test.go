package fs

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// One wrong block of a body leaves its right blocks readable while the copy is away.
func TestRottenBodyWhileCopyIsAway(t *testing.T) {
	v := newVault(t, 2, 1<<30, 1<<30)
	for _, n := range v.nodes {
		if err := v.rt.Pause(n.name, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 3<<16) // 3 MiB
	v.put("f", data)
	must(t, v.rt.Resume("a"))
	v.eventually("one copy", func() bool { return v.safety("f").Copies == 1 })
	bodies, _ := filepath.Glob(filepath.Join(v.dir, "bodies", "*"))
	hit := 0
	for _, d := range bodies {
		_ = filepath.Walk(d, func(p string, i os.FileInfo, err error) error {
			if err == nil && i.Mode().IsRegular() && i.Size() >= int64(len(data)) {
				f, _ := os.OpenFile(p, os.O_RDWR, 0)
				_, _ = f.WriteAt([]byte{1}, int64(len(data))-1)
				_ = f.Close()
				hit++
			}
			return nil
		})
	}
	if hit != 1 {
		t.Fatalf("%d bodies", hit)
	}
	v.nodes[0].away.Store(true)
	first := func() error {
		h := v.open("f", unix.O_RDONLY)
		defer h.Release()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		p := make([]byte, 4096)
		_, err := h.ReadAt(ctx, p, 0)
		if err == nil && !bytes.Equal(p, data[:4096]) {
			t.Error("other bytes")
		}
		return err
	}
	if err := first(); err != nil {
		t.Fatal("before: ", err)
	}
	must(t, v.rt.Resume("b"))
	time.Sleep(5 * time.Second)
	if err := first(); err != nil {
		t.Errorf("block 0, which is right in the body: %v", err)
	}
}
