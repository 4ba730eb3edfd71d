package fs

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"syscall"
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
	{"small files", 0, 2, 2, true, func(v *pointVault) {
		v.save("f", pattern(5000, 1))
		v.settled()
		v.save("f", pattern(6000, 2))
		v.settled()
		v.does(func() { must(v.t, v.Unlink(names.Root, "f")) }, map[string][]byte{"f": nil})
		v.settled()
	}},
	{"renamed over", 0, 2, 2, true, func(v *pointVault) {
		v.save("a", pattern(5000, 1))
		v.save("b", pattern(3000, 2))
		v.settled()
		b := v.files["b"]
		v.does(func() { must(v.t, v.Rename(names.Root, "b", names.Root, "a", 0)) }, map[string][]byte{"a": b, "b": nil})
		v.settled()
	}},
	{"many extents", 40, 1, 1, false, func(v *pointVault) {
		v.saveScattered("f", scattered(6, 1))
		v.settled()
	}},
	{"node away", 0, 2, 2, true, func(v *pointVault) {
		v.disks[1].away.Store(true)
		v.save("f", pattern(5000, 1))
		time.Sleep(20 * time.Second)
		v.save("f", pattern(7000, 2))
		time.Sleep(20 * time.Second)
		v.disks[1].away.Store(false)
		v.settled()
	}},
	{"a policy up and down", 0, 1, 2, true, func(v *pointVault) {
		v.save("f", pattern(5000, 1))
		v.settled()
		for _, copies := range []int{2, 1} {
			v.policy.Copies = copies
			must(v.t, v.PolicyChanged())
			v.settled()
		}
	}},
	{"a clone", 0, 2, 2, false, func(v *pointVault) {
		p := pattern(3*mib, 1)
		v.save("f", p)
		v.settled()
		v.clone("f", "g")
		v.settled()
		v.does(func() { must(v.t, v.Unlink(names.Root, "f")) }, map[string][]byte{"f": nil})
		v.settled()
	}},
	{"a large file changed in places", 60, 1, 2, false, func(v *pointVault) {
		v.save("f", pattern(6*mib+100, 1))
		v.settled()
		for i := range 3 {
			v.change("f", pattern(9000, byte(i)), int64(2*i)*mib+5)
		}
		v.settled()
		v.resize("f", 3*mib+7)
		v.punch("f", 4096, 2*mib)
		v.settled()
	}},
	{"random, one", 0, 2, 3, false, func(v *pointVault) { v.random(1, 10) }},
	{"random, two", 64, 2, 3, false, func(v *pointVault) { v.random(2, 10) }},
}

// random does things to a few files and nodes.
func (v *pointVault) random(seed uint64, steps int) {
	rng := rand.New(rand.NewPCG(seed, 7))
	name := func() string { return string(rune('p' + rng.IntN(4))) }
	for step := range steps {
		f := name()
		_, there := v.files[f]
		switch op := rng.IntN(10); {
		case op < 3 || !there:
			v.save(f, pattern(rng.IntN(40_000)+1, byte(step)))
		case op == 3:
			v.change(f, pattern(5000, byte(step)), rng.Int64N(30_000))
		case op == 4:
			v.resize(f, rng.Int64N(30_000))
		case op == 5:
			v.punch(f, rng.Int64N(10_000), 8192)
		case op == 6:
			v.does(func() { must(v.t, v.Unlink(names.Root, f)) }, map[string][]byte{f: nil})
		case op == 7:
			if to := name(); to != f {
				v.does(func() { must(v.t, v.Rename(names.Root, f, names.Root, to, 0)) }, map[string][]byte{f: nil, to: v.files[f]})
			}
		case op == 8:
			d := v.disks[rng.IntN(len(v.disks))]
			d.away.Store(!d.away.Load())
		case op == 9:
			v.clone(f, "clone"+f)
		}
		time.Sleep(time.Duration(rng.IntN(4000)) * time.Millisecond)
	}
	for _, d := range v.disks {
		d.away.Store(false)
	}
	v.settled()
}

// handle opens a file to be written, and closes it after do.
func (v *pointVault) handle(name string, do func(h *Handle)) {
	v.t.Helper()
	in, err := v.find(name)
	must(v.t, err)
	h, err := v.Open(v.t.Context(), in.Ino, unix.O_RDWR, false)
	must(v.t, err)
	do(h)
	must(v.t, h.Flush(v.t.Context()))
	h.Release()
}

// change writes over a part of a file.
func (v *pointVault) change(name string, p []byte, off int64) {
	v.t.Helper()
	after := make([]byte, max(int64(len(v.files[name])), off+int64(len(p))))
	copy(after, v.files[name])
	copy(after[off:], p)
	v.does(func() {
		v.handle(name, func(h *Handle) {
			_, err := h.WriteAt(v.t.Context(), p, off, false)
			must(v.t, err)
		})
	}, map[string][]byte{name: after})
}

func (v *pointVault) resize(name string, size int64) {
	v.t.Helper()
	after := make([]byte, size)
	copy(after, v.files[name])
	v.does(func() {
		in, err := v.find(name)
		must(v.t, err)
		_, err = v.SetAttr(v.t.Context(), in.Ino, nil, Change{Size: &size})
		must(v.t, err)
	}, map[string][]byte{name: after})
}

func (v *pointVault) punch(name string, off, n int64) {
	v.t.Helper()
	after := bytes.Clone(v.files[name])
	if off < int64(len(after)) {
		clear(after[off:min(off+n, int64(len(after)))])
	}
	v.does(func() {
		v.handle(name, func(h *Handle) {
			must(v.t, h.Allocate(v.t.Context(), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n, false))
		})
	}, map[string][]byte{name: after})
}

// clone copies a file within the vault, where that is a matter of lists.
func (v *pointVault) clone(name, to string) {
	v.t.Helper()
	p := v.files[name]
	v.does(func() {
		if _, err := v.find(to); err == nil {
			must(v.t, v.Unlink(names.Root, to))
		}
		in, err := v.find(name)
		must(v.t, err)
		from, err := v.Open(v.t.Context(), in.Ino, unix.O_RDONLY, false)
		must(v.t, err)
		defer from.Release()
		h, err := v.newFile(to)
		must(v.t, err)
		n, err := h.CopyRange(v.t.Context(), 0, from, 0, int64(len(p)), false)
		if errors.Is(err, syscall.EXDEV) || err == nil && n < int64(len(p)) {
			_, err = h.WriteAt(v.t.Context(), p[n:], n, false)
		}
		must(v.t, err)
		must(v.t, h.Flush(v.t.Context()))
		h.Release()
	}, map[string][]byte{to: p})
}
