package grpcpeer

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

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
	o       ClientOptions
	conn    *grpc.ClientConn
	trouble trouble
	mount   atomic.Pointer[store.Token] // that was admitted; nil: none was
}

var (
	_ store.Store      = (*Client)(nil)
	_ store.Batcher    = (*Client)(nil)
	_ store.Fencer     = (*Client)(nil)
	_ store.Unverified = (*Client)(nil)
)

// Dial makes a client. It talks to nobody yet.
func Dial(o ClientOptions) (*Client, error) {
	c := &Client{o: o}
	var err error
	c.conn, err = grpc.NewClient("passthrough:///"+o.Address,
		grpc.WithTransportCredentials(&handshakes{credentials.NewTLS(o.TLS), func(_ net.Addr, err error) { c.trouble.note(err) }}),
		grpc.WithContextDialer(c.dial),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: dialLimit,
			Backoff: backoff.Config{BaseDelay: reconnectFirst, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMost}}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(maxFrame), grpc.MaxCallSendMsgSize(maxFrame)),
		grpc.WithInitialWindowSize(clientWindow), grpc.WithInitialConnWindowSize(clientWindow), grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, &store.Error{Kind: store.Invalid, Op: "use the peer", Subject: "at " + o.Address, Err: err}
	}
	return c, nil
}

// dial makes a connection that is given up when nothing is heard on it.
func (c *Client) dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialLimit, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: DeadAfter, Interval: pingEvery, Count: 3}}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		c.trouble.note(err)
		return nil, err
	}
	return &watched{conn}, nil
}

// watched is a connection on which the other side shows a sign of life every pingEvery. A
// read that waits longer than DeadAfter fails, and so does a write: a link that died takes
// its calls with it in seconds, where TCP alone takes a quarter of an hour.
type watched struct{ net.Conn }

func (w *watched) Read(p []byte) (int, error) {
	if err := w.SetReadDeadline(time.Now().Add(DeadAfter)); err != nil {
		return 0, err
	}
	return w.Conn.Read(p)
}

// Close gives up the connection.
func (c *Client) Close() error {
	if err := c.conn.Close(); err != nil && status.Code(err) != codes.Canceled { // closed already
		return &store.Error{Kind: store.Unavailable, Op: "close the link", Subject: "to " + c.o.Address, Err: err}
	}
	return nil
}

// Redeem turns an invite into the right to use the peer.
func (c *Client) Redeem(ctx context.Context, r wire.Redeem) (wire.Redeemed, error) {
	return call[wire.Redeemed](ctx, c, "redeem an invite", "Redeem", wire.CallLimit, r)
}

// call makes a call of one message each way.
func call[Out any](ctx context.Context, c *Client, op, name string, limit time.Duration, in any) (out Out, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	f, err := headFrame(kindHead, in)
	if err != nil {
		return out, err
	}
	var answer frame
	var trailer metadata.MD
	if err := c.conn.Invoke(c.asMount(ctx), method(name), f, &answer, grpc.Trailer(&trailer)); err != nil {
		return out, c.incoming(op, err, trailer)
	}
	defer answer.free()
	return out, answer.read(kindHead, &out)
}

// Reserve is store.Store's.
func (c *Client) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	out, err := call[wire.Shares](ctx, c, "reserve space", "Reserve", wire.CallLimit, wire.FromReserve(r))
	if err != nil {
		return nil, err
	}
	return out.Store()
}

// Renew is store.Store's.
func (c *Client) Renew(ctx context.Context, id store.ReservationID) (time.Time, error) {
	out, err := call[wire.Renewed](ctx, c, "renew a reservation", "Renew", wire.CallLimit, wire.Reservation{ID: id})
	return out.Expires, err
}

// Release is store.Store's.
func (c *Client) Release(ctx context.Context, id store.ReservationID) error {
	_, err := call[wire.Empty](ctx, c, "release a reservation", "Release", wire.CallLimit, wire.Reservation{ID: id})
	return err
}

// Verify is store.Store's.
func (c *Client) Verify(ctx context.Context, id store.CrateID, offset, length int64, nonce store.Digest) (store.Digest, error) {
	bytes := length
	if bytes < 0 {
		bytes = store.MaxCrate
	}
	limit := wire.CallLimit + time.Duration(bytes/verifyRate)*time.Second
	out, err := call[wire.Proof](ctx, c, "verify crate "+id.String(), "Verify", limit, wire.Range{Crate: id, Offset: offset, Length: length, Nonce: &nonce})
	return out.Digest, err
}

// Stat is store.Store's.
func (c *Client) Stat(ctx context.Context, id store.CrateID) (store.CrateInfo, error) {
	out, err := call[wire.Info](ctx, c, "look for crate "+id.String(), "Stat", wire.CallLimit, wire.Crate{ID: id})
	if err != nil {
		return store.CrateInfo{}, err
	}
	return out.Store()
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
	_, err := call[wire.Empty](ctx, c, "discard crate "+r.Crate.String(), "Discard", wire.CallLimit, wire.Discard{Crate: r.Crate, Signature: r.Signature})
	return err
}

// List is store.Store's.
func (c *Client) List(ctx context.Context, cursor []byte) (store.Page, error) {
	out, err := call[wire.Page](ctx, c, "list crates", "List", wire.CallLimit, wire.List{Cursor: cursor})
	if err != nil {
		return store.Page{}, err
	}
	return out.Store()
}

// Status is store.Store's.
func (c *Client) Status(ctx context.Context) (store.Status, error) {
	out, err := call[wire.Status](ctx, c, "ask for the status", "Status", wire.CallLimit, wire.Empty{})
	if err != nil {
		return store.Status{}, err
	}
	return out.Store()
}

// Fence is store.Fencer's.
func (c *Client) Fence(ctx context.Context, known []store.Token, next store.Token, takeOver bool) error {
	if len(known) > wire.MaxTokens {
		known = known[len(known)-wire.MaxTokens:]
	}
	_, err := call[wire.Empty](ctx, c, "fence", "Fence", wire.CallLimit, wire.Fence{Known: known, Next: next, TakeOver: takeOver})
	if err == nil {
		c.mount.Store(&next)
	}
	return err
}
