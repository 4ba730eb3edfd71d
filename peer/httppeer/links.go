package httppeer

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// links counts the connections of each owner, so that one can't take all of them.
type links struct {
	most   int
	mu     sync.Mutex
	owners map[string]int
	of     map[net.Conn]string
}

type linkKey struct{}

// withLink lets a request tell its connection.
func withLink(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, linkKey{}, c)
}

// claim counts a request's connection as the owner's; false if there are too many.
func (l *links) claim(ctx context.Context, owner string) bool {
	c, ok := ctx.Value(linkKey{}).(net.Conn)
	if !ok {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, counted := l.of[c]; counted {
		return true
	}
	if l.owners[owner] >= l.most {
		return false
	}
	if l.of == nil {
		l.of, l.owners = make(map[net.Conn]string), make(map[string]int)
	}
	l.of[c] = owner
	l.owners[owner]++
	return true
}

// state hears from net/http what becomes of connections.
func (l *links) state(c net.Conn, s http.ConnState) {
	if s != http.StateClosed && s != http.StateHijacked {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	owner, ok := l.of[c]
	if !ok {
		return
	}
	delete(l.of, c)
	if l.owners[owner]--; l.owners[owner] == 0 {
		delete(l.owners, owner)
	}
}
