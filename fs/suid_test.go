package fs

import (
	"testing"

	"golang.org/x/sys/unix"
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
