package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"stasis/store"
)

type handlerFunc func(ctx context.Context, op string, args json.RawMessage, progress Progress) (any, error)

func (f handlerFunc) Handle(ctx context.Context, op string, args json.RawMessage, progress Progress) (any, error) {
	return f(ctx, op, args, progress)
}

func quiet() logrus.FieldLogger {
	log, _ := test.NewNullLogger()
	return log
}

func serve(t *testing.T, dir string, h handlerFunc) *Server {
	t.Helper()
	s, err := Serve(dir, "0:7", h, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func echo(_ context.Context, op string, args json.RawMessage, progress Progress) (any, error) {
	switch op {
	case "echo":
		return args, nil
	case "parts":
		for i := range 3 {
			if err := progress(i); err != nil {
				return nil, err
			}
		}
		return "end", nil
	case "nil":
		return nil, nil
	case "panic":
		panic("on purpose")
	}
	return nil, &store.Error{Kind: store.Conflict, Op: op, Hint: "do something else"}
}

// A state directory's path may be longer than a socket's address can be.
func TestCall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 60))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := Call(ctx, dir, "echo", 0, nil, nil, nil); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("without a socket: %v", err)
	}
	s := serve(t, dir, echo)
	var got map[string]int
	if err := Call(ctx, dir, "echo", 0, map[string]int{"a": 1}, &got, nil); err != nil || got["a"] != 1 {
		t.Errorf("echo: %v %v", got, err)
	}
	var parts []string
	var end string
	err := Call(ctx, dir, "parts", 0, nil, &end, func(p json.RawMessage) error {
		parts = append(parts, string(p))
		return nil
	})
	if err != nil || end != "end" || strings.Join(parts, "") != "012" {
		t.Errorf("parts: %v %q %v", parts, end, err)
	}
	if err := Call(ctx, dir, "nil", 0, nil, nil, nil); err != nil {
		t.Errorf("an empty result: %v", err)
	}
	if err := Call(ctx, dir, "other", 0, nil, nil, nil); !errors.Is(err, store.Conflict) || !strings.Contains(err.Error(), "do something else") {
		t.Errorf("an error lost its kind or text: %v", err)
	}
	if err := Call(ctx, dir, "panic", 0, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "failed inside") {
		t.Errorf("a panic: %v", err)
	}
	if id, err := Who(ctx, dir, time.Minute); err != nil || id.PID != os.Getpid() || id.Mount != "0:7" {
		t.Errorf("%+v, %v", id, err)
	}
	info, err := os.Stat(filepath.Join(dir, SocketName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v %v", info, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := Call(ctx, dir, "echo", 0, nil, nil, nil); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("after close: %v", err)
	}
}

// A socket that a killed daemon left is not in the way of the next.
func TestStaleSocket(t *testing.T) {
	dir := t.TempDir()
	l, err := listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Call(context.Background(), dir, "echo", 0, nil, nil, nil); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("a dead socket: %v", err)
	}
	s := serve(t, dir, echo)
	if err := Call(context.Background(), dir, "echo", 0, 1, nil, nil); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Whoever interrupts a command must not leave its work running in the daemon.
func TestGoingAwayCancels(t *testing.T) {
	dir := t.TempDir()
	started, ended := make(chan struct{}), make(chan struct{})
	s := serve(t, dir, func(ctx context.Context, _ string, _ json.RawMessage, _ Progress) (any, error) {
		close(started)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	defer s.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-started
		cancel()
	}()
	if err := Call(ctx, dir, "wait", 0, nil, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the request goes on")
	}
}

// A daemon that is stopped is named, not waited for without end. The socket here is
// one that nobody accepts on; what Call does is the same.
func TestSilenceNamesTheProcess(t *testing.T) {
	dir := t.TempDir()
	l, err := listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = Call(context.Background(), dir, "status", time.Second, nil, nil, nil)
	if !errors.Is(err, store.Unavailable) || !strings.Contains(err.Error(), "pid") {
		t.Errorf("got %v", err)
	}
}

// A length is refused before that much memory is taken.
func TestFrameLimit(t *testing.T) {
	var v any
	if err := readFrame(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff}), &v, MaxRequest); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("got %v", err)
	}
	if err := writeFrame(&bytes.Buffer{}, strings.Repeat("x", MaxRequest), MaxRequest); err == nil {
		t.Error("a frame over the limit was written")
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x0d{\"op\":\"echo\"}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r request
		if readFrame(bytes.NewReader(b), &r, MaxRequest) == nil && len(b) < 4 {
			t.Error("a frame was read from less than its head")
		}
	})
}

// Whoever asks about a mount hears nothing of another, and nothing is done to that.
func TestOtherMount(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir, echo)
	defer s.Close()
	for mount, want := range map[string]error{"": nil, "0:7": nil, "0:8": ErrOtherMount} {
		err := Daemon{State: dir, Mount: mount}.Call(t.Context(), "echo", 0, 1, nil, nil)
		if !errors.Is(err, want) || errors.Is(err, store.Conflict) {
			t.Errorf("about the mount %q: %v, want %v", mount, err, want)
		}
	}
}

// A daemon before there was the question is told from none by its answer.
func TestWhoOfAnOlderDaemon(t *testing.T) {
	dir := t.TempDir()
	l, err := listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.AcceptUnix()
		if err != nil {
			return // the test has ended
		}
		defer c.Close()
		var r request
		if readFrame(c, &r, MaxRequest) == nil {
			_ = writeFrame(c, response{Error: &remoteError{Kind: store.Invalid, Text: "it does not know the request"}}, MaxResponse)
		}
	}()
	if id, err := Who(t.Context(), dir, time.Minute); err != nil || id.PID != os.Getpid() {
		t.Errorf("%+v, %v", id, err)
	}
}

// A socket that is a link is nobody's: it may lead where another user wants to have somebody led.
func TestSocketIsALink(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	l, err := net.Listen("unix", filepath.Join(other, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Symlink(filepath.Join(other, SocketName), filepath.Join(dir, SocketName)); err != nil {
		t.Fatal(err)
	}
	if err := Call(t.Context(), dir, "status", time.Second, nil, nil, nil); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("%v", err)
	}
}
