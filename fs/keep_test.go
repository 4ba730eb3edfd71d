package fs

import (
	"bytes"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/fs/names"
)

// What was synced stays until its replacement is, however it is replaced, and where it
// lies in a body alone because it has not rested long enough to be sealed too.
func TestSyncedContentOutlivesItsReplacement(t *testing.T) {
	old, fresh := pattern(9000, 1), pattern(100, 2)
	for name, replace := range map[string]func(v *vault){
		"emptied and written": func(v *vault) {
			h := v.open("doc", unix.O_RDWR|unix.O_TRUNC)
			v.write(h, fresh, 0)
			v.close(h)
		},
		"renamed over": func(v *vault) {
			h := v.create("tmp")
			v.write(h, fresh, 0)
			v.close(h)
			must(v.t, v.Rename(names.Root, "tmp", names.Root, "doc", 0))
		},
		"renamed over twice": func(v *vault) {
			for range 2 {
				h := v.create("tmp")
				v.write(h, fresh, 0)
				v.close(h)
				v.forget("doc")
				must(v.t, v.Rename(names.Root, "tmp", names.Root, "doc", 0))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, 1, 64*mib)
			h := v.create("doc")
			v.write(h, old, 0)
			must(t, h.Fsync(t.Context()))
			v.close(h)
			v.forget("doc")
			replace(v)
			v.expect("doc", fresh)
			v.cutPower()
			v.expect("doc", old)
			v.sound()
		})
	}
}

// Where the replaced file has another name its content can't be inherited: the new one
// is synced first.
func TestRenameOverALinkedFileSyncs(t *testing.T) {
	old, fresh := pattern(9000, 1), pattern(100, 2)
	v := newVault(t, 1, 64*mib)
	v.put("doc", old)
	in, err := v.tree.Lookup(names.Root, "doc")
	must(t, err)
	_, err = v.Link(in.Ino, names.Root, "other")
	must(t, err)
	v.wait()
	h := v.create("tmp")
	v.write(h, fresh, 0)
	v.close(h)
	must(t, v.Rename(names.Root, "tmp", names.Root, "doc", 0))
	v.cutPower()
	v.expect("doc", fresh)
	v.expect("other", old)
}

// Who has the replaced file open, or is about to open what it just found, reads what it
// held: its content can't be inherited either.
func TestRenameOverAFileInUseSyncs(t *testing.T) {
	old, fresh := pattern(9000, 1), pattern(100, 2)
	for name, inUse := range map[string]func(v *vault) func() *Handle{
		"open": func(v *vault) func() *Handle {
			h := v.open("doc", unix.O_RDWR)
			v.forget("doc")
			return func() *Handle { return h }
		},
		"known to the kernel": func(v *vault) func() *Handle {
			a, err := v.Lookup(names.Root, "doc")
			must(v.t, err)
			return func() *Handle {
				h, err := v.Open(v.t.Context(), a.Ino, unix.O_RDWR, false)
				must(v.t, err)
				return h
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, 1, 64*mib)
			v.put("doc", old)
			v.wait()
			open := inUse(v)
			h := v.create("tmp")
			v.write(h, fresh, 0)
			v.close(h)
			must(t, v.Rename(names.Root, "tmp", names.Root, "doc", 0))
			h = open()
			got := make([]byte, len(old)+1)
			n, err := h.ReadAt(t.Context(), got, 0)
			must(t, err)
			if !bytes.Equal(got[:n], old) {
				t.Errorf("the replaced file reads as %d bytes of something else", n)
			}
			v.close(h)
			v.cutPower()
			v.expect("doc", fresh)
			v.sound()
		})
	}
}

// forget makes the kernel give back all it holds of a file.
func (v *vault) forget(name string) {
	v.t.Helper()
	in, err := v.tree.Lookup(names.Root, name)
	must(v.t, err)
	v.Forget(in.Ino, 1<<40)
}

// A node moves a body before it can serve it as a crate. A read in between waits, and
// does not fail.
func TestReadWaitsForABodyOnItsWay(t *testing.T) {
	p := pattern(9000, 1)
	v := newVault(t, 1, 64*mib)
	v.put("doc", nil)
	v.nodes[0].away.Store(true)
	h := v.open("doc", unix.O_RDWR)
	v.write(h, p, 0)
	v.close(h)
	in, err := v.tree.Lookup(names.Root, "doc")
	must(t, err)
	must(t, v.seal(t.Context(), v.pin(in.Ino)))
	in, err = v.tree.Get(in.Ino)
	must(t, err)
	es, err := v.extents(in.List, 0, 1)
	must(t, err)
	r, ok, err := v.lies(es[0].Crate)
	must(t, err)
	if !ok {
		t.Fatal("the content does not lie in a body")
	}
	path := v.bodies.Path(r.Body)
	must(t, os.Rename(path, path+"-moving"))
	back := time.AfterFunc(20*adoptionPoll, func() { must(t, os.Rename(path+"-moving", path)) })
	defer back.Stop()
	v.expect("doc", p)
}
