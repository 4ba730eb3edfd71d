package guard

import (
	"container/list"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Options of a Door. All must be given.
type Options struct {
	// Owners are the places of owners' connections. They are the door's alone.
	Owners *Lanes
	// Strangers is how many connections there are at a time of whom nobody knows, or knows
	// yet.
	Strangers int
	// Known reports whether one whose connection was claimed is an owner still. It is asked
	// every KnownEvery.
	Known    func(owner string) bool
	Refusals *Refusals
}

// Door bounds the connections of a server. Its methods may be called concurrently.
type Door struct {
	o     Options
	hands *Lanes // turns of those who shake hands, by address

	mu        sync.Mutex
	inside    map[string]map[*Conn]struct{} // connections of owners
	waiting   int
	strangers map[string]*list.List // by address, of *Conn, those who came first in front
	came      uint64
}

// NewDoor makes a door.
func NewDoor(o Options) *Door {
	return &Door{o: o, hands: NewLanes(max(1, int64(runtime.GOMAXPROCS(0))/2), 0, 0),
		inside: make(map[string]map[*Conn]struct{}), strangers: make(map[string]*list.List)}
}

// Listen gives a listener whose connections are *Conn.
func (d *Door) Listen(l net.Listener) net.Listener {
	in := &listener{Listener: l, d: d, done: make(chan struct{})}
	in.looking.Go(in.look)
	return in
}

type listener struct {
	net.Listener
	d       *Door
	once    sync.Once
	done    chan struct{}
	looking sync.WaitGroup
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.d.enter(c), nil
}

// Close takes nobody any more. Who is inside stays.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	l.looking.Wait()
	return l.Listener.Close()
}

// look ends the connections of those who are owners no more, until nobody comes in.
func (l *listener) look() {
	t := time.NewTicker(KnownEvery)
	defer t.Stop()
	for {
		select {
		case <-l.done:
			return
		case <-t.C:
			l.d.dismiss()
		}
	}
}

// dismiss ends the connections of those who are owners no more.
func (d *Door) dismiss() {
	d.mu.Lock()
	names := make([]string, 0, len(d.inside))
	for name := range d.inside {
		names = append(names, name)
	}
	d.mu.Unlock()
	for _, name := range names {
		if d.o.Known(name) {
			continue
		}
		d.mu.Lock()
		var out []*Conn
		for c := range d.inside[name] {
			out = append(out, c)
		}
		d.mu.Unlock()
		if len(out) > 0 {
			d.o.Refusals.Warn("the connections of one who is no owner any more were closed", logrus.Fields{"fingerprint": name, "connections": len(out)})
		}
		for _, c := range out {
			_ = c.Close() // whoever uses it finds out
		}
	}
}

// Conn is a connection that is counted: as a stranger's, until it is claimed.
type Conn struct {
	net.Conn
	d       *Door
	address string
	number  uint64
	timer   *time.Timer

	hands hand

	// With the door's mu held.
	owner   string
	place   *list.Element // among the strangers; nil: it is none
	closed  bool
	work    int       // that is under way on it
	listens int       // of it, to what the peer tells unasked
	since   time.Time // when the last work ended
}

// Of finds the connection that another one wraps, as those of TLS do; nil if there is none.
func Of(c net.Conn) *Conn {
	for {
		switch outer := c.(type) {
		case *Conn:
			return outer
		case interface{ NetConn() net.Conn }:
			c = outer.NetConn()
		default:
			return nil
		}
	}
}

// Inside is how many connections there are.
func (d *Door) Inside() (owners, strangers int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, of := range d.inside {
		owners += len(of)
	}
	return owners, d.waiting
}

// Working is how many connections of owners have something under way.
func (d *Door) Working() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, of := range d.inside {
		for c := range of {
			if c.work > 0 {
				n++
			}
		}
	}
	return n
}

// enter counts a stranger. Another one may have to go.
func (d *Door) enter(c net.Conn) *Conn {
	in := &Conn{Conn: c, d: d, address: addressOf(c)}
	in.hands.shake(d.hands, in.address)
	d.mu.Lock()
	var out *Conn
	if d.waiting >= d.o.Strangers {
		out = d.longest()
		d.leave(out)
	}
	here := d.strangers[in.address]
	if here == nil {
		here = list.New()
		d.strangers[in.address] = here
	}
	d.came++
	in.number, in.place = d.came, here.PushBack(in)
	d.waiting++
	in.timer = time.AfterFunc(StrangerLimit, in.expire)
	d.mu.Unlock()
	if out != nil {
		d.o.Refusals.Warn("too many connections of strangers: the one that waited longest was closed", logrus.Fields{"from": out.RemoteAddr(), "most": d.o.Strangers})
		out.hands.end()
		_ = out.Conn.Close() // whoever uses it finds out
	}
	return in
}

// longest is the stranger who came first to the address with most of them. There is one.
func (d *Door) longest() (found *Conn) {
	most := 0
	for _, here := range d.strangers {
		if first := here.Front().Value.(*Conn); here.Len() > most || here.Len() == most && first.number < found.number {
			most, found = here.Len(), first
		}
	}
	return found
}

