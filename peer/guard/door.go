package guard

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Options of a Door. All must be given.
type Options struct {
	// Owners is how many connections owners have at a time, AnOwner how many one has.
	Owners, AnOwner int
	// Strangers is how many connections there are at a time of whom nobody knows, or knows
	// yet.
	Strangers int
	Refusals  *Refusals
}

// Door bounds the connections of a server. Its methods may be called concurrently.
type Door struct {
	o      Options
	owners *Shares

	mu        sync.Mutex
	inside    int // connections of owners
	waiting   int
	strangers map[string]*list.List // by address, of *Conn, those who came first in front
	came      uint64
}

// NewDoor makes a door.
func NewDoor(o Options) *Door {
	return &Door{o: o, owners: NewShares(int64(o.Owners), int64(o.AnOwner)), strangers: make(map[string]*list.List)}
}

// Listen gives a listener whose connections are *Conn.
func (d *Door) Listen(l net.Listener) net.Listener { return &listener{l, d} }

type listener struct {
	net.Listener
	d *Door
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.d.enter(c), nil
}

// Conn is a connection that is counted: as a stranger's, until it is claimed.
type Conn struct {
	net.Conn
	d       *Door
	address string
	number  uint64
	timer   *time.Timer

	// With the door's mu held.
	owner  string
	place  *list.Element // among the strangers; nil: it is none
	closed bool
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
	return d.inside, d.waiting
}

// enter counts a stranger. Another one may have to go.
func (d *Door) enter(c net.Conn) *Conn {
	in := &Conn{Conn: c, d: d, address: addressOf(c)}
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
		_ = c.Conn.Close() // whoever uses it finds out
	}
}

// Claim counts the connection as an owner's from now on; false if there are too many of
// them.
func (c *Conn) Claim(owner string) bool {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	switch {
	case c.owner == owner, c.closed:
		return true // a closed one takes no place
	case c.owner != "":
		return false
	case !c.d.owners.TryAcquire(owner, 1):
		c.d.o.Refusals.Warn("an owner has too many connections", logrus.Fields{"from": c.RemoteAddr(), "fingerprint": owner, "most": c.d.o.AnOwner})
		return false
	}
	c.owner = owner
	c.d.inside++
	c.d.leave(c)
	return true
}

// Owner is whose the connection is, "" for a stranger's.
func (c *Conn) Owner() string {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	return c.owner
}

// Close gives the place free.
func (c *Conn) Close() error {
	c.d.mu.Lock()
	if !c.closed {
		c.closed = true
		c.d.leave(c)
		if c.owner != "" {
			c.d.owners.Release(c.owner, 1)
			c.d.inside--
		}
	}
	c.d.mu.Unlock()
	return c.Conn.Close()
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
