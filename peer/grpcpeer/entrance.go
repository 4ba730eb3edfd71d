package grpcpeer

import (
	"context"
	"errors"
	"net"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"stasis/peer/guard"
	"stasis/peer/wire"
	"stasis/store"
)

// entrance are the TLS credentials of a server. Whoever comes in with the certificate of an
// owner is a stranger no more.
type entrance struct {
	credentials.TransportCredentials
	s *Server
}

// caller is who came in, as gRPC carries it to the calls.
type caller struct {
	credentials.TLSInfo
	conn        *guard.Conn
	fingerprint string // of the certificate he has shown
}

// ServerHandshake is credentials.TransportCredentials'.
func (e *entrance) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := e.TransportCredentials.ServerHandshake(c)
	if err != nil {
		e.s.refuse(c.RemoteAddr(), "", err)
		return conn, info, err
	}
	who, err := e.s.caller(c, info)
	if err == nil {
		who.conn.Greeted()
		if _, unknown := e.s.o.Service.Session(who.fingerprint, store.Token{}); unknown == nil {
			err = crowded(who.conn.Claim(who.fingerprint))
		}
	}
	if err != nil {
		_ = conn.Close() // nothing was said on it
		return nil, nil, err
	}
	cut := func(why error) {
		e.s.refusals.Warn("the connection of a caller was closed", logrus.Fields{"from": c.RemoteAddr(), "fingerprint": who.fingerprint, "reason": why.Error()})
	}
	haste := func() int64 {
		if who.conn.Owner() == "" {
			return HastyStranger
		}
		return HastyMost
	}
	return newMetered(conn, haste, cut), who, nil
}

// Clone is credentials.TransportCredentials'.
func (e *entrance) Clone() credentials.TransportCredentials {
	return &entrance{e.TransportCredentials.Clone(), e.s}
}

func (s *Server) caller(c net.Conn, info credentials.AuthInfo) (*caller, error) {
	shown, ok := info.(credentials.TLSInfo)
	conn := guard.Of(c)
	if !ok || conn == nil || len(shown.State.PeerCertificates) == 0 {
		s.refuse(c.RemoteAddr(), "", errors.New("there is no certificate"))
		return nil, denied()
	}
	return &caller{shown, conn, s.o.Fingerprint(shown.State.PeerCertificates[0])}, nil
}

// admit says whether a call may begin, before anything of it is kept. Who may make it the
// call itself says.
func (s *Server) admit(ctx context.Context, _ *tap.Info) (context.Context, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return ctx, status.Error(codes.PermissionDenied, err.Error())
	}
	lanes, of := s.calls, who.conn.Owner()
	if of == "" {
		lanes, of = s.knocks, who.conn.RemoteAddr().String()
	}
	if !lanes.TryAcquire(of, 1) {
		s.refusals.Warn("a caller has too many calls under way", logrus.Fields{"from": who.conn.RemoteAddr(), "fingerprint": who.fingerprint})
		return ctx, status.Error(codes.Unavailable, "too many calls under way")
	}
	done := who.conn.Work()
	context.AfterFunc(ctx, func() { lanes.Release(of, 1); done() }) // it ends with the call, whatever becomes of that
	return ctx, nil
}

func callerOf(ctx context.Context) (*caller, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, denied()
	}
	who, ok := p.AuthInfo.(*caller)
	if !ok {
		return nil, denied()
	}
	return who, nil
}

// session is that of the owner who calls.
func (s *Server) session(ctx context.Context) (wire.Session, *caller, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, nil, err
	}
	mount, err := mountOf(ctx)
	if err != nil {
		return nil, nil, err
	}
	session, err := s.o.Service.Session(who.fingerprint, mount)
	if errors.Is(err, store.Denied) {
		s.refuse(who.conn.RemoteAddr(), who.fingerprint, err)
	}
	// He may have redeemed an invite on this very connection.
	if err == nil {
		err = crowded(who.conn.Claim(who.fingerprint))
	}
	return session, who, err
}

// refuse logs a caller who has to go away.
func (s *Server) refuse(from net.Addr, fingerprint string, err error) {
	s.refusals.Warn("a caller was refused", logrus.Fields{"from": from, "fingerprint": fingerprint, logrus.ErrorKey: err})
}

func denied() error {
	return &store.Error{Kind: store.Denied, Op: "open a session", Hint: "redeem an invite of this peer first"}
}

// crowded is the error of whoever gets no place; nil for nil.
func crowded(err error) error {
	if err == nil {
		return nil
	}
	return &store.Error{Kind: store.Unavailable, Op: "open a session", Detail: err.Error()}
}
