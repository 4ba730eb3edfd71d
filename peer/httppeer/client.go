package httppeer

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/singleflight"

	"stasis/peer/wire"
	"stasis/store"
)

// ClientOptions of a Client. Address and TLS must be given.
type ClientOptions struct {
	Address string // host:port
	// TLS shows the owner's certificate and accepts the peer's alone.
	TLS *tls.Config
	// SignDiscard signs the giving up of a crate on a leaf, in the owner's name.
	SignDiscard func(store.CrateID, store.NodeID) []byte
	Log         logrus.FieldLogger
}

// Client is a peer as a store. It connects when it is first used, and again whenever the
// link was lost. All methods may be called concurrently.
type Client struct {
	o            ClientOptions
	base         string // of all addresses of resources
	dialer       *dialer
	calls, pings *http.Transport
	start        time.Time
	heard        atomic.Int64 // when there was a sign of life, in nanoseconds since start
	asking       singleflight.Group
	mount        atomic.Pointer[store.Token] // that was admitted; nil: none was
	life         context.Context             // until Close
	end          context.CancelFunc
}

var (
	_ store.Store      = (*Client)(nil)
	_ store.Batcher    = (*Client)(nil)
	_ store.Fencer     = (*Client)(nil)
	_ store.Unverified = (*Client)(nil)
)

// Dial makes a client. It talks to nobody yet.
func Dial(o ClientOptions) (*Client, error) {
	host, port, err := net.SplitHostPort(o.Address)
	if err != nil || host == "" || port == "" || o.TLS == nil {
		return nil, &store.Error{Kind: store.Invalid, Op: "use the peer", Subject: "at " + o.Address, Err: err, Hint: "an address is HOST:PORT"}
	}
	config := o.TLS.Clone()
	plainHTTP(config)
	if config.ServerName == "" {
		config.ServerName = host
	}
	d := &dialer{address: o.Address, tls: config}
	c := &Client{o: o, base: "https://" + o.Address, dialer: d, calls: d.newTransport(maxLinks), pings: d.newTransport(1), start: time.Now()}
	c.heard.Store(int64(-lately)) // never yet
	c.life, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Close gives up the connections, and with them what is under way.
func (c *Client) Close() error {
	c.end()
	c.calls.CloseIdleConnections()
	c.pings.CloseIdleConnections()
	return nil
}

// request makes one that may be sent again on another connection, if the first was found
// closed: each of them can be repeated.
func (c *Client) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	if c.life.Err() != nil {
		return nil, closed()
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, malformed("%s %.100q: %v", method, path, err)
	}
	r.Header["Idempotency-Key"] = nil // net/http's own sign; it is not sent
	r.Header.Set("User-Agent", "stasis")
	if t := c.mount.Load(); t != nil {
		text, _ := t.MarshalText() // never fails
		r.Header.Set(headerMount, string(text))
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, nil
}

// send sends a request and gives its answer if that is none of an error.
func (c *Client) send(op string, r *http.Request) (*http.Response, error) {
	resp, err := c.calls.RoundTrip(r)
	if err != nil {
		return nil, c.failed(r.Context(), op, err)
	}
	c.hear()
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, c.answered(op, resp)
	}
	return resp, nil
}

// ask is one call: a message each way, bounded by a time.
type ask struct {
	op, method, path string
	in               any // nil: no message
	header           http.Header
	limit            time.Duration // 0: wire.CallLimit
}

// call makes a call and reads the answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, a ask, out any) error {
	limit := a.limit
	if limit == 0 {
		limit = wire.CallLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ctx, w := c.watched(ctx, limit)
	defer w.end()
	var body []byte
	if a.in != nil {
		var err error
		if body, err = json.Marshal(a.in); err != nil {
			return err
		}
	}
	r, err := c.request(ctx, a.method, a.path, body)
	if err != nil {
		return err
	}
	for name, v := range a.header {
		r.Header[name] = v
	}
	resp, err := c.send(a.op, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	return c.read(ctx, a.op, resp, out)
}

// read reads a message.
func (c *Client) read(ctx context.Context, op string, resp *http.Response, out any) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, wire.MaxHead+1))
	if err != nil {
		return c.failed(ctx, op, err)
	}
	if len(text) > wire.MaxHead || wire.Decode(text, out) != nil {
		return &store.Error{Kind: store.Invalid, Op: op, Subject: "at " + c.o.Address, Detail: "its answer is not the JSON of this resource"}
	}
	return nil
}

