// Package keyed gives a lock for each of many keys, so that what is done to one
// crate or one reservation happens one after the other while the rest goes on.
// Memory is held for the keys that are locked or waited for, no others.
package keyed

import (
	"context"
	"sync"
)

// Locks is a lock for each key. The zero value is ready. A holder of several
// keys takes them in one fixed order, or two such holders wait for each other.
type Locks[K comparable] struct {
	mu sync.Mutex
	m  map[K]*entry
}

type entry struct {
	held chan struct{} // holds one value while the key is locked
	refs int           // holder and waiters; guarded by Locks.mu
}

// Lock waits for the key, at most as long as ctx lives, and gives the function
// that unlocks it. The error is ctx's.
func (l *Locks[K]) Lock(ctx context.Context, key K) (unlock func(), err error) {
	l.mu.Lock()
	if l.m == nil {
		l.m = make(map[K]*entry)
	}
	e := l.m[key]
	if e == nil {
		e = &entry{held: make(chan struct{}, 1)}
		l.m[key] = e
	}
	e.refs++
	l.mu.Unlock()

	select {
	case e.held <- struct{}{}:
	default:
		select {
		case e.held <- struct{}{}:
		case <-ctx.Done():
			l.drop(key, e)
			return nil, context.Cause(ctx)
		}
	}
	var once sync.Once
	return func() {
		once.Do(func() {
			<-e.held
			l.drop(key, e)
		})
	}, nil
}

func (l *Locks[K]) drop(key K, e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.refs--; e.refs == 0 {
		delete(l.m, key)
	}
}
