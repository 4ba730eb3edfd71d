package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"stasis/cmd/internal/api"
	"stasis/store"
)

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0 copies", 1: "1 copy", 999: "999 copies", 1000: "1,000 copies", 1234567: "1,234,567 copies"} {
		if got := count(n, "copy"); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	if got := count(2, "crate"); got != "2 crates" {
		t.Error(got)
	}
}

func TestCopyState(t *testing.T) {
	now := time.Now()
	for want, c := range map[string]api.Copy{
		"":                   {},
		"not there yet":      {Of: 1},
		"1 of 3 parts there": {Parts: 1, Of: 3},
		"there":              {Parts: 3, Of: 3},
		"verified just now":  {Parts: 3, Of: 3, Verified: now},
		"verified 5 min ago": {Parts: 3, Of: 3, Verified: now.Add(-5 * time.Minute)},
		"verified 47 h ago":  {Parts: 3, Of: 3, Verified: now.Add(-47*time.Hour - time.Minute)},
	} {
		if got := copyState(c); got != want {
			t.Errorf("%+v: %q, want %q", c, got, want)
		}
	}
}

func TestRowsHaveNoTrailingSpace(t *testing.T) {
	var b strings.Builder
	if err := rows(&b, [][]string{{"NAME", "NOTE"}, {"a longer name", ""}}); err != nil {
		t.Fatal(err)
	}
	if want := "  NAME           NOTE\n  a longer name\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

// Slips on the command line are found before anything is touched, and end with 2.
func TestUsage(t *testing.T) {
	for _, line := range []string{
		"statsu", "status a b", "status --jsn", "find", "find --state lost", "wait", "wait --copies 0 x", "wait --timeout -1s x",
		"umount", "umount --wait=0s x", "node", "node ad", "node add v", "node add v a,b memory --capacity 1G", "node add v n floppy /x",
		"node add v n memory", "node add v n memory /x --capacity 1G", "node add v n directory", "node add v n container /x",
		"node add v n directory /x --capacity lots", "node add v n directory /x --capacity 1", "node add v n directory /x --zone a,b",
		"node add v n directory /x --rate slow", "policy set x", "policy set x --copies 0", "policy set x --copies 65", "policy get",
		"completion tcsh", "completion", "restore x", "backup x", "key", "version x",
	} {
		if code := run(strings.Fields(line)); code != exitUsage {
			t.Errorf("stasis %s: exit code %d", line, code)
		}
	}
	for _, line := range []string{"version", "--help", "node --help", "node add --help", "completion bash", "completion zsh", "completion fish"} {
		if code := run(strings.Fields(line)); code != 0 {
			t.Errorf("stasis %s: exit code %d", line, code)
		}
	}
}

// Whoever named a node's path or wrote an error does not get at the terminal.
func TestWhatIsPrintedIsPrintable(t *testing.T) {
	const nasty = "\x1b[2J\u009b\u202E\U000E0001\n\tx"
	var b strings.Builder
	if err := rows(&b, [][]string{{nasty, nasty}}); err != nil {
		t.Fatal(err)
	}
	if text := strings.TrimSuffix(b.String(), "\n"); text != store.Printable(text, len(text)) {
		t.Errorf("a table: %q", text)
	}
	b.Reset()
	if err := printJSON(&b, nasty); err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSuffix(b.String(), "\n")
	if text != store.Printable(text, len(text)) {
		t.Errorf("JSON: %q", text)
	}
	var back string
	if err := json.Unmarshal([]byte(text), &back); err != nil || back != nasty {
		t.Errorf("JSON for a script: %q, %v", back, err)
	}
	b.Reset()
	if err := printStatus(&b, &api.Status{Mount: nasty, Reason: "All is safe."}); err != nil {
		t.Fatal(err)
	}
	if text := strings.TrimSuffix(b.String(), "\n"); text != store.Printable(text, len(text)) {
		t.Errorf("a status: %q", text)
	}
}
