package host

import (
	"context"
	"sync"
)

// locks is a lock for each key that is in use.
type locks[K comparable] struct {
	mu sync.Mutex
	m  map[K]*lockEntry
}

type lockEntry struct {
	held chan struct{} // holds one value while the key is locked
	refs int           // holder and waiters; guarded by locks.mu
}

// lock waits for a key, at most as long as ctx lives.
func (l *locks[K]) lock(ctx context.Context, key K) (unlock func(), err error) {
	l.mu.Lock()
	if l.m == nil {
		l.m = make(map[K]*lockEntry)
	}
	e := l.m[key]
	if e == nil {
		e = &lockEntry{held: make(chan struct{}, 1)}
		l.m[key] = e
	}
	e.refs++
	l.mu.Unlock()
	select {
	case e.held <- struct{}{}:
		return func() { <-e.held; l.drop(key, e) }, nil
	case <-ctx.Done():
		l.drop(key, e)
		return nil, context.Cause(ctx)
	}
}

func (l *locks[K]) drop(key K, e *lockEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.refs--; e.refs == 0 {
		delete(l.m, key)
	}
}

// slots is a number of places, waited for in order.
type slots chan struct{}

func (s slots) take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s slots) give() { <-s }
