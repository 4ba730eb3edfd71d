package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/fs/names"
	"stasis/store"
)

// What a change of owner clears is cleared of everything but directories, as the kernel
// does on other filesystems.
func TestStrippedSUID(t *testing.T) {
	for _, c := range []struct{ mode, want uint32 }{
		{unix.S_IFREG | 0o6755, unix.S_IFREG | 0o755},
		{unix.S_IFREG | 0o6745, unix.S_IFREG | 0o2745},
		{unix.S_IFIFO | 0o2755, unix.S_IFIFO | 0o755},
		{unix.S_IFDIR | 0o6755, unix.S_IFDIR | 0o6755},
	} {
		if got := strippedSUID(c.mode); got != c.want {
			t.Errorf("%o becomes %o, want %o", c.mode, got, c.want)
		}
	}
}

// So is it with capabilities: a file loses them with a change of owner, a directory, where
// they mean nothing, keeps them.
func TestChownAndCapabilities(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	for name, c := range map[string]struct {
		mode uint32
		want error
	}{"file": {unix.S_IFREG | 0o755, syscall.ENODATA}, "directory": {unix.S_IFDIR | 0o755, nil}} {
		a, err := v.Make(names.Root, name, names.Spec{Mode: c.mode})
		must(t, err)
		must(t, v.SetXattr(a.Ino, "security.capability", []byte("any"), 0, false))
		owner := uint32(1000)
		_, err = v.SetAttr(context.Background(), a.Ino, nil, Change{UID: &owner})
		must(t, err)
		if _, err := v.GetXattr(context.Background(), a.Ino, "security.capability"); !errors.Is(err, c.want) {
			t.Errorf("of a %s: %v, want %v", name, err, c.want)
		}
	}
}

// privileged makes a program that gives the rights of another, settled.
func (v *vault) privileged(name string, p []byte) names.Ino {
	v.t.Helper()
	v.put(name, p)
	v.wait()
	in, err := v.find(name)
	must(v.t, err)
	mode := uint32(0o6775)
	_, err = v.SetAttr(v.t.Context(), in.Ino, nil, Change{Mode: &mode})
	must(v.t, err)
	must(v.t, v.SetXattr(in.Ino, xattrCapability, []byte("any"), 0, false))
	return in.Ino
}

// privileges says which of them a file has.
func (v *vault) privileges(ino names.Ino) string {
	v.t.Helper()
	a, err := v.GetAttr(ino)
	must(v.t, err)
	capable, err := v.capable(ino)
	must(v.t, err)
	return fmt.Sprintf("%o, capable: %v", a.Mode&0o7777, capable)
}

// Who may not give a program the rights of another takes them with every change of its content,
// and who may leaves them.
func TestChangesTakePrivileges(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	p := pattern(3*store.BlockSize, 1)
	v.put("source", p)
	v.wait()
	ways := map[string]func(ino names.Ino, kill bool) error{
		"open and cut": func(ino names.Ino, kill bool) error {
			h, err := v.Open(t.Context(), ino, unix.O_WRONLY|unix.O_TRUNC, kill)
			if err == nil {
				h.Release()
			}
			return err
		},
		"truncate": func(ino names.Ino, kill bool) error {
			_, err := v.SetAttr(t.Context(), ino, nil, Change{Size: new(int64), KillSUIDGID: kill})
			return err
		},
	}
	handle := func(do func(h *Handle, kill bool) error) func(names.Ino, bool) error {
		return func(ino names.Ino, kill bool) error {
			h, err := v.Open(t.Context(), ino, unix.O_RDWR, false)
			must(t, err)
			defer h.Release()
			return do(h, kill)
		}
	}
	ways["write"] = handle(func(h *Handle, kill bool) error {
		_, err := h.WriteAt(t.Context(), p[:1], 0, kill)
		return err
	})
	for _, mode := range []uint32{0, unix.FALLOC_FL_KEEP_SIZE, holeMode, zeroMode, unix.FALLOC_FL_ZERO_RANGE} {
		ways[fmt.Sprintf("fallocate %#x", mode)] = handle(func(h *Handle, kill bool) error {
			return h.Allocate(t.Context(), mode, 0, 8192, kill)
		})
	}
	for name, at := range map[string]int64{"copy blocks": 0, "copy bytes": 100} {
		ways[name] = handle(func(h *Handle, kill bool) error {
			from := v.open("source", unix.O_RDONLY)
			defer from.Release()
			n, err := h.CopyRange(t.Context(), at, from, at, store.BlockSize, kill)
			if err == nil && n == 0 {
				err = errors.New("nothing was copied")
			}
			return err
		})
	}
	bodies := filepath.Join(v.dir, "bodies")
	for name, do := range ways {
		for kill, want := range map[bool]string{false: "6775, capable: true", true: "775, capable: false"} {
			ino := v.privileged(fmt.Sprintf("%s %v", name, kill), pattern(2*store.BlockSize, 2))
			must(t, do(ino, kill))
			if got := v.privileges(ino); got != want {
				t.Errorf("%s, unprivileged %v: %s, want %s", name, kill, got, want)
			}
		}
		if name == "copy blocks" {
			continue // needs no body
		}
		// They go first, for good: here the change comes to nothing, as after a kill.
		ino := v.privileged(name+" in vain", pattern(2*store.BlockSize, 2))
		before := v.db.Position()
		must(t, os.Rename(bodies, bodies+".away"))
		err := do(ino, true)
		must(t, os.Rename(bodies+".away", bodies))
		if err == nil {
			t.Errorf("%s needs no body", name)
		}
		if got := v.privileges(ino); got != "775, capable: false" {
			t.Errorf("%s left %s to the content that would have followed", name, got)
		}
		if v.db.Synced() <= before {
			t.Errorf("%s may leave privileges after a power cut", name)
		}
	}
	v.sound()
}

// Nobody loses a bit that says nothing of rights, and a directory none at all.
func TestChangedMode(t *testing.T) {
	for _, c := range []struct{ mode, want uint32 }{
		{unix.S_IFREG | 0o7777, unix.S_IFREG | 0o1777},
		{unix.S_IFREG | 0o2766, unix.S_IFREG | 0o766},
		{unix.S_IFDIR | 0o6755, unix.S_IFDIR | 0o6755},
	} {
		if got := changedMode(c.mode); got != c.want {
			t.Errorf("%o becomes %o, want %o", c.mode, got, c.want)
		}
	}
}
