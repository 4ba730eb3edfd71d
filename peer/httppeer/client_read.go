package httppeer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"stasis/peer/wire"
	"stasis/store"
)

// Stat is store.Store's.
func (c *Client) Stat(ctx context.Context, id store.CrateID) (store.CrateInfo, error) {
	op := "look for crate " + id.String()
	ctx, cancel := context.WithTimeout(ctx, wire.CallLimit)
	defer cancel()
	ctx, w := c.watched(ctx, wire.CallLimit)
	defer w.end()
	r, err := c.request(ctx, http.MethodHead, pathCrates+"/"+id.String(), nil)
	if err != nil {
		return store.CrateInfo{}, err
	}
	resp, err := c.send(op, r)
	if err != nil {
		return store.CrateInfo{}, err
	}
	defer resp.Body.Close()
	return readInfo(id, resp.Header, resp.ContentLength)
}

// readInfo reads what the answer to a HEAD tells of a crate.
func readInfo(id store.CrateID, h http.Header, size int64) (store.CrateInfo, error) {
	root, err := parseETag(h.Get("Etag"))
	if err != nil {
		return store.CrateInfo{}, err
	}
	form, err := parseForm(h.Get(headerForm))
	if err != nil {
		return store.CrateInfo{}, err
	}
	info := wire.Info{ID: id, Form: uint8(form), Size: size, Root: root}
	return info.Store()
}

// Open is store.Store's. The bytes are as the peer gave them; who has the checksums
// verifies them.
func (c *Client) Open(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	return c.openRange(ctx, wire.Range{Crate: id, Offset: offset, Length: length})
}

// OpenUnverified is store.Unverified's.
func (c *Client) OpenUnverified(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	return c.openRange(ctx, wire.Range{Crate: id, Offset: offset, Length: length, Unverified: true})
}

func (c *Client) openRange(ctx context.Context, want wire.Range) (io.ReadCloser, error) {
	op := "read crate " + want.Crate.String()
	if err := want.Check(); err != nil {
		return nil, err
	}
	if want.Length == 0 {
		return c.nothing(ctx, op, want.Crate, want.Offset)
	}
	ctx, w := c.watched(ctx, wire.StallLimit)
	rc, size, err := c.open(ctx, w, op, want)
	if err == nil {
		return rc, nil
	}
	w.end()
	if size == want.Offset && want.Length < 0 {
		return http.NoBody, nil // all that is after the end
	}
	return nil, err
}

// nothing is an empty range, which HTTP has no word for.
func (c *Client) nothing(ctx context.Context, op string, id store.CrateID, offset int64) (io.ReadCloser, error) {
	info, err := c.Stat(ctx, id)
	if err != nil {
		return nil, err
	}
	if offset > info.Size {
		return nil, outside(op, offset, 0, info.Size)
	}
	return http.NoBody, nil
}

func outside(op string, offset, length, size int64) error {
	return &store.Error{Kind: store.Invalid, Op: op, Detail: fmt.Sprintf("range %d+%d is outside its %d bytes", offset, length, size)}
}

// open asks for a range that is not empty; size is that of the crate if the range lies
// outside of it, else -1.
func (c *Client) open(ctx context.Context, w *watch, op string, want wire.Range) (_ io.ReadCloser, size int64, err error) {
	r, err := c.request(ctx, http.MethodGet, pathCrates+"/"+want.Crate.String(), nil)
	if err != nil {
		return nil, -1, err
	}
	last := ""
	if want.Length > 0 {
		last = strconv.FormatInt(want.Offset+want.Length-1, 10)
	}
	r.Header.Set("Range", fmt.Sprintf("bytes=%d-%s", want.Offset, last))
	r.Header.Set("Te", "trailers")
	if want.Unverified {
		r.Header.Set(headerUnverified, "1")
	}
	resp, err := c.calls.RoundTrip(r)
	if err != nil {
		return nil, -1, c.failed(ctx, op, err)
	}
	c.hear()
	if resp.StatusCode != http.StatusPartialContent {
		defer resp.Body.Close()
		if _, _, size, err := parseContentRange(resp.Header.Get("Content-Range")); err == nil && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
			return nil, size, outside(op, want.Offset, want.Length, size)
		}
		return nil, -1, c.answered(op, resp)
	}
	offset, length, size, err := parseContentRange(resp.Header.Get("Content-Range"))
	if err == nil && (offset != want.Offset || want.Length > length) {
		err = outside(op, want.Offset, want.Length, size)
	}
	if err == nil && want.Length > 0 && length != want.Length {
		err = malformed("a range of %d bytes where %d were asked for", length, want.Length)
	}
	if err != nil {
		resp.Body.Close()
		return nil, -1, err
	}
	w.rest()
	return &remote{c: c, ctx: ctx, w: w, op: op, resp: resp, left: length}, -1, nil
}

