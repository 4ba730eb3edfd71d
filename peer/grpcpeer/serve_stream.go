package grpcpeer

import (
	"context"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"stasis/peer/wire"
	"stasis/store"
)

// within runs one step of a stream. gRPC bounds it by the stream's context alone, so a step
// that takes longer than StallLimit is left to end with the stream, which the error of the
// handler brings about.
func within(do func() error) error { return withinTime(wire.StallLimit, do) }

func withinTime(limit time.Duration, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return &store.Error{Kind: store.Unavailable, Op: "serve a stream", Detail: "the other side stalled"}
	}
}

// receive gives the next frame of a caller.
func receive(st grpc.ServerStream) (*frame, error) { return receiveWithin(st, wire.StallLimit) }

func receiveWithin(st grpc.ServerStream, limit time.Duration) (*frame, error) {
	f := new(frame)
	if err := withinTime(limit, func() error { return st.RecvMsg(f) }); err != nil {
		return nil, err
	}
	return f, nil
}

// incomingSource is the content of a crate that comes over a stream: it can be opened once,
// at any block.
type incomingSource struct {
	st   grpc.ServerStream
	send *sync.Mutex
	mu   sync.Mutex
	used bool
}

// OpenAt asks the caller for the bytes from offset.
func (s *incomingSource) OpenAt(_ context.Context, offset int64) (io.ReadCloser, error) {
	s.mu.Lock()
	again := s.used
	s.used = true
	s.mu.Unlock()
	if again {
		return nil, &store.Error{Kind: store.Unavailable, Op: "receive a crate", Detail: "its bytes come once in an attempt"}
	}
	f, err := headFrame(kindBegin, wire.Begin{Offset: offset})
	if err != nil {
		return nil, err
	}
	s.send.Lock()
	err = s.st.SendMsg(f)
	s.send.Unlock()
	if err != nil {
		return nil, &store.Error{Kind: store.Unavailable, Op: "receive a crate", Err: err}
	}
	return &body{recv: func() (*frame, error) {
		f, err := receive(s.st)
		if err != nil && err != io.EOF {
			err = &store.Error{Kind: store.Unavailable, Op: "receive a crate", Err: err}
		}
		return f, err
	}}, nil
}

// put receives one crate.
func (s *Server) put(st grpc.ServerStream, session wire.Session) error {
	var head wire.PutHead
	if err := s.first(st, &head); err != nil {
		return err
	}
	r, err := head.Request()
	if err != nil {
		return err
	}
	leave, err := s.place(st)
	if err != nil {
		return err
	}
	defer leave()
	var send sync.Mutex
	r.Source = &incomingSource{st: st, send: &send}
	stop := alive(st, &send)
	receipts, err := session.Put(st.Context(), r)
	stop()
	if err != nil {
		return err
	}
	return s.sendHead(st, wire.Receipts{Receipts: wire.FromReceipts(receipts)})
}

// place waits for one of the owner's places for what sends bulk bytes. Whoever takes several
// takes a place first, then memory, then what the session takes.
func (s *Server) place(st grpc.ServerStream) (leave func(), err error) {
	who, err := callerOf(st.Context())
	if err != nil {
		return nil, err
	}
	// Until then nothing is said, not even that the server lives: what comes unasked on a call on
	// which something was said is not counted.
	ctx, cancel := context.WithTimeoutCause(st.Context(), placeLimit, &store.Error{Kind: store.Unavailable, Op: "serve a stream", Detail: "too many puts under way"})
	defer cancel()
	if err := s.puts.Acquire(ctx, who.fingerprint, 1); err != nil {
		return nil, err
	}
	return func() { s.puts.Release(who.fingerprint, 1) }, nil
}

// first reads the message that opens a stream.
func (s *Server) first(st grpc.ServerStream, message any) error {
	f, err := receive(st)
	if err != nil {
		return err
	}
	defer f.free()
	done, err := s.turn(st)
	if err != nil {
		return err
	}
	defer done()
	return f.read(kindHead, message)
}

