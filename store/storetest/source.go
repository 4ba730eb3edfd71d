package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"

	"stasis/store"
)

// ErrSource is what broken sources fail with.
var ErrSource = errors.New("the source broke off, as the test wants")

// SourceFunc is a source made of its one method.
type SourceFunc func(ctx context.Context, offset int64) (io.ReadCloser, error)

// OpenAt calls the function.
func (f SourceFunc) OpenAt(ctx context.Context, offset int64) (io.ReadCloser, error) {
	return f(ctx, offset)
}

// BytesSource gives p. p must not be changed while the source is in use.
func BytesSource(p []byte) store.Source {
	return SourceFunc(func(_ context.Context, offset int64) (io.ReadCloser, error) {
		if offset < 0 || offset > int64(len(p)) || offset%store.BlockSize != 0 {
			return nil, &store.Error{Kind: store.Invalid, Op: "open source"}
		}
		return io.NopCloser(bytes.NewReader(p[offset:])), nil
	})
}

// BreakingSource gives the first n bytes of p and then ErrSource, every time it
// is opened.
func BreakingSource(p []byte, n int64) store.Source {
	return SourceFunc(func(_ context.Context, offset int64) (io.ReadCloser, error) {
		head := bytes.NewReader(p[min(offset, n):n])
		return io.NopCloser(io.MultiReader(head, failing{ErrSource})), nil
	})
}

// UnopenableSource can't be opened.
func UnopenableSource() store.Source {
	return SourceFunc(func(context.Context, int64) (io.ReadCloser, error) { return nil, ErrSource })
}

// StallingSource gives the first n bytes of p and then nothing more until the
// reader is closed. Stalled is closed when a read first waits; both make a test of
// cancellation exact.
func StallingSource(p []byte, n int64) (s store.Source, stalled <-chan struct{}) {
	ch := make(chan struct{})
	var once atomic.Bool
	return SourceFunc(func(_ context.Context, offset int64) (io.ReadCloser, error) {
		st := &stall{head: bytes.NewReader(p[min(offset, n):n]), closed: make(chan struct{})}
		st.waits = func() {
			if once.CompareAndSwap(false, true) {
				close(ch)
			}
		}
		return st, nil
	}), ch
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type stall struct {
	head   *bytes.Reader
	waits  func()
	once   atomic.Bool
	closed chan struct{}
}

func (s *stall) Read(p []byte) (int, error) {
	if s.head.Len() > 0 {
		return s.head.Read(p)
	}
	s.waits()
	<-s.closed
	return 0, errors.New("read of a closed source")
}

func (s *stall) Close() error {
	if s.once.CompareAndSwap(false, true) {
		close(s.closed)
	}
	return nil
}

// GatedSource gives the first n bytes of p, closes going when more is asked for,
// and goes on once wait is closed.
func GatedSource(p []byte, n int64, going chan<- struct{}, wait <-chan struct{}) store.Source {
	var once atomic.Bool
	return SourceFunc(func(_ context.Context, offset int64) (io.ReadCloser, error) {
		gate := readFunc(func([]byte) (int, error) {
			if once.CompareAndSwap(false, true) {
				close(going)
			}
			<-wait
			return 0, io.EOF
		})
		n := max(n, offset)
		return io.NopCloser(io.MultiReader(bytes.NewReader(p[offset:n]), gate, bytes.NewReader(p[n:]))), nil
	})
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
