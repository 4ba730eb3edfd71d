package fs

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/fs/names"
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