// sendHead sends a message.
func (s *Server) sendHead(st grpc.ServerStream, message any) error {
	done, err := s.turn(st)
	if err != nil {
		return err
	}
	f, err := headFrame(kindHead, message)
	done()
	if err != nil {
		return err
	}
	return within(func() error { return st.SendMsg(f) })
}

// turn waits for one at the processors, to read or to write a message: long ones of one owner
// must not keep them from another. Whoever has it waits for nothing else.
func (s *Server) turn(st grpc.ServerStream) (done func(), err error) {
	who, err := callerOf(st.Context())
	if err != nil {
		return nil, err
	}
	if err := s.turns.Acquire(st.Context(), who.fingerprint, 1); err != nil {
		return nil, err
	}
	return func() { s.turns.Release(who.fingerprint, 1) }, nil
}

// alive says from time to time that the server works, until stop.
func alive(st grpc.ServerStream, send *sync.Mutex) (stop func()) {
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		t := time.NewTicker(aliveEvery)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-st.Context().Done():
				return
			case <-t.C:
			}
			send.Lock()
			err := st.SendMsg(&frame{kind: kindAlive})
			send.Unlock()
			if err != nil {
				return // the stream's own error says why
			}
		}
	})
	return func() {
		close(done)
		ended.Wait()
	}
}

// batch receives many small crates, into memory that is bounded over all callers.
func (s *Server) batch(st grpc.ServerStream, session wire.Session) error {
	var head wire.Batch
	if err := s.first(st, &head); err != nil {
		return err
	}
	if _, err := head.Check(); err != nil {
		return err
	}
	who, err := callerOf(st.Context())
	if err != nil {
		return err
	}
	leave, err := s.place(st)
	if err != nil {
		return err
	}
	defer leave()
	var send sync.Mutex
	var until time.Time
	var stop func() // nil: nothing was said yet
	defer func() {
		if stop != nil {
			stop()
		}
	}()
	expect := func(bytes int64) error {
		until = time.Now().Add(wire.StallLimit + time.Duration(bytes/slowestBatch)*time.Second)
		if stop != nil {
			return nil
		}
		// Told only now, so that bytes are not sent before there is room for them.
		f, err := headFrame(kindBegin, wire.Begin{})
		if err != nil {
			return err
		}
		if err := st.SendMsg(f); err != nil {
			return err
		}
		stop = sync.OnceFunc(alive(st, &send))
		return nil
	}
	room := func(ctx context.Context, least, most int64) (int64, func(), error) {
		n, err := s.o.Memory.AcquireSome(ctx, who.fingerprint, least, most)
		return n, func() { s.o.Memory.Release(who.fingerprint, n) }, err
	}
	in := &body{recv: func() (*frame, error) { return receiveWithin(st, min(wire.StallLimit, time.Until(until))) }}
	defer in.Close()
	results, err := wire.ReceiveBatch(st.Context(), &head, in, room, expect, session.PutBatch)
	if err != nil {
		return err
	}
	stop()
	return s.sendHead(st, wire.FromResults(results))
}

// read sends a range of a crate. The first frame says that it is there.
func (s *Server) read(st grpc.ServerStream, session wire.Session) error {
	var r wire.Range
	if err := s.first(st, &r); err != nil {
		return err
	}
	if err := r.Check(); err != nil {
		return err
	}
	open := session.Open
	if r.Unverified {
		open = session.OpenUnverified
	}
	rc, err := open(st.Context(), r.Crate, r.Offset, r.Length)
	if err != nil {
		return err
	}
	defer rc.Close()
	if err := s.sendHead(st, wire.Empty{}); err != nil {
		return err
	}
	for {
		f, err := readData(rc, wire.DataSize)
		if f != nil {
			if err := within(func() error { return st.SendMsg(f) }); err != nil {
				return err
			}
			f.free()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// events sends what happens until the caller goes.
func (s *Server) events(st grpc.ServerStream, session wire.Session) error {
	var after wire.Cursor
	if err := s.first(st, &after); err != nil {
		return err
	}
	who, err := callerOf(st.Context())
	if err != nil {
		return err
	}
	defer who.conn.Listen()()
	return session.Events(st.Context(), after, func(e wire.Event) error { return s.sendHead(st, e) })
}
