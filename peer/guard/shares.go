package guard

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Shares is a number of things, of which each owner may have a part. Its methods may be
// called concurrently.
type Shares struct {
	all  *semaphore.Weighted
	each int64

	mu    sync.Mutex
	parts map[string]*part // of owners who have some, or wait for some
}

type part struct {
	free  *semaphore.Weighted
	users int
}

// NewShares makes a number of things, of which one owner may have each.
func NewShares(all, each int64) *Shares {
	return &Shares{all: semaphore.NewWeighted(all), each: min(all, each), parts: make(map[string]*part)}
}

// Acquire takes n for an owner, at most what one owner may have; it waits until they are
// free. Whoever waits for his own share holds up nobody else. Release gives them back.
func (s *Shares) Acquire(ctx context.Context, owner string, n int64) error {
	p := s.use(owner)
	if err := p.free.Acquire(ctx, n); err != nil {
		s.drop(owner, p)
		return err
	}
	if err := s.all.Acquire(ctx, n); err != nil {
		p.free.Release(n)
		s.drop(owner, p)
		return err
	}
	return nil
}

// TryAcquire takes n for an owner, if they are free.
func (s *Shares) TryAcquire(owner string, n int64) bool {
	p := s.use(owner)
	if p.free.TryAcquire(n) {
		if s.all.TryAcquire(n) {
			return true
		}
		p.free.Release(n)
	}
	s.drop(owner, p)
	return false
}

// Release gives back what was acquired.
func (s *Shares) Release(owner string, n int64) {
	s.mu.Lock()
	p := s.parts[owner]
	s.mu.Unlock()
	s.all.Release(n)
	p.free.Release(n)
	s.drop(owner, p)
}

func (s *Shares) use(owner string) *part {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[owner]
	if p == nil {
		p = &part{free: semaphore.NewWeighted(s.each)}
		s.parts[owner] = p
	}
	p.users++
	return p
}

func (s *Shares) drop(owner string, p *part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.users--; p.users == 0 {
		delete(s.parts, owner)
	}
}
