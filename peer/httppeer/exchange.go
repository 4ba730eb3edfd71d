package httppeer

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	"stasis/peer/guard"
	"stasis/peer/wire"
	"stasis/store"
)

// exchange is one request and its answer.
type exchange struct {
	s           *Server
	w           http.ResponseWriter
	r           *http.Request
	control     *http.ResponseController
	conn        *guard.Conn // nil where the server did not make the listener
	fingerprint string
	session     wire.Session // nil only where an invite is redeemed
	stranger    bool         // the connection is closed afterwards
	begun       bool         // the answer is under way
}

type exchangeKey struct{}

// expectBody bounds the coming of the request's body. Without one there must be no bound: net/http
// watches the connection for as long as the request is worked on.
func (x *exchange) expectBody() {
	if x.r.Body == nil || x.r.Body == http.NoBody {
		return
	}
	x.readUntil(time.Now().Add(wire.StallLimit))
}

// readUntil and writeUntil set the deadlines of the connection; zero means none. That they
// can't be set says that it is gone, which the next step finds out.
func (x *exchange) readUntil(t time.Time)  { _ = x.control.SetReadDeadline(t) }
func (x *exchange) writeUntil(t time.Time) { _ = x.control.SetWriteDeadline(t) }

// bounded reads the request's body, each step within StallLimit, and all of it until a time
// if there is one.
type bounded struct {
	x     *exchange
	until time.Time
}

func (b bounded) Read(p []byte) (int, error) {
	at := time.Now().Add(wire.StallLimit)
	if !b.until.IsZero() && b.until.Before(at) {
		at = b.until
	}
	b.x.readUntil(at)
	n, err := b.x.r.Body.Read(p)
	if err != nil {
		b.x.readUntil(time.Time{})
	}
	return n, err
}

// message reads a request in JSON, most bytes at most.
func (x *exchange) message(into any, most int64) error {
	if x.r.ContentLength > most {
		return malformed("%d bytes of JSON, the most is %d", x.r.ContentLength, most)
	}
	if n := x.r.ContentLength; x.session != nil && (n < 0 || n > maxStranger) {
		done, err := x.remember(messageMemory)
		if err != nil {
			return err
		}
		defer done()
	}
	until := time.Now().Add(wire.StallLimit)
	text, err := io.ReadAll(io.LimitReader(bounded{x, until}, most+1))
	switch {
	case err != nil:
		return &store.Error{Kind: store.Unavailable, Op: "read a request", Detail: "it broke off", Err: err}
	case int64(len(text)) > most:
		return malformed("more than %d bytes of JSON", most)
	}
	return x.turn(func() error { return wire.Decode(text, into) })
}

// turn does something in a turn at the processors, as reading and writing messages: long ones of
// one owner must not keep them from another. It must wait for nothing.
func (x *exchange) turn(do func() error) error {
	if err := x.s.turns.Acquire(x.r.Context(), x.fingerprint, 1); err != nil {
		return err
	}
	defer x.s.turns.Release(x.fingerprint, 1)
	return do()
}

// remember takes memory of the owner's lane for so many bytes.
func (x *exchange) remember(bytes int64) (forget func(), err error) {
	_, forget, err = x.room(x.r.Context(), bytes, bytes)
	return forget, err
}

// room is remember for whoever can do with less.
func (x *exchange) room(ctx context.Context, least, most int64) (n int64, forget func(), err error) {
	n, err = x.s.o.Memory.AcquireSome(ctx, x.fingerprint, least, most)
	return n, func() { x.s.o.Memory.Release(x.fingerprint, n) }, err
}

// crate is the id in the path.
func (x *exchange) crate() (id store.CrateID, err error) {
	if id, err = store.ParseCrateID(x.r.PathValue("id")); err == nil && id.IsZero() {
		err = malformed("the id of a crate is zero")
	}
	return id, err
}

// header begins the answer.
func (x *exchange) header(code int) {
	if x.stranger {
		x.w.Header().Set("Connection", "close")
	}
	if code >= http.StatusBadRequest && x.r.Body != nil && x.r.Body != http.NoBody {
		x.readUntil(time.Now().Add(lingerLimit)) // net/http reads what is left of a short body
	}
	x.begun = true
	x.writeUntil(time.Now().Add(wire.StallLimit))
	x.w.WriteHeader(code)
}

// answer sends a message.
func (x *exchange) answer(code int, message any) error {
	var text []byte
	err := x.turn(func() (err error) {
		text, err = json.Marshal(message)
		return err
	})
	if err != nil {
		return err
	}
	text = append(text, '\n')
	x.w.Header().Set("Content-Type", "application/json")
	x.w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	x.header(code)
	if x.r.Method == http.MethodHead {
		return nil
	}
	_, err = x.w.Write(text)
	return err
}

// done answers without a message.
func (x *exchange) done() error {
	x.header(http.StatusNoContent)
	return nil
}

// fail answers with an error.
func (x *exchange) fail(err error) {
	e, code := outgoing(err)
	x.failWith(e, code)
}

func (x *exchange) failWith(e *wire.Error, code int) {
	x.w.Header().Set(headerError, headerText(e))
	_ = x.answer(code, e) // whoever asked is gone
}

// finish answers with the error of a handler, or cuts an answer that is under way.
func (x *exchange) finish(err error) {
	if err == nil {
		return
	}
	if store.KindOf(err) == 0 {
		x.s.o.Log.WithField("resource", x.r.URL.Path).WithError(err).Debug("a request failed")
	}
	if x.begun {
		panic(http.ErrAbortHandler)
	}
	x.fail(err)
}
