package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/store"
)

// Progress sends a part of an answer ahead of its end. An error means that nobody
// listens any more.
type Progress func(part any) error

// Handler answers one request. args is what the client sent, perhaps empty. It ends
// soon when ctx does.
type Handler interface {
	Handle(ctx context.Context, op string, args json.RawMessage, progress Progress) (result any, err error)
}

// With answers a request whose arguments are an A.
func With[A any](op string, raw json.RawMessage, answer func(A) (any, error)) (any, error) {
	var a A
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, &store.Error{Kind: store.Invalid, Op: op, Detail: "its arguments can't be read", Err: err}
	}
	return answer(a)
}

// Server answers on the control socket of a state directory.
type Server struct {
	listener *net.UnixListener
	handler  Handler
	mount    string
	log      logrus.FieldLogger
	path     string
	places   chan struct{}
	ctx      context.Context
	cancel   context.CancelFunc
	done     sync.WaitGroup
}

// opWho is the request that every server answers itself: -, Identity.
const opWho = "who"

// Serve makes the socket in the state directory and answers requests until Close. mount is the
// device number of the mount that is served, "" if there is none or it is not known. The
// caller holds the directory's lock.
func Serve(state, mount string, h Handler, log logrus.FieldLogger) (*Server, error) {
	l, err := listen(state)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{listener: l, handler: h, mount: mount, log: log, path: filepath.Join(state, SocketName),
		places: make(chan struct{}, maxConnections), ctx: ctx, cancel: cancel}
	s.done.Go(s.accept)
	return s, nil
}

// Close ends what is being answered, waits for it and removes the socket.
func (s *Server) Close() error {
	s.cancel()
	err := s.listener.Close()
	s.done.Wait()
	return errors.Join(err, os.Remove(s.path))
}

func (s *Server) accept() {
	for {
		select {
		case s.places <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		c, err := s.listener.AcceptUnix()
		if err != nil {
			<-s.places
			if s.ctx.Err() != nil {
				return
			}
			s.log.WithError(err).Warn("accept on the control socket")
			select {
			case <-time.After(time.Second): // out of descriptors, most likely
			case <-s.ctx.Done():
				return
			}
			continue
		}
		s.done.Go(func() {
			defer func() { <-s.places }()
			defer c.Close()
			if err := s.serve(c); err != nil {
				s.log.WithError(err).Debug("control connection")
			}
		})
	}
}

func (s *Server) serve(c *net.UnixConn) error {
	cred, err := peer(c)
	if err != nil {
		return err
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d is neither root nor the owner", cred.Uid)
	}
	if err := c.SetReadDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	var r request
	if err := readFrame(c, &r, MaxRequest); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	out := &sender{conn: c}
	var watch sync.WaitGroup
	// A client that goes away cancels its request: it sends nothing more, so anything
	// read, the end included, means just that.
	watch.Go(func() {
		var b [1]byte
		_, _ = c.Read(b[:])
		cancel()
	})
	watch.Go(func() { out.beat(ctx) })
	result, err := s.answer(ctx, r, out)
	if err != nil {
		err = out.send(response{Error: &remoteError{Kind: store.KindOf(err), Text: err.Error(), Other: errors.Is(err, ErrOtherMount)}})
	} else {
		err = out.send(response{Result: result})
	}
	cancel()
	err = errors.Join(err, c.Close()) // ends the read above
	watch.Wait()
	return err
}

// answer keeps a fault in one request from taking the mount away.
func (s *Server) answer(ctx context.Context, r request, out *sender) (result json.RawMessage, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.WithField("op", r.Op).Errorf("control request: %v", p)
			err = fmt.Errorf("%s: the daemon failed inside; its log has the reason", r.Op)
		}
	}()
	switch {
	case r.Op == opWho:
		return json.Marshal(Identity{PID: os.Getpid(), Mount: s.mount})
	case r.Mount != "" && s.mount != "" && r.Mount != s.mount:
		return nil, fmt.Errorf("%w: pid %d serves the one with the device number %s", ErrOtherMount, os.Getpid(), s.mount)
	}
	v, err := s.handler.Handle(ctx, r.Op, r.Args, func(part any) error {
		p, err := json.Marshal(part)
		if err != nil {
			return err
		}
		return out.send(response{Progress: p})
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// sender writes frames, one at a time.
type sender struct {
	mu   sync.Mutex
	conn *net.UnixConn
}

func (o *sender) send(r response) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return writeFrame(o.conn, r, MaxResponse)
}

// beat sends an empty frame from time to time until ctx ends.
func (o *sender) beat(ctx context.Context) {
	t := time.NewTicker(heartbeat)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if o.send(response{}) != nil {
				return // the request's own frames say why
			}
		}
	}
}
