package store

import (
	"errors"
	"strings"
)

// Kind is the closed set of reasons an operation can fail for. A Kind is itself
// an error, so that errors.Is(err, store.NotFound) works through any wrapping
// and over any wire.
type Kind uint8

const (
	// NotFound: every place that should have it answered that it does not.
	NotFound Kind = iota + 1
	// Unavailable: a place did not answer, or not in time; it may have it.
	Unavailable
	// NoSpace: the place has not enough space free.
	NoSpace
	// Quota: the place has space, this owner may not have it.
	Quota
	// Corrupt: bytes do not match their checksum, or a structure is damaged.
	Corrupt
	// Denied: the caller may not do this.
	Denied
	// Conflict: it exists, and is something else.
	Conflict
	// Invalid: the request itself makes no sense.
	Invalid
)

var kindNames = [...]string{
	NotFound: "not found", Unavailable: "unavailable", NoSpace: "no space", Quota: "over quota",
	Corrupt: "corrupt", Denied: "denied", Conflict: "conflict", Invalid: "invalid",
}

func (k Kind) Error() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "unknown error kind"
}

// Error says what was being done, to what, what went wrong and, in Hint, what
// the person can do about it.
type Error struct {
	Kind    Kind
	Op      string // what was being done: "push crate"
	Subject string // to what: `7f3a… to node "nas"`
	Detail  string // what there is to know beyond the kind: "needs 4.0 MiB, has 1.2 MiB"
	Hint    string // what the person can do, if anything
	Err     error  // the cause, if there is one
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Subject != "" {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(e.Subject)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(e.Kind.Error())
	if e.Detail != "" {
		b.WriteString(" (" + e.Detail + ")")
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is makes the outermost kind the one that counts: an Unavailable that wraps a
// NotFound is an outage, not an absence.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && e.Kind == k
}

// KindOf gives the outermost kind in err's chain, or 0 if there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	return 0
}

// ErrWrongReceipt marks the error for a receipt whose root is not that of the bytes which were
// sent. No store answers it: who asked a store that is not on this machine finds it out.
var ErrWrongReceipt = errors.New("the receipt is for other bytes than were sent")