// remote is a range as it comes in. The watch on progress rests while nobody reads.
type remote struct {
	c      *Client
	ctx    context.Context
	w      *watch
	op     string
	resp   *http.Response
	left   int64 // bytes
	failed error
	closed sync.Once
}

func (r *remote) Read(p []byte) (int, error) {
	if r.failed != nil {
		return 0, r.failed
	}
	if len(p) == 0 {
		return 0, nil
	}
	r.w.wait()
	n, err := r.resp.Body.Read(p)
	if n > 0 {
		r.c.hear()
	}
	r.w.rest()
	switch r.left -= int64(n); {
	case err == nil && r.left >= 0:
		return n, nil
	case r.left < 0:
		r.failed = malformed("more bytes than were asked for")
	case err == io.EOF && r.left == 0:
		r.failed = io.EOF
	default:
		r.failed = r.short(err)
	}
	return n, r.failed
}

// short says why there were fewer bytes than there should be.
func (r *remote) short(err error) error {
	if err == io.EOF {
		if e := parseError([]byte(r.resp.Trailer.Get(headerError))); e != nil {
			return e
		}
	}
	return r.c.failed(r.ctx, r.op, err)
}

// Close gives up what has not come yet.
func (r *remote) Close() (err error) {
	r.closed.Do(func() {
		if r.left == 0 && r.failed == nil { // all that is out is the end
			late := time.AfterFunc(endWait, r.w.end)
			_, _ = r.Read(make([]byte, 1))
			late.Stop()
		}
		if r.failed != io.EOF { // else the connection serves again
			r.w.end()
		}
		err = r.resp.Body.Close()
		r.w.end()
	})
	if err != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Events gives what the peer says unasked, until ctx ends, the link breaks or give fails.
func (c *Client) Events(ctx context.Context, after wire.Cursor, give func(wire.Event) error) error {
	const op = "listen to the peer"
	ctx, w := c.watched(ctx, wire.StallLimit)
	defer w.end()
	q := url.Values{"incarnation": {after.Incarnation}, "sequence": {strconv.FormatUint(after.Sequence, 10)}}
	r, err := c.request(ctx, http.MethodGet, pathEvents+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := c.send(op, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// Heartbeats come often enough: silence needs no further question.
	silence := time.AfterFunc(DeadAfter, func() { w.cancel(errDead) })
	defer silence.Stop()
	lines := bufio.NewReaderSize(resp.Body, maxEvent)
	var signs wire.Signs
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return malformed("an event of more than %d bytes", maxEvent)
		}
		if err != nil {
			return c.failed(ctx, op, err)
		}
		w.rest()
		silence.Stop()
		if line = bytes.TrimSpace(line); len(line) == 0 {
			if err := signs.Heed(); err != nil {
				return err
			}
		} else {
			var e wire.Event
			if wire.Decode(line, &e) != nil {
				return malformed("an event that is not its JSON: %.100q", line)
			}
			if e, err = wire.CheckEvent(e); err != nil {
				return err
			}
			if e.Kind == wire.EventAlive {
				if err := signs.Heed(); err != nil {
					return err
				}
			}
			if err := give(e); err != nil {
				return err
			}
		}
		silence.Reset(DeadAfter)
	}
}
