package grpcpeer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"runtime/debug"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"

	"stasis/peer/wire"
	"stasis/store"
)

// Options of a Server. Service, TLS and Fingerprint must be given.
type Options struct {
	Service wire.Service
	// TLS asks for a client certificate and accepts any: the service decides by its
	// fingerprint.
	TLS         *tls.Config
	Fingerprint func(*x509.Certificate) string
	Log         logrus.FieldLogger
	// Connections and Memory bound how many connections there are at a time and the content
	// of batches, in bytes; 0 means MaxConnections and BatchMemory.
	Connections int
	Memory      int64
}

// Server serves a wire.Service.
type Server struct {
	o      Options
	grpc   *grpc.Server
	memory *semaphore.Weighted
}

// NewServer makes a server. Serve runs it.
func NewServer(o Options) *Server {
	if o.Connections == 0 {
		o.Connections = MaxConnections
	}
	if o.Memory == 0 {
		o.Memory = BatchMemory
	}
	o.Memory = max(o.Memory, wire.MaxBatchBytes)
	s := &Server{o: o, memory: semaphore.NewWeighted(o.Memory)}
	s.grpc = grpc.NewServer(
		grpc.Creds(&handshakes{credentials.NewTLS(o.TLS), s.refused}), grpc.ForceServerCodecV2(codec{}), grpc.MaxRecvMsgSize(maxFrame), grpc.MaxSendMsgSize(maxFrame),
		grpc.MaxConcurrentStreams(MaxStreams), grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window),
		grpc.ConnectionTimeout(dialLimit), grpc.MaxHeaderListSize(64<<10),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: pingWait}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery, PermitWithoutStream: true}),
	)
	s.grpc.RegisterService(description(), s)
	return s
}

// Serve serves a listener until Close or Drain.
func (s *Server) Serve(l net.Listener) error {
	return s.grpc.Serve(netutil.LimitListener(l, s.o.Connections))
}

// Drain takes no further calls and waits for those under way until ctx ends, which ends
// them.
func (s *Server) Drain(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}

// Close ends everything at once.
func (s *Server) Close() { s.grpc.Stop() }

// fingerprint is that of the certificate the caller has shown.
func (s *Server) fingerprint(ctx context.Context) (string, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", denied()
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		s.o.Log.WithField("from", p.Addr).Warn("a caller without a certificate was refused")
		return "", denied()
	}
	return s.o.Fingerprint(info.State.PeerCertificates[0]), nil
}

func denied() error {
	return &store.Error{Kind: store.Denied, Op: "open a session", Hint: "redeem an invite of this peer first"}
}

func (s *Server) session(ctx context.Context) (wire.Session, error) {
	fingerprint, err := s.fingerprint(ctx)
	if err != nil {
		return nil, err
	}
	session, err := s.o.Service.Session(fingerprint)
	if errors.Is(err, store.Denied) {
		p, _ := peer.FromContext(ctx)
		s.o.Log.WithField("from", p.Addr).WithField("fingerprint", fingerprint).WithError(err).Warn("a caller was refused")
	}
	return session, err
}

// recovered turns a fault into an error of the one call it happened in.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = &faultError{text: fmt.Sprint(p), stack: string(debug.Stack())}
	}
}

// faultError is a fault inside the server: what it says stays here.
type faultError struct{ text, stack string }

func (e *faultError) Error() string { return e.text + "\n" + e.stack }
