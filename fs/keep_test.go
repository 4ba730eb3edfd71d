package fs

import (
	"testing"

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
