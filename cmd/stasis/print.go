package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf16"

	"stasis/cmd/internal/config"
	"stasis/cmd/internal/terminal"
	"stasis/store"
)

// The colours of a state, on terminals whose user has nothing against them.
const (
	green  = "32"
	yellow = "33"
	red    = "31"
)

func paint(text, colour string) string {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || !terminal.Is(os.Stdout) {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// progress shows one line that is rewritten, on a terminal's stderr only.
type progress struct{ shown bool }

func (p *progress) show(format string, args ...any) {
	if !terminal.Is(os.Stderr) {
		return
	}
	p.shown = true
	fmt.Fprintf(os.Stderr, "\r\x1b[K"+format, args...)
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}

// printJSON writes what has paths in it as they are: what a terminal would obey is escaped.
func printJSON(out io.Writer, v any) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(out, escapeJSON(text.String()))
	return err
}

// escapeJSON escapes the characters of a JSON text that can't be shown. Outside of its
// strings there are none.
func escapeJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch s := string(r); {
		case r == '\n' || s == store.Printable(s, len(s)):
			b.WriteString(s)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// count writes a number of things: "1 file", "12,345 files".
func count(n int64, thing string) string {
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	text := b.String() + " " + thing
	switch {
	case n == 1:
		return text
	case strings.HasSuffix(thing, "y"):
		return strings.TrimSuffix(text, "y") + "ies"
	}
	return text + "s"
}

// agree gives the form of a verb that goes with a number.
func agree(n int64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func size(n int64) string { return config.FormatSize(n) }

// rows writes a table with columns in line, for people: a script reads the JSON.
func rows(out io.Writer, lines [][]string) error {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, l := range lines {
		cells := make([]string, len(l))
		for i, c := range l {
			cells[i] = store.Printable(c, terminal.MaxLine)
		}
		fmt.Fprintln(w, "  "+strings.Join(cells, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) {
		if _, err := fmt.Fprintln(out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// ago writes how long something is past, roughly.
func ago(t time.Time) string {
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return t.Local().Format("2006-01-02")
}
