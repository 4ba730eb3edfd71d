package httppeer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"

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
	// batches and of long messages, which it may share. nil means those that limits.go has.
	Connections, Memory *guard.Lanes
}

// Server serves a wire.Service.
type Server struct {
	o        Options
	http     *http.Server
	mux      *http.ServeMux
	door     *guard.Door
	refusals guard.Refusals
	turns    *guard.Lanes // at the processors
	// draining ends what would go on for ever, ended all there is.
	draining, ended context.Context
	drain, end      context.CancelFunc

	mu     sync.Mutex
	closed bool
	busy   sync.WaitGroup
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
	s := &Server{o: o, refusals: guard.Refusals{Log: o.Log}, turns: lanes(0, int64(runtime.GOMAXPROCS(0)))}
	s.door = guard.NewDoor(guard.Options{Owners: o.Connections, Strangers: Strangers, Refusals: &s.refusals, Known: s.known})
	s.draining, s.drain = context.WithCancel(context.Background())
	s.ended, s.end = context.WithCancel(context.Background())
	s.mux = s.routes()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	s.http = &http.Server{
		Handler: s, Protocols: protocols, ReadHeaderTimeout: headerLimit, IdleTimeout: idleLimit, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return s.ended }, ConnContext: withConn,
		ErrorLog: log.New(logWriter{&s.refusals}, "", 0),
	}
	return s
}

func lanes(anOwner, pool int64) *guard.Lanes {
	return guard.NewLanes(anOwner*guard.Owners+pool, anOwner, guard.Owners)
}

// known reports whether one whose connection this is as an owner is one still.
func (s *Server) known(fingerprint string) bool {
	_, err := s.o.Service.Session(fingerprint, store.Token{})
	return !errors.Is(err, store.Denied)
}

// Serve serves a listener until Close or Drain.
func (s *Server) Serve(l net.Listener) error {
	c := s.o.TLS.Clone()
	plainHTTP(c)
	err := s.http.Serve(tls.NewListener(s.door.Listen(probing{l}), c))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// plainHTTP has TLS carry HTTP/1.1 and nothing else.
func plainHTTP(c *tls.Config) {
	c.MinVersion = max(c.MinVersion, tls.VersionTLS13)
	c.NextProtos = []string{"http/1.1"}
	c.DynamicRecordSizingDisabled = true // it is bulk bytes that count
}

// Drain takes no further calls and waits for those under way until ctx ends, which ends
// them.
func (s *Server) Drain(ctx context.Context) {
	s.drain()
	if err := s.http.Shutdown(ctx); err != nil {
		s.o.Log.WithError(err).Warn("requests are cut off")
	}
	s.Close()
}

// Close ends everything at once.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.drain()
	s.end()
	if err := s.http.Close(); err != nil {
		s.o.Log.WithError(err).Debug("closing the listener")
	}
	s.busy.Wait()
}

// enter counts a request in, so that Close waits for it.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.busy.Add(1)
	return true
}

// ServeHTTP is http.Handler's.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{s: s, w: w, r: r, control: http.NewResponseController(w)}
	if !s.enter() {
		x.fail(&store.Error{Kind: store.Unavailable, Op: "serve the request", Detail: "the peer is going down"})
		return
	}
	defer s.busy.Done()
	defer x.recovered()
	if c, ok := r.Context().Value(connKey{}).(*guard.Conn); ok {
		x.conn = c
		c.Greeted()
		defer c.Work()()
	}
	x.expectBody()
	if err := s.admit(x); err != nil {
		x.fail(err)
		return
	}
	if r.URL.Path == pathRedeem && r.Method == http.MethodPost {
		x.finish(redeem(x))
		return
	}
	s.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
}

// admit opens the session of whoever calls. Only to redeem an invite none is needed.
func (s *Server) admit(x *exchange) error {
	if x.r.TLS == nil || len(x.r.TLS.PeerCertificates) == 0 {
		x.stranger = true
		x.refused(errors.New("there is no certificate"))
		return denied()
	}
	x.fingerprint = s.o.Fingerprint(x.r.TLS.PeerCertificates[0])
	if x.r.URL.Path == pathRedeem {
		x.stranger = true
		return nil
	}
	var mount store.Token
	if said := x.r.Header.Get(headerMount); said != "" && mount.UnmarshalText([]byte(said)) != nil {
		return malformed("the token of a mount")
	}
	session, err := s.o.Service.Session(x.fingerprint, mount)
	if err != nil {
		x.stranger = true
		x.refused(err)
		return err
	}
	if x.conn != nil {
		if err := x.conn.Claim(x.fingerprint); err != nil {
			x.stranger = true
			return &store.Error{Kind: store.Unavailable, Op: "open a session", Detail: err.Error()}
		}
	}
	x.session = session
	return nil
}

// refused logs a caller who has to go away.
func (x *exchange) refused(err error) {
	x.s.refusals.Warn("a caller was refused", logrus.Fields{"from": x.r.RemoteAddr, "fingerprint": x.fingerprint, logrus.ErrorKey: err})
}

// connKey is under which a request has its connection.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	if of := guard.Of(c); of != nil {
		ctx = context.WithValue(ctx, connKey{}, of)
	}
	return ctx
}

func denied() error {
	return &store.Error{Kind: store.Denied, Op: "open a session", Hint: "redeem an invite of this peer first"}
}

// recovered turns a fault into an error of the one request it happened in.
func (x *exchange) recovered() {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p) // cuts the connection, as was meant
	}
	x.s.o.Log.WithField("resource", x.r.URL.Path).WithField("stack", string(debug.Stack())).Errorf("fault in a request: %v", p)
	if x.begun {
		panic(http.ErrAbortHandler)
	}
	x.fail(fmt.Errorf("fault: %v", p))
}

// logWriter takes the lines of net/http: of handshakes that failed, mostly.
type logWriter struct{ refusals *guard.Refusals }

func (w logWriter) Write(p []byte) (int, error) {
	text := strings.TrimSpace(string(p))
	if strings.Contains(text, "TLS handshake error") && !strings.HasSuffix(text, ": EOF") {
		// Somebody without the right certificate, or no peer of ours at all.
		w.refusals.Warn("a caller was refused", logrus.Fields{logrus.ErrorKey: text})
	} else {
		w.refusals.Log.Debug(text)
	}
	return len(p), nil
}

// probing has the system probe each connection, so that one that died is found.
type probing struct{ net.Listener }

func (l probing) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if t, ok := c.(*net.TCPConn); ok && err == nil {
		_ = t.SetKeepAliveConfig(keepAlive) // without it deadlines find out, later
	}
	return c, err
}

// keepAlive is how quiet connections are probed.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: probeIdle, Interval: probeEvery, Count: probeCount}