// leave counts a stranger no more.
func (d *Door) leave(c *Conn) {
	if c.place == nil {
		return
	}
	here := d.strangers[c.address]
	here.Remove(c.place)
	if here.Len() == 0 {
		delete(d.strangers, c.address)
	}
	c.place = nil
	c.timer.Stop()
	d.waiting--
}

// expire ends a connection that has been a stranger's for too long.
func (c *Conn) expire() {
	c.d.mu.Lock()
	late := c.place != nil
	c.d.leave(c)
	c.d.mu.Unlock()
	if late {
		c.hands.end()
		_ = c.Conn.Close() // whoever uses it finds out
	}
}

// Claim counts the connection as an owner's from now on; an error says why it can't be. Where
// all places are taken that are kept for nobody, another one goes on which nothing is under way.
func (c *Conn) Claim(owner string) error {
	c.hands.end()
	d := c.d
	d.mu.Lock()
	switch {
	case c.owner == owner, c.closed:
		d.mu.Unlock()
		return nil // a closed one takes no place
	case c.owner != "":
		d.mu.Unlock()
		return errors.New("the connection is another owner's")
	}
	var out *Conn
	ok := d.o.Owners.TryAcquire(owner, 1)
	if !ok {
		if out = d.idlest(owner); out != nil {
			d.depart(out)
			ok = d.o.Owners.TryAcquire(owner, 1)
		}
	}
	if ok {
		c.owner, c.since = owner, time.Now()
		if d.inside[owner] == nil {
			d.inside[owner] = make(map[*Conn]struct{})
		}
		d.inside[owner][c] = struct{}{}
		d.leave(c)
	}
	his, _ := d.o.Owners.Held(owner)
	d.mu.Unlock()
	if out != nil {
		d.o.Refusals.Warn("a connection on which nothing was under way gave its place to another", logrus.Fields{"from": out.RemoteAddr()})
		_ = out.Conn.Close() // whoever uses it finds out
	}
	if ok {
		return nil
	}
	d.o.Refusals.Warn("there are too many connections of owners", logrus.Fields{"from": c.RemoteAddr(), "fingerprint": owner, "his": his})
	return fmt.Errorf("this peer has no more connections than the %d that it gives you now", his)
}

// idlest is the connection that gives its place to one of an owner: of those on which nothing
// is under way one of whoever has most, and of his the one that was used least lately. It is
// not one of another who has no more than would be the owner's then. One on which somebody
// listens is idle if he listens on another too. It is nil if there is none. The caller has mu.
func (d *Door) idlest(owner string) (found *Conn) {
	most := 0
	for name, of := range d.inside {
		if len(of) < most || name != owner && len(of) <= len(d.inside[owner])+1 {
			continue
		}
		if c := idleOf(of); c != nil && (len(of) > most || found == nil || c.since.Before(found.since)) {
			most, found = len(of), c
		}
	}
	return found
}

// idleOf is that of one owner's connections which was used least lately.
func idleOf(of map[*Conn]struct{}) (found *Conn) {
	var ear *Conn // the one that is kept to listen: the newest
	for c := range of {
		if c.listens > 0 && (ear == nil || c.number > ear.number) {
			ear = c
		}
	}
	for c := range of {
		if c != ear && c.work == c.listens && (found == nil || c.since.Before(found.since)) {
			found = c
		}
	}
	return found
}

// Work counts something in that is under way on the connection, until done, which may be called
// more than once.
func (c *Conn) Work() (done func()) { return c.count(&c.work) }

// Listen says of what is under way that it is but listening, until done.
func (c *Conn) Listen() (done func()) { return c.count(&c.listens) }

func (c *Conn) count(n *int) (done func()) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	*n++
	return sync.OnceFunc(func() {
		c.d.mu.Lock()
		defer c.d.mu.Unlock()
		*n--
		c.since = time.Now()
	})
}

// Read gives what came. During the handshake it is worked on in turn.
func (c *Conn) Read(p []byte) (int, error) {
	c.hands.lay()
	n, err := c.Conn.Read(p)
	c.hands.take()
	return n, err
}

// Greeted says that the handshake is over.
func (c *Conn) Greeted() { c.hands.end() }

// Owner is whose the connection is, "" for a stranger's.
func (c *Conn) Owner() string {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	return c.owner
}

// Close gives the place free.
func (c *Conn) Close() error {
	c.hands.end()
	c.d.mu.Lock()
	c.d.depart(c)
	c.d.mu.Unlock()
	return c.Conn.Close()
}

// depart counts a connection no more. The caller has mu.
func (d *Door) depart(c *Conn) {
	if c.closed {
		return
	}
	c.closed = true
	d.leave(c)
	if c.owner == "" {
		return
	}
	d.o.Owners.Release(c.owner, 1)
	if of := d.inside[c.owner]; len(of) > 1 {
		delete(of, c)
	} else {
		delete(d.inside, c.owner)
	}
}

// addressOf is where a connection comes from, without what one machine has many of: the port,
// and of IPv6 the second half.
func addressOf(c net.Conn) string {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return ""
	}
	ip := a.Addr().Unmap()
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}
