package wire

import (
	"strings"
	"testing"

	"stasis/store"
)

// nasty is what a hostile peer would have a terminal do.
const nasty = "\x1b[2J\x1b]0;owned\a\u009b31m\u202Egpj\u200B\nmore"

// shown fails if a text can do more to a terminal than be read, or is longer than most bytes.
func shown(t *testing.T, what, text string, most int) {
	t.Helper()
	if text != store.Printable(text, most) {
		t.Errorf("%s: %.200q", what, text)
	}
}

// Whatever text a peer sends, what is made of it can be shown: status, logs and lists have
// it from here.
func TestTextsArePrintable(t *testing.T) {
	long := strings.Repeat("\x1b", 1<<20)
	for _, text := range []string{nasty, long} {
		e := &Error{Kind: "denied", Op: text, Subject: text, Detail: text, Hint: text}
		shown(t, "an error", e.Err().Error(), 4*MaxErrorText+100)
		unknown := &Error{Kind: text}
		shown(t, "a kind", unknown.Err().Error(), 100)
		shown(t, "an error on its way", FromError(&store.Error{Kind: store.Denied, Detail: text}).Detail, MaxErrorText)
	}
	shares := Shares{[]Share{{Zone: nasty}}}
	s, err := shares.Store()
	if err != nil {
		t.Fatal(err)
	}
	shown(t, "a zone", s[0].Zone, MaxText)
	r, err := StoreReceipts([]Receipt{{Sums: Sums{Size: 1, Blocks: make([]byte, store.DigestSize)}, Address: nasty, Fingerprint: nasty}})
	if err != nil {
		t.Fatal(err)
	}
	shown(t, "an address", r[0].Address, MaxText)
	shown(t, "a fingerprint", r[0].Fingerprint, MaxText)
	e, err := CheckEvent(Event{Kind: nasty + long})
	if err != nil {
		t.Fatal(err)
	}
	shown(t, "the kind of an event", e.Kind, MaxEventKind)
	for _, text := range []string{nasty, strings.Repeat("i", MaxCursor+1)} {
		if _, err := CheckEvent(Event{Cursor: Cursor{Incarnation: text}}); err == nil {
			t.Errorf("the incarnation %.40q was taken", text)
		} else {
			shown(t, "an incarnation", err.Error(), 2*MaxErrorText)
		}
	}
}
