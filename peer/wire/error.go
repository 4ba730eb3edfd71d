package wire

import (
	"errors"

	"stasis/store"
)

// Error is a store.Error on its way. A kind that is not known is read as Unavailable: the
// other side is newer, and nothing is known of what became of the request.
type Error struct {
	Kind    string `json:"kind"`
	Op      string `json:"op,omitempty"`
	Subject string `json:"subject,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

var kinds = map[string]store.Kind{
	"not-found": store.NotFound, "unavailable": store.Unavailable, "no-space": store.NoSpace, "quota": store.Quota,
	"corrupt": store.Corrupt, "denied": store.Denied, "conflict": store.Conflict, "invalid": store.Invalid,
}

func nameOf(kind store.Kind) string {
	for name, k := range kinds {
		if k == kind {
			return name
		}
	}
	return "unavailable"
}

// FromError is an error as it travels; nil for nil. What has no kind is Unavailable and
// travels without its text, which may speak of paths of this machine.
func FromError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *store.Error
	if errors.As(err, &e) {
		return &Error{Kind: nameOf(e.Kind), Op: clip(e.Op), Subject: clip(e.Subject), Detail: clip(e.Detail), Hint: clip(e.Hint)}
	}
	return &Error{Kind: nameOf(store.KindOf(err)), Op: "serve the request"}
}

// clip makes a text of an error printable: here is where those of another machine enter.
func clip(s string) string { return store.Printable(s, MaxErrorText) }

// Err is the error that travelled; nil for nil.
func (e *Error) Err() error {
	if e == nil {
		return nil
	}
	k, ok := kinds[e.Kind]
	if !ok {
		k = store.Unavailable
	}
	return &store.Error{Kind: k, Op: clip(e.Op), Subject: clip(e.Subject), Detail: clip(e.Detail), Hint: clip(e.Hint)}
}
