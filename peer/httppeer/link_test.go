package httppeer

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"stasis/peer/wire"
	"stasis/store"
)

// hop passes connections on and can break them.
type hop struct {
	to     string
	l      net.Listener
	mu     sync.Mutex
	conns  []net.Conn
	frozen chan struct{} // closed: nothing passes
	ended  chan struct{}
	rate   int // bytes a second each way; 0: as fast as it goes
}

func newHop(t testing.TB, to string) *hop {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hop{to: to, l: l, frozen: make(chan struct{}), ended: make(chan struct{})}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			h.mu.Lock()
			h.conns = append(h.conns, c, up)
			h.mu.Unlock()
			done.Go(func() { h.pass(c, up) })
			done.Go(func() { h.pass(up, c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		close(h.ended)
		h.cut()
		done.Wait()
	})
	return h
}

func (h *hop) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	p := make([]byte, 32<<10)
	for {
		n, err := from.Read(p)
		if err != nil {
			return
		}
		select {
		case <-h.frozen:
			<-h.ended // nothing is taken note of, as on a link that is down
			return
		default:
		}
		if h.rate > 0 {
			time.Sleep(time.Duration(n) * time.Second / time.Duration(h.rate))
		}
		if _, err := to.Write(p[:n]); err != nil {
			return
		}
	}
}

// cut breaks all connections there are.
func (h *hop) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		c.Close()
	}
	h.conns = nil
}

// throughHop makes a hop part of a rig.
func throughHop(t testing.TB, h **hop) func(net.Listener) string {
	return func(l net.Listener) string {
		*h = newHop(t, l.Addr().String())
		return (*h).l.Addr().String()
	}
}

// readAll reads a crate and tells when the first bytes have come.
func readAll(ctx context.Context, c *Client, begun func()) error {
	rc, err := c.Open(ctx, store.NewCrateID(), 0, -1)
	if err != nil {
		return err
	}
	defer rc.Close()
	if _, err := io.ReadFull(rc, make([]byte, 10)); err != nil {
		return err
	}
	begun()
	n, err := io.Copy(io.Discard, rc)
	if err == nil && n != sinkSize-10 {
		return errors.New("the reader ended early and well")
	}
	return err
}

// operations are what may be under way on a link. Each tells when it is.
func operations(ctx context.Context, c *Client) map[string]func(begun func()) error {
	return map[string]func(func()) error{
		"status": func(begun func()) error {
			begun()
			_, err := c.Status(ctx)
			return err
		},
		"put": func(begun func()) error {
			_, err := c.Put(ctx, store.PutRequest{Crate: store.NewCrateID(), Size: sinkSize, Source: noted{zeroSource(sinkSize), begun}})
			return err
		},
		"batch": func(begun func()) error {
			begun()
			return c.PutBatch(ctx, []store.PutRequest{{Crate: store.NewCrateID(), Size: 10, Source: zeroSource(10)}})[0].Err
		},
		"verify": func(begun func()) error {
			begun()
			_, err := c.Verify(ctx, store.NewCrateID(), 0, -1, store.Digest{})
			return err
		},
		"open": func(begun func()) error { return readAll(ctx, c, begun) },
	}
}

// noted tells when its source is opened.
type noted struct {
	store.Source
	begun func()
}

func (n noted) OpenAt(ctx context.Context, offset int64) (io.ReadCloser, error) {
	n.begun()
	return n.Source.OpenAt(ctx, offset)
}

