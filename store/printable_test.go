package store

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// A terminal obeys some of what it is given: a name or a message of another machine must
// not clear the screen, set the title or turn the text around it.
func TestPrintable(t *testing.T) {
	for _, c := range []struct {
		in   string
		most int
		want string
	}{
		{"", 10, ""},
		{"nas", 3, "nas"},
		{"Größe 5 µm, 日本 ❤", 100, "Größe 5 µm, 日本 ❤"},
		{"\x1b[2J\x1b]0;owned\a", 100, "\uFFFD[2J\uFFFD]0;owned\uFFFD"},
		{"two\nlines\r\tand", 100, "two\uFFFDlines\uFFFD\uFFFDand"},
		{"\u009b31m\x7f", 100, "\uFFFD31m\uFFFD"},
		{"\x9b31m", 100, "\uFFFD31m"},
		{"a\u202Egpj.exe\u2066\u2069", 100, "a\uFFFDgpj.exe\uFFFD\uFFFD"},
		{"a\u200Bb\u200D\u2060\uFEFF\u00AD\u034F\u3164\uFE0F", 100, "a\uFFFDb" + strings.Repeat("\uFFFD", 7)},
		{"a\u00A0b\u2028c", 100, "a\uFFFDb\uFFFDc"},
		{"\xff\xc3", 100, "\uFFFD\uFFFD"},
		{"0123456789", 9, "012345…"},
		{"0123456789", 3, "…"},
		{"0123456789", 2, ""},
		{"0123456789", 0, ""},
		{"0123456789", -1, ""},
		{"ééééé", 9, "ééé…"},
		{"\x1b\x1b\x1b", 8, "\uFFFD…"},
	} {
		if got := Printable(c.in, c.most); got != c.want {
			t.Errorf("Printable(%q, %d) = %q, want %q", c.in, c.most, got, c.want)
		}
	}
}

// FuzzPrintable holds it to what everybody who shows a text relies on.
func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"", "nas", "\x1b[2J", "\u202E", "é\xff", strings.Repeat("é", 50), "\U000E0001"} {
		f.Add(s, 20)
	}
	f.Fuzz(func(t *testing.T, s string, most int) {
		got := Printable(s, most)
		if len(got) > max(0, most) {
			t.Fatalf("%d bytes of at most %d", len(got), most)
		}
		if !utf8.ValidString(got) {
			t.Fatalf("%q is not valid", got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Cc, r) {
				t.Fatalf("%q has %U in it", got, r)
			}
		}
		if again := Printable(got, most); again != got {
			t.Fatalf("%q becomes %q", got, again)
		}
	})
}
