package grpcpeer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"runtime/debug"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	"stasis/peer/guard"
	"stasis/peer/wire"
)

// Options of a Server. Service, TLS and Fingerprint must be given.
type Options struct {
	Service wire.Service
	// TLS asks for a client certificate and accepts any: the service decides by its
	// fingerprint.
	TLS         *tls.Config
	Fingerprint func(*x509.Certificate) string
	Log         logrus.FieldLogger
	// Connections and Memory bound how many connections of owners there are at a time and the
	// content of batches, in bytes; 0 means MaxConnections and BatchMemory.
	Connections int
	Memory      int64
}

// Server serves a wire.Service.
type Server struct {
	o        Options
	grpc     *grpc.Server
	door     *guard.Door
	refusals guard.Refusals
	memory   *guard.Shares // bytes
	calls    *guard.Shares // of owners
	knocks   *guard.Shares // calls of strangers, by their address and port
}

// NewServer makes a server. Serve runs it.
func NewServer(o Options) *Server {
	if o.Connections == 0 {
		o.Connections = MaxConnections
	}
	if o.Memory == 0 {
		o.Memory = BatchMemory
	}
	if o.Log == nil {
		o.Log = logrus.StandardLogger()
	}
	o.Memory = max(o.Memory, wire.MaxBatchBytes)
	s := &Server{o: o, refusals: guard.Refusals{Log: o.Log}, memory: guard.NewShares(o.Memory, max(o.Memory/2, wire.MaxBatchBytes)),
		calls: guard.NewShares(CallsAtOnce, CallsAnOwner), knocks: guard.NewShares(Strangers*strangerCalls, strangerCalls)}
	s.door = guard.NewDoor(guard.Options{Owners: o.Connections, AnOwner: min(o.Connections, ConnectionsAnOwner), Strangers: Strangers, Refusals: &s.refusals})
	s.grpc = grpc.NewServer(
		grpc.Creds(&entrance{credentials.NewTLS(o.TLS), s}), grpc.ForceServerCodecV2(codec{}), grpc.MaxRecvMsgSize(MaxRequest), grpc.MaxSendMsgSize(maxFrame),
		grpc.MaxConcurrentStreams(MaxStreams), grpc.StaticStreamWindowSize(Window), grpc.StaticConnWindowSize(connectionWindow),
		grpc.ConnectionTimeout(dialLimit), grpc.MaxHeaderListSize(maxHeaders), grpc.InTapHandle(s.admit), experimental.BufferPool(received),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: pingWait}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery, PermitWithoutStream: true}),
	)
	s.grpc.RegisterService(description(), s)
	return s
}

// Serve serves a listener until Close or Drain.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(s.door.Listen(l)) }

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

// recovered turns a fault into an error of the one call it happened in.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = &faultError{text: fmt.Sprint(p), stack: string(debug.Stack())}
	}
}

// faultError is a fault inside the server: what it says stays here.
type faultError struct{ text, stack string }

func (e *faultError) Error() string { return e.text + "\n" + e.stack }
