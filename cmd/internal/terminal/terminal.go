// Package terminal is what commands know of the terminal that they write to.
//
// Invariant: nothing that the commands print plays with a terminal, whoever named or wrote
// it. What comes from outside is made printable where it enters (store.Printable). The paths
// of files are the exception: any program and any unpacked archive may have named them, and
// scripts need them as they are. They are made printable where they are written to a
// terminal, as ls does it, and JSON escapes them.
package terminal

import (
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"stasis/store"
)

const (
	// MaxLine is the most that is shown of one line, in bytes.
	MaxLine = 64 << 10
	// maxLines is the most lines of one text.
	maxLines = 1000
)

// Is reports whether a file is a terminal.
func Is(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Lines is a text of one or several lines as it can be shown.
func Lines(text string) string {
	lines := strings.SplitN(text, "\n", maxLines)
	for i, l := range lines {
		lines[i] = store.Printable(l, MaxLine)
	}
	return strings.Join(lines, "\n")
}

// Path is a path, or a text with one, for out: printable if that is a terminal, as it is
// for scripts.
func Path(out io.Writer, text string) string {
	if f, ok := out.(*os.File); ok && Is(f) {
		return store.Printable(text, MaxLine)
	}
	return text
}
