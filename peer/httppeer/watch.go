package httppeer

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptrace"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// alive asks the peer, over a connection of its own, whether it lives, unless it was heard
// just now. Any answer will do, and so will one on another connection meanwhile.
// Whoever asks meanwhile gets the same answer.
func (c *Client) alive() error {
	if c.heardWithin(lately) {
		return nil
	}
	_, err, _ := c.asking.Do("", func() (any, error) {
		start := time.Now()
		err := c.ping()
		if err == nil {
			c.hear()
		}
		if err == nil || c.heardWithin(time.Since(start)) {
			return nil, nil
		}
		// Whatever connections there are to it will not serve either.
		c.pings.CloseIdleConnections()
		c.calls.CloseIdleConnections()
		c.dialer.note(errDead)
		return nil, err
	})
	return err
}

func (c *Client) ping() error {
	ctx, cancel := context.WithTimeout(c.life, pingWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+pathAlive, nil)
	if err != nil {
		return err
	}
	resp, err := c.pings.RoundTrip(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (c *Client) heardWithin(d time.Duration) bool {
	return time.Since(c.start)-time.Duration(c.heard.Load()) < d
}

// hear notes a sign of life.
func (c *Client) hear() { c.heard.Store(int64(time.Since(c.start))) }

// watch sees to it that something moves in one request. Where nothing does for suspectAfter
// it asks whether the peer lives; if so it goes on, up to a limit.
//
// What moves the system knows best: bytes that were handed to it say nothing about the link,
// bytes that the other system has taken note of do. They say nothing yet about the peer
// itself, which may have been stopped: they spare a request the question for a while.
type watch struct {
	c      *Client
	cancel context.CancelCauseFunc
	limit  time.Duration
	timer  *time.Timer

	mu      sync.Mutex
	conn    syscall.RawConn // nil: there is none yet
	seen    uint64          // bytes that had moved on it
	last    time.Time       // when something moved
	resting bool            // it is not the link that is waited for
	ended   bool
}

// watched makes a context that ends when its parent does, the client is closed, or nothing
// moves in the request made with it. It lives until end.
func (c *Client) watched(ctx context.Context, limit time.Duration) (context.Context, *watch) {
	w := &watch{c: c, limit: limit, last: time.Now()}
	ctx, w.cancel = context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.life, func() { w.cancel(errClosed) })
	context.AfterFunc(ctx, func() { stop() })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(suspectAfter, w.look)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: w.use}), w
}

// use takes note of the request's connection.
func (w *watch) use(info httptrace.GotConnInfo) {
	t, ok := info.Conn.(*tls.Conn)
	if !ok {
		return
	}
	s, ok := t.NetConn().(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return // it is closed: the request finds out
	}
	n := moved(raw)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn, w.seen = raw, n
}

// moved is how many bytes have come over a connection, and how many the other side has taken
// note of.
func moved(c syscall.RawConn) (n uint64) {
	_ = c.Control(func(fd uintptr) { // of a closed one nothing has moved
		if i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = i.Bytes_acked + i.Bytes_received
		}
	})
	return n
}

// wait notes that from now on the link is waited for.
func (w *watch) wait() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last, w.resting = time.Now(), false
}

// rest has the watch look away until the link is waited for.
func (w *watch) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resting = true
}

func (w *watch) end() {
	w.mu.Lock()
	w.ended = true
	w.timer.Stop()
	w.mu.Unlock()
	w.cancel(nil)
}

// quiet is for how long nothing has moved.
func (w *watch) quiet() (d time.Duration, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		if n := moved(w.conn); n >= w.seen+leastMoved && w.c.heardWithin(trust) {
			w.seen, w.last = n, time.Now()
		}
	}
	if w.resting {
		return 0, w.ended
	}
	return time.Since(w.last), w.ended
}

func (w *watch) look() {
	d, ended := w.quiet()
	if ended {
		return
	}
	next := suspectAfter - d
	if next <= 0 {
		next = suspectAfter
		err := w.c.alive()
		switch d, ended := w.quiet(); {
		case ended:
			return
		case d < suspectAfter: // it moved after all
			next -= d
		case err != nil:
			w.cancel(errDead)
			return
		case d > w.limit:
			w.cancel(errStalled)
			return
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.timer.Reset(next)
	}
}
