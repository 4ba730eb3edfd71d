package httppeer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"stasis/peer/wire"
	"stasis/store"
)

var buffers = sync.Pool{New: func() any { p := make([]byte, wire.DataSize); return &p }}

// read tells of a crate, and for a GET sends it or a range of it.
func read(x *exchange) error {
	id, err := x.crate()
	if err != nil {
		return err
	}
	ctx := x.r.Context()
	info, err := x.session.Stat(ctx, id)
	if err != nil {
		return err
	}
	h, tag := x.w.Header(), etag(info.Root)
	h.Set("ETag", tag)
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", "application/octet-stream")
	h.Set(headerForm, formNames[info.Form])
	if x.r.Header.Get("If-None-Match") == tag {
		x.header(http.StatusNotModified)
		return nil
	}
	offset, length, code := int64(0), info.Size, http.StatusOK
	if want := x.r.Header.Get("If-Range"); x.r.Method == http.MethodGet && (want == "" || want == tag) {
		o, n, ranged, err := parseRange(x.r.Header.Get("Range"), info.Size)
		if err != nil {
			h.Set("Content-Range", fmt.Sprintf("bytes */%d", info.Size))
			x.failWith(wire.FromError(err), http.StatusRequestedRangeNotSatisfiable)
			return nil
		}
		if ranged {
			offset, length, code = o, n, http.StatusPartialContent
			h.Set("Content-Range", contentRange(offset, length, info.Size))
		}
	}
	if x.r.Method == http.MethodHead {
		h.Set("Content-Length", strconv.FormatInt(length, 10))
		x.header(code)
		return nil
	}
	open := x.session.Open
	if x.r.Header.Get(headerUnverified) == "1" {
		open = x.session.OpenUnverified
	}
	rc, err := open(ctx, id, offset, length)
	if err != nil {
		return err
	}
	defer rc.Close()
	return x.send(rc, length, code)
}

// send gives length bytes. Whoever takes trailers is told there what went wrong on the way;
// for others the connection is cut short of what Content-Length says.
func (x *exchange) send(rc io.Reader, length int64, code int) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	told := strings.EqualFold(x.r.Header.Get("Te"), "trailers")
	// The first bytes are there before the answer begins: most of what can go wrong has its
	// status then, and so has a disk that must spin up first.
	n, err := io.ReadFull(rc, (*buf)[:min(length, wire.DataSize)])
	if err != nil && n == 0 {
		return broken(err)
	}
	if told {
		x.w.Header().Set("Trailer", headerError)
	} else {
		x.w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	}
	x.header(code)
	for {
		x.writeUntil(time.Now().Add(wire.StallLimit))
		if _, werr := x.w.Write((*buf)[:n]); werr != nil {
			return werr
		}
		length -= int64(n)
		if err != nil && told {
			e, _ := outgoing(broken(err))
			x.w.Header().Set(headerError, headerText(e))
			return nil
		}
		if err != nil || length == 0 {
			return err
		}
		n, err = io.ReadFull(rc, (*buf)[:min(length, wire.DataSize)])
	}
}

// broken is what a store's reader failed with: a short one is damage of its own.
func broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &store.Error{Kind: store.Corrupt, Op: "read the crate", Detail: "it has fewer bytes than it should", Err: err}
	}
	return err
}

// events sends what happens, a line each, until the caller goes or the server drains; an
// empty line says that the server lives.
func events(x *exchange) error {
	after, err := parseCursor(x.r.URL.Query())
	if err != nil {
		return err
	}
	if x.conn != nil {
		defer x.conn.Listen()()
	}
	ctx, cancel := context.WithCancel(x.r.Context())
	defer cancel()
	defer context.AfterFunc(x.s.draining, cancel)()
	lines, ended := make(chan []byte), make(chan error, 1)
	go func() {
		defer close(lines)
		ended <- x.follow(ctx, after, lines)
	}()
	err = x.pass(lines)
	cancel()
	for range lines { // until the session has let go
	}
	if failed := <-ended; err == nil && x.s.draining.Err() == nil {
		err = failed
	}
	return err
}

// follow makes a line of each event.
func (x *exchange) follow(ctx context.Context, after wire.Cursor, lines chan<- []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("fault: %v\n%s", p, debug.Stack())
		}
	}()
	return x.session.Events(ctx, after, func(e wire.Event) error {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		select {
		case lines <- append(line, '\n'):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// pass writes lines as they come, and empty ones between them. The answer begins with the
// first, so that a refusal has its status.
func (x *exchange) pass(lines <-chan []byte) error {
	beat := time.NewTicker(wire.EventsHeartbeat)
	defer beat.Stop()
	for {
		line, open := []byte("\n"), true
		select {
		case line, open = <-lines:
			if !open {
				return nil
			}
		case <-beat.C:
		}
		if !x.begun {
			x.w.Header().Set("Content-Type", "application/jsonl")
			x.header(http.StatusOK)
		}
		x.writeUntil(time.Now().Add(wire.StallLimit))
		if _, err := x.w.Write(line); err != nil {
			return err
		}
		if err := x.control.Flush(); err != nil {
			return err
		}
	}
}

func parseCursor(q url.Values) (c wire.Cursor, err error) {
	c.Incarnation = q.Get("incarnation")
	if len(c.Incarnation) > wire.MaxText {
		return c, malformed("an incarnation of %d letters", len(c.Incarnation))
	}
	if s := q.Get("sequence"); s != "" {
		if c.Sequence, err = strconv.ParseUint(s, 10, 64); err != nil {
			return c, malformed("the sequence %.60q", s)
		}
	}
	return c, nil
}
