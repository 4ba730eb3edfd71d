package grpcpeer

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"stasis/store"
)

// handshakes are the TLS credentials of a client. They tell why a handshake failed, which gRPC itself keeps
// for its texts.
type handshakes struct {
	credentials.TransportCredentials
	ended func(remote net.Addr, err error) // err is nil if it went well
}

// ClientHandshake is credentials.TransportCredentials'.
func (h *handshakes) ClientHandshake(ctx context.Context, authority string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, c)
	h.ended(c.RemoteAddr(), err)
	return conn, info, err
}

// Clone is credentials.TransportCredentials'.
func (h *handshakes) Clone() credentials.TransportCredentials {
	return &handshakes{h.TransportCredentials.Clone(), h.ended}
}

// trouble remembers why the last attempt to connect failed.
type trouble struct{ last atomic.Pointer[error] }

func (t *trouble) note(err error) {
	if err == nil {
		t.last.Store(nil)
		return
	}
	t.last.Store(&err)
}

// unconnected is the reason for a call that failed as there is no connection; nil for any
// other.
func (c *Client) unconnected(op string, s *status.Status) error {
	last := c.trouble.last.Load()
	if last == nil || !strings.Contains(s.Message(), "connection error") {
		return nil
	}
	var known *store.Error
	if errors.As(*last, &known) {
		e := *known
		e.Subject = "to " + c.o.Address
		return &e
	}
	return &store.Error{Kind: store.Unavailable, Op: op, Subject: "at " + c.o.Address, Detail: store.Printable((*last).Error(), maxErrorText)}
}
