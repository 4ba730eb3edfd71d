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
