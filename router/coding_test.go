package router

import (
	"strings"
	"testing"

	"stasis/store"
)

// A record may have been written by another machine, or by whoever got at the disk. Its texts
// are reasons, addresses and names, all of them for people.
func TestTextsOfRecordsArePrintable(t *testing.T) {
	for _, text := range []string{"\x1b[2J\x9b\u202E\n", strings.Repeat("\x1b", maxText)} {
		r := reader{b: appendString(nil, text)}
		if got := r.text(); r.end("read") != nil || got != store.Printable(text, maxText) {
			t.Errorf("%.40q became %.40q", text, got)
		}
	}
}
