package store

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text from outside is printable. A string that came over a wire, from a disk, out of a
// settings file or from another process may hold what a terminal obeys: it passes through
// Printable where it enters, before it becomes part of an error, a log or a list. The names
// of the person's own files stay as they are, as scripts need them; a command makes them
// printable when it writes to a terminal.

// ellipsis ends a text that was cut.
const ellipsis = "…"

// Printable is a text as it can be shown, in most bytes at most: valid UTF-8 of printable
// characters and plain spaces. U+FFFD stands for each of the others: control characters,
// newlines included, what changes the direction of the text, what has no width, and bytes
// that are no character. Where something was cut an ellipsis says so.
func Printable(s string, most int) string {
	if len(s) <= most && plainASCII(s) {
		return s
	}
	var b strings.Builder
	fits := 0 // bytes of what is left of the text if it is cut
	for _, r := range s {
		if !printable(r) {
			r = utf8.RuneError
		}
		if b.Len()+utf8.RuneLen(r) > most {
			return cut(b.String()[:fits], most)
		}
		b.WriteRune(r)
		if b.Len()+len(ellipsis) <= most {
			fits = b.Len()
		}
	}
	return b.String()
}

// cut marks a text as cut, where there is room for that.
func cut(s string, most int) string {
	if len(s)+len(ellipsis) > most {
		return s
	}
	return s + ellipsis
}

func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// printable tells whether a character is shown as itself. Some that Unicode counts among
// letters and marks show nothing.
func printable(r rune) bool {
	return unicode.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}
