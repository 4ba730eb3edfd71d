package fs

import (
	"time"

	"golang.org/x/sys/unix"

	"stasis/fs/names"
	"stasis/store"
)

// write writes a new file, or over an old one, and closes it.
func (v *pointVault) save(name string, p []byte) {
	v.t.Helper()
	v.does(func() {
		in, err := v.find(name)
		var h *Handle
		if err == nil {
			h, err = v.Open(v.t.Context(), in.Ino, unix.O_RDWR|unix.O_TRUNC, false)
		} else {
			h, err = v.newFile(name)
		}
		must(v.t, err)
		n, err := h.WriteAt(v.t.Context(), p, 0, false)
		if err != nil || n != len(p) {
			v.t.Fatalf("write %s: %d, %v", name, n, err)
		}
		must(v.t, h.Flush(v.t.Context()))
		h.Release()
	}, map[string][]byte{name: p})
}

// newFile makes a file that nobody knows but by its handle.
func (v *pointVault) newFile(name string) (*Handle, error) {
	a, h, err := v.Create(names.Root, name, names.Spec{Mode: 0o644}, unix.O_RDWR)
	if err == nil {
		v.Forget(a.Ino, 1)
	}
	return h, err
}

// scattered is a body with many parts, each of which becomes a crate: n blocks with a hole before
// each.
func scattered(n int, seed byte) (p []byte) {
	p = make([]byte, 2*n*store.BlockSize)
	for i := range n {
		copy(p[(2*i+1)*store.BlockSize:], pattern(store.BlockSize, seed+byte(i)))
	}
	return p
}

// saveScattered writes the parts of such content alone.
func (v *pointVault) saveScattered(name string, p []byte) {
	v.t.Helper()
	v.does(func() {
		h, err := v.newFile(name)
		must(v.t, err)
		for at := store.BlockSize; at < len(p); at += 2 * store.BlockSize {
			_, err := h.WriteAt(v.t.Context(), p[at:at+store.BlockSize], int64(at), false)
			must(v.t, err)
		}
		must(v.t, h.Flush(v.t.Context()))
		h.Release()
	}, map[string][]byte{name: p})
}

var scripts = []script{
	{"small files", 0, 2, 2, func(v *pointVault) {
		v.save("f", pattern(5000, 1))
		v.settled()
		v.save("f", pattern(6000, 2))
		v.settled()
		v.does(func() { must(v.t, v.Unlink(names.Root, "f")) }, map[string][]byte{"f": nil})
		v.settled()
	}},
	{"renamed over", 0, 2, 2, func(v *pointVault) {
		v.save("a", pattern(5000, 1))
		v.save("b", pattern(3000, 2))
		v.settled()
		b := v.files["b"]
		v.does(func() { must(v.t, v.Rename(names.Root, "b", names.Root, "a", 0)) }, map[string][]byte{"a": b, "b": nil})
		v.settled()
	}},
	{"many extents", 40, 1, 1, func(v *pointVault) {
		v.saveScattered("f", scattered(6, 1))
		v.settled()
	}},
	{"node away", 0, 2, 2, func(v *pointVault) {
		v.disks[1].away.Store(true)
		v.save("f", pattern(5000, 1))
		time.Sleep(20 * time.Second)
		v.save("f", pattern(7000, 2))
		time.Sleep(20 * time.Second)
		v.disks[1].away.Store(false)
		v.settled()
	}},
}
