package control

import (
	"context"
	"encoding/json"
	"testing"

	"stasis/cmd/internal/terminal"
	"stasis/store"
)

// The daemon that answers may be another user's, and another program than this one.
func TestAnswersArePrintable(t *testing.T) {
	const nasty = "\x1b[2J\u009b\u202E"
	type inner struct {
		Text string
		Path string `text:"raw"`
	}
	type answer struct {
		Text  string
		List  []string
		Inner []inner
		Deep  *inner
		ID    store.CrateID
		Count int64
	}
	full := answer{Text: nasty, List: []string{nasty}, Inner: []inner{{nasty, nasty}}, Deep: &inner{Text: nasty}, Count: 1 << 60}
	dir := t.TempDir()
	s := serve(t, dir, func(_ context.Context, op string, _ json.RawMessage, progress Progress) (any, error) {
		if op == "fail" {
			return nil, &store.Error{Kind: store.Conflict, Op: nasty, Detail: nasty}
		}
		return full, nil
	})
	defer s.Close()
	var got answer
	if err := Call(t.Context(), dir, "get", 0, nil, &got, nil); err != nil {
		t.Fatal(err)
	}
	const clean = "\uFFFD[2J\uFFFD\uFFFD"
	if got.Text != clean || got.List[0] != clean || got.Inner[0].Text != clean || got.Deep.Text != clean || got.Count != full.Count {
		t.Errorf("%+v", got)
	}
	if got.Inner[0].Path != nasty {
		t.Errorf("a path became %q", got.Inner[0].Path)
	}
	err := Call(t.Context(), dir, "fail", 0, nil, nil, nil)
	if err == nil || err.Error() != terminal.Lines(err.Error()) {
		t.Errorf("an error: %q", err)
	}
	if err := Read([]byte(`{"Count":"`+"\u009b"+`"}`), &got); err == nil || err.Error() != terminal.Lines(err.Error()) {
		t.Errorf("no answer: %q", err)
	}
}
