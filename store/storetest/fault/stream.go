package fault

import (
	"context"
	"io"

	"stasis/store"
)

// source spoils what a source gives.
func (e effect) source(s store.Source) store.Source {
	if s == nil || e.flip < 0 && e.cut < 0 && e.brk < 0 {
		return s
	}
	return &spoilt{s, e}
}

type spoilt struct {
	inner store.Source
	e     effect
}

func (s *spoilt) OpenAt(ctx context.Context, offset int64) (io.ReadCloser, error) {
	rc, err := s.inner.OpenAt(ctx, offset)
	if err != nil {
		return nil, err
	}
	return s.e.stream(rc, offset), nil
}

// stream spoils a stream that starts at offset.
func (e effect) stream(rc io.ReadCloser, offset int64) io.ReadCloser {
	if e.flip < 0 && e.cut < 0 && e.brk < 0 {
		return rc
	}
	return &stream{ReadCloser: rc, e: e, at: offset}
}

type stream struct {
	io.ReadCloser
	e  effect
	at int64
}

func (s *stream) Read(p []byte) (int, error) {
	if s.e.cut >= 0 {
		if s.at >= s.e.cut {
			return 0, io.EOF
		}
		p = p[:min(int64(len(p)), s.e.cut-s.at)]
	}
	if s.e.brk >= 0 {
		if s.at >= s.e.brk {
			return 0, &store.Error{Kind: store.Unavailable, Op: "read", Detail: "the test broke it off"}
		}
		p = p[:min(int64(len(p)), s.e.brk-s.at)]
	}
	n, err := s.ReadCloser.Read(p)
	if i := s.e.flip - s.at; i >= 0 && i < int64(n) {
		p[i] ^= 1
	}
	s.at += int64(n)
	return n, err
}
