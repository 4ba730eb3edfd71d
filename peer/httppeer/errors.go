package httppeer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"stasis/peer/wire"
	"stasis/store"
)

// statusCodes let tools that know HTTP alone see roughly what happened.
var statusCodes = map[store.Kind]int{
	store.NotFound: http.StatusNotFound, store.Unavailable: http.StatusServiceUnavailable, store.NoSpace: http.StatusInsufficientStorage,
	store.Quota: http.StatusRequestEntityTooLarge, store.Corrupt: http.StatusUnprocessableEntity, store.Denied: http.StatusForbidden,
	store.Conflict: http.StatusConflict, store.Invalid: http.StatusBadRequest,
}

// outgoing is an error as it travels, and its status.
func outgoing(err error) (*wire.Error, int) {
	code, ok := statusCodes[store.KindOf(err)]
	if !ok {
		code = http.StatusServiceUnavailable
	}
	return wire.FromError(err), code
}

// headerText is an error for a header or a trailer: JSON in ASCII, its texts cut.
func headerText(e *wire.Error) string {
	short := *e
	for _, s := range []*string{&short.Op, &short.Subject, &short.Detail, &short.Hint} {
		*s = store.Printable(*s, maxErrorText)
	}
	text, err := json.Marshal(short)
	if err != nil {
		return `{"kind":"unavailable"}` // five strings always can be written
	}
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r < utf8.RuneSelf:
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			writeEscaped(&b, hi)
			writeEscaped(&b, lo)
		default:
			writeEscaped(&b, r)
		}
	}
	return b.String()
}

func writeEscaped(b *strings.Builder, r rune) {
	const digits = "0123456789abcdef"
	b.WriteString(`\u`)
	for shift := 12; shift >= 0; shift -= 4 {
		b.WriteByte(digits[r>>shift&15])
	}
}

// parseError reads an error that travelled; nil if it is none.
func parseError(text []byte) error {
	var e wire.Error
	if wire.Decode(text, &e) != nil || e.Kind == "" {
		return nil
	}
	return e.Err()
}

// answered is the error that an answer tells of.
func (c *Client) answered(op string, resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxFailure))
	if err == nil {
		if e := parseError(text); e != nil {
			return e
		}
	}
	if e := parseError([]byte(resp.Header.Get(headerError))); e != nil {
		return e
	}
	e := &store.Error{Kind: store.Unavailable, Op: op, Subject: "at " + c.o.Address, Detail: "it answers " + store.Printable(resp.Status, maxStatus)}
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
		e.Kind, e.Detail = store.Invalid, "it does not know this request; it is of another release, or something else answers at this address"
	}
	return e
}

// The reasons for which a client ends what is under way.
var (
	errDead    = errors.New("the link is dead")
	errStalled = errors.New("nothing moves, though it lives")
	errClosed  = errors.New("the link was closed")
)

// failed says what became of a request that got no answer, or not all of it.
func (c *Client) failed(ctx context.Context, op string, err error) error {
	out := &store.Error{Kind: store.Unavailable, Op: op, Subject: "at " + c.o.Address}
	cause := context.Cause(ctx)
	for _, e := range []error{errDead, errStalled, errClosed} {
		if errors.Is(cause, e) {
			out.Detail = e.Error()
			return out
		}
	}
	known := new(store.Error)
	if errors.As(cause, &known) || cause == nil && errors.As(err, &known) {
		return known
	}
	if u := new(url.Error); errors.As(err, &u) {
		err = u.Err
	}
	var remote *net.OpError
	switch {
	case errors.Is(cause, context.DeadlineExceeded):
		out.Detail = "no answer in time"
	case cause != nil:
		out.Detail, out.Err = "the call was given up", cause
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		out.Detail = "it ended the connection"
	case errors.As(err, &remote) && remote.Op == "remote error" && strings.Contains(err.Error(), "certificate"):
		out.Kind, out.Detail = store.Denied, "it refuses the certificate of this vault: "+store.Printable(remote.Err.Error(), maxErrorText)
	default:
		out.Detail = store.Printable(err.Error(), maxErrorText)
	}
	return out
}
