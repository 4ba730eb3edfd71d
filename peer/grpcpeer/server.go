package grpcpeer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	"stasis/peer/guard"
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
	// Connections are the places of owners' connections, the server's alone, and Memory the bytes of
	// the content of batches, which it may share. nil means those that limits.go has.
	Connections, Memory *guard.Lanes
}

// Server serves a wire.Service.
type Server struct {
	o        Options
	grpc     *grpc.Server
	door     *guard.Door
	refusals guard.Refusals
	puts     *guard.Lanes // under way, batches too
	turns    *guard.Lanes // at the processors
	calls    *guard.Lanes // of owners
	knocks   *guard.Lanes // calls of strangers, by their address and port
}

// NewServer makes a server. Serve runs it.
func NewServer(o Options) *Server {
	if o.Connections == nil {
		o.Connections = lanes(ConnectionsAnOwner, ConnectionsPool)
	}
	if o.Memory == nil {
		o.Memory = lanes(MemoryAnOwner, MemoryPool)
	}
	if o.Log == nil {
		o.Log = logrus.StandardLogger()
	}
	s := &Server{o: o, refusals: guard.Refusals{Log: o.Log}, puts: lanes(PutsAnOwner, PutsPool), turns: lanes(0, int64(runtime.GOMAXPROCS(0))), calls: lanes(CallsAnOwner, CallsPool),
		knocks: guard.NewLanes(Strangers*strangerCalls, strangerCalls, Strangers)}
	s.door = guard.NewDoor(guard.Options{Owners: o.Connections, Strangers: Strangers, Refusals: &s.refusals, Known: s.known})
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

func lanes(anOwner, pool int64) *guard.Lanes {
	return guard.NewLanes(anOwner*guard.Owners+pool, anOwner, guard.Owners)
}

// known reports whether one who came in as an owner is one still.
func (s *Server) known(fingerprint string) bool {
	_, err := s.o.Service.Session(fingerprint, store.Token{})
	return !errors.Is(err, store.Denied)
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