// A link that goes silent is found within seconds, whatever is under way on it.
func TestDeadLinkIsFound(t *testing.T) {
	t.Parallel()
	var h *hop
	slow := sink{pause: func(ctx context.Context) { <-ctx.Done() }}
	_, c := serveAny(t, Options{Service: slow}, throughHop(t, &h))
	ops := operations(t.Context(), c)
	ops["events"] = func(begun func()) error {
		begun()
		return c.Events(t.Context(), wire.Cursor{}, func(wire.Event) error { return nil })
	}
	var begun, done sync.WaitGroup
	frozen := make(chan time.Time, len(ops))
	for name, do := range ops {
		begun.Add(1)
		done.Go(func() {
			var once sync.Once
			err := do(func() { once.Do(begun.Done) })
			start := <-frozen
			if !errors.Is(err, store.Unavailable) {
				t.Errorf("%s over a dead link: %v", name, err)
			}
			t.Logf("%s: after %v: %v", name, time.Since(start).Round(time.Millisecond), err)
			if took := time.Since(start); took > DeadAfter+2*time.Second {
				t.Errorf("%s took %v to find out: %v", name, took, err)
			}
		})
	}
	begun.Wait()
	close(h.frozen)
	for range ops {
		frozen <- time.Now()
	}
	done.Wait()
	// What is asked then fails at once, or after a failed attempt to connect.
	start := time.Now()
	if _, err := c.Status(t.Context()); !errors.Is(err, store.Unavailable) || time.Since(start) > DeadAfter {
		t.Errorf("afterwards: %v after %v", err, time.Since(start))
	}
}

// A link that is merely slow is not given up, whatever waits in its queue.
func TestSlowLinkIsWaitedFor(t *testing.T) {
	t.Parallel()
	var h *hop
	_, c := serveAny(t, Options{Service: sink{}}, func(l net.Listener) string {
		h = newHop(t, l.Addr().String())
		h.rate = 256 << 10
		return h.l.Addr().String()
	})
	var done sync.WaitGroup
	done.Go(func() {
		if _, err := c.Put(t.Context(), store.PutRequest{Crate: store.NewCrateID(), Size: 5 << 18, Source: zeroSource(5 << 18)}); err != nil {
			t.Errorf("put: %v", err)
		}
	})
	done.Go(func() {
		rc, err := c.Open(t.Context(), store.NewCrateID(), 0, 5<<18)
		if err == nil {
			_, err = io.Copy(io.Discard, rc)
			rc.Close()
		}
		if err != nil {
			t.Errorf("read: %v", err)
		}
	})
	done.Wait()
}

// A peer that works for longer than it takes to find a dead link is waited for.
func TestSlowDiskIsWaitedFor(t *testing.T) {
	t.Parallel()
	slow := sink{pause: func(ctx context.Context) {
		select {
		case <-time.After(DeadAfter + time.Second):
		case <-ctx.Done():
		}
	}}
	_, c := serveAny(t, Options{Service: slow}, nil)
	ops := operations(t.Context(), c)
	// Nor is a source that takes its time a sign of a dead link.
	pause := readFunc(func([]byte) (int, error) {
		time.Sleep(DeadAfter + time.Second)
		return 0, io.EOF
	})
	src := sourceOf(func() io.Reader { return io.MultiReader(io.LimitReader(zeros{}, 5), pause, io.LimitReader(zeros{}, 5)) })
	_, fast := serveAny(t, Options{Service: sink{}}, nil)
	ops["slow source"] = func(func()) error {
		_, err := fast.Put(t.Context(), store.PutRequest{Crate: store.NewCrateID(), Size: 10, Source: src})
		return err
	}
	var done sync.WaitGroup
	for name, do := range ops {
		done.Go(func() {
			if err := do(func() {}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	done.Wait()
}

// sourceOf is a source that is opened at its beginning alone.
type sourceOf func() io.Reader

func (s sourceOf) OpenAt(context.Context, int64) (io.ReadCloser, error) {
	return io.NopCloser(s()), nil
}

// A peer that is started again is found, though the connections to it were lost.
func TestPeerComesBack(t *testing.T) {
	var h *hop
	_, c := serveAny(t, Options{Service: sink{}}, throughHop(t, &h))
	for range 20 {
		if _, err := c.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Put(t.Context(), store.PutRequest{Crate: store.NewCrateID(), Size: 10, Source: zeroSource(10)}); err != nil {
			t.Fatal(err)
		}
		h.cut()
	}
}

// Where nobody answers calls fail at once after the first.
func TestNobodyListens(t *testing.T) {
	s, c := serveAny(t, Options{Service: sink{}}, nil)
	s.Close()
	start := time.Now()
	for range 1000 {
		if _, err := c.Status(t.Context()); !errors.Is(err, store.Unavailable) {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("1000 calls to nobody took %v", took)
	}
}