// Redeem turns an invite into the right to use the peer.
func (c *Client) Redeem(ctx context.Context, r wire.Redeem) (out wire.Redeemed, err error) {
	err = c.call(ctx, ask{op: "redeem an invite", method: http.MethodPost, path: pathRedeem, in: r}, &out)
	return out, err
}

// Reserve is store.Store's.
func (c *Client) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	var out wire.Shares
	if err := c.call(ctx, ask{op: "reserve space", method: http.MethodPut, path: pathReservations + r.ID.String(), in: wire.FromReserve(r)}, &out); err != nil {
		return nil, err
	}
	return out.Store()
}

// Renew is store.Store's.
func (c *Client) Renew(ctx context.Context, id store.ReservationID) (time.Time, error) {
	var out wire.Renewed
	err := c.call(ctx, ask{op: "renew a reservation", method: http.MethodPost, path: pathReservations + id.String() + "/renew"}, &out)
	return out.Expires, err
}

// Release is store.Store's.
func (c *Client) Release(ctx context.Context, id store.ReservationID) error {
	return c.call(ctx, ask{op: "release a reservation", method: http.MethodDelete, path: pathReservations + id.String()}, nil)
}

// Verify is store.Store's.
func (c *Client) Verify(ctx context.Context, id store.CrateID, offset, length int64, nonce store.Digest) (store.Digest, error) {
	bytes := length
	if bytes < 0 {
		bytes = store.MaxCrate
	}
	var out wire.Proof
	err := c.call(ctx, ask{op: "verify crate " + id.String(), method: http.MethodPost, path: pathCrates + "/" + id.String() + "/verify",
		in: wire.Range{Crate: id, Offset: offset, Length: length, Nonce: &nonce}, limit: wire.CallLimit + time.Duration(bytes/verifyRate)*time.Second}, &out)
	return out.Digest, err
}

// Discard is store.Store's; the client signs it in the owner's name.
func (c *Client) Discard(ctx context.Context, r store.DiscardRequest) error {
	if r.Signature == nil && c.o.SignDiscard != nil {
		s, err := c.Status(ctx)
		if err != nil {
			return err
		}
		r.Signature = c.o.SignDiscard(r.Crate, s.Leaf)
	}
	header := make(http.Header)
	if r.Signature != nil {
		header.Set(headerSignature, base64.StdEncoding.EncodeToString(r.Signature))
	}
	return c.call(ctx, ask{op: "discard crate " + r.Crate.String(), method: http.MethodDelete, path: pathCrates + "/" + r.Crate.String(), header: header}, nil)
}

// List is store.Store's.
func (c *Client) List(ctx context.Context, cursor []byte) (store.Page, error) {
	path := pathCrates
	if len(cursor) > 0 {
		path += "?cursor=" + url.QueryEscape(base64.StdEncoding.EncodeToString(cursor))
	}
	var out wire.Page
	if err := c.call(ctx, ask{op: "list crates", method: http.MethodGet, path: path}, &out); err != nil {
		return store.Page{}, err
	}
	return out.Store()
}

// Status is store.Store's.
func (c *Client) Status(ctx context.Context) (store.Status, error) {
	var out wire.Status
	if err := c.call(ctx, ask{op: "ask for the status", method: http.MethodGet, path: pathStatus}, &out); err != nil {
		return store.Status{}, err
	}
	return out.Store()
}

// Fence is store.Fencer's.
func (c *Client) Fence(ctx context.Context, known []store.Token, next store.Token, takeOver bool) error {
	if len(known) > wire.MaxTokens {
		known = known[len(known)-wire.MaxTokens:]
	}
	err := c.call(ctx, ask{op: "fence", method: http.MethodPost, path: pathFence, in: wire.Fence{Known: known, Next: next, TakeOver: takeOver}}, nil)
	if err == nil {
		c.mount.Store(&next)
	}
	return err
}
