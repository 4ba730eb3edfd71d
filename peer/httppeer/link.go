package httppeer

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"stasis/peer/wire"
	"stasis/store"
)

// dialer makes connections to one peer. After a failure it makes none for a while, and says
// so at once.
type dialer struct {
	address string
	tls     *tls.Config

	mu    sync.Mutex
	pause time.Duration // after the last failure; 0: it went well
	until time.Time     // nothing is tried before
	last  error
}

// newTransport makes connections as they are needed, at most so many at a time.
func (d *dialer) newTransport(links int) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialTLSContext:  func(ctx context.Context, network, _ string) (net.Conn, error) { return d.dial(ctx, network) },
		MaxConnsPerHost: links, MaxIdleConnsPerHost: links, IdleConnTimeout: clientIdle, ExpectContinueTimeout: workLimit,
		WriteBufferSize: writeBuffer, ReadBufferSize: readBuffer, MaxResponseHeaderBytes: maxAnswerHeader,
		DisableCompression: true, Protocols: protocols,
	}
}

func (d *dialer) dial(ctx context.Context, network string) (net.Conn, error) {
	if err := d.rest(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	c, err := d.connect(ctx, network)
	if !errors.Is(err, context.Canceled) {
		d.note(err)
	}
	return c, err
}

func (d *dialer) connect(ctx context.Context, network string) (net.Conn, error) {
	raw, err := (&net.Dialer{KeepAliveConfig: keepAlive, Control: patient}).DialContext(ctx, network, d.address)
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw, d.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

// rest is the last failure as long as its pause lasts.
func (d *dialer) rest() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last != nil && time.Now().Before(d.until) {
		return d.last
	}
	return nil
}

func (d *dialer) note(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = err
	if err == nil {
		d.pause = 0
		return
	}
	d.pause = min(max(2*d.pause, reconnectFirst), reconnectMost)
	d.until = time.Now().Add(d.pause)
}

// alive asks the peer, over a connection of its own, whether it lives. Any answer will do.
// Whoever asks meanwhile gets the same answer.
func (c *Client) alive() error {
	_, err, _ := c.asking.Do("", func() (any, error) {
		ctx, cancel := context.WithTimeout(c.life, pingWait)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+pathAlive, nil)
		if err != nil {
			return nil, err
		}
		resp, err := c.pings.RoundTrip(req)
		if err != nil {
			// Whatever connections there are to it will not serve either.
			c.pings.CloseIdleConnections()
			c.calls.CloseIdleConnections()
			return nil, err
		}
		return nil, resp.Body.Close()
	})
	return err
}

// watch sees to it that something moves. Where nothing does for suspectAfter it asks whether
// the peer lives; if so it goes on, up to a limit.
type watch struct {
	c      *Client
	cancel context.CancelCauseFunc
	limit  time.Duration
	timer  *time.Timer

	mu      sync.Mutex
	last    time.Time
	resting bool // it is not the link that is waited for
	ended   bool
}

// watched makes a context that ends when its parent does, the client is closed, or nothing
// moves. It lives until end.
func (c *Client) watched(ctx context.Context, limit time.Duration) (context.Context, *watch) {
	w := &watch{c: c, limit: limit, last: time.Now()}
	ctx, w.cancel = context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.life, func() { w.cancel(errClosed) })
	context.AfterFunc(ctx, func() { stop() })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(suspectAfter, w.look)
	return ctx, w
}

// moved notes that something did, or that the link is waited for from now on.
func (w *watch) moved() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last, w.resting = time.Now(), false
}

// rest has the watch look away until something moves.
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

// patient bounds how long the system itself sends again what is not taken note of.
func patient(_, _ string, raw syscall.RawConn) error {
	var err error
	if e := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(wire.StallLimit/time.Millisecond))
	}); e != nil {
		return e
	}
	return err
}

func closed() error {
	return &store.Error{Kind: store.Unavailable, Op: "use the peer", Detail: errClosed.Error()}
}
