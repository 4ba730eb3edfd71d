package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
)

// end is one end of a connection from an address.
type end struct {
	net.Conn
	from net.Addr
}

func (e end) RemoteAddr() net.Addr { return e.from }

// come has somebody come in from an address; gone reports whether he was thrown out.
func come(t *testing.T, d *Door, ip string) (c *Conn, gone func() bool) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	c = d.enter(end{near, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1234}})
	return c, func() bool {
		far.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := far.Read(make([]byte, 1))
		return errors.Is(err, io.EOF)
	}
}

func newDoor() *Door {
	log, _ := test.NewNullLogger()
	return NewDoor(Options{Owners: 6, AnOwner: 4, Strangers: 4, Refusals: &Refusals{Log: log}})
}

func (d *Door) holds(t *testing.T, owners, strangers int) {
	t.Helper()
	if o, s := d.Inside(); o != owners || s != strangers {
		t.Errorf("%d of owners and %d of strangers, want %d and %d", o, s, owners, strangers)
	}
}

// The address that has most strangers loses the one that waited longest.
func TestStrangersMakeRoom(t *testing.T) {
	d := newDoor()
	_, lone := come(t, d, "192.0.2.1")
	_, first := come(t, d, "192.0.2.2")
	_, second := come(t, d, "192.0.2.2")
	come(t, d, "192.0.2.2")
	come(t, d, "192.0.2.3")
	if !first() || lone() || second() {
		t.Errorf("gone: alone %v, first %v, second %v; want the first of many", lone(), first(), second())
	}
	d.holds(t, 0, 4)
	// A machine has many addresses of IPv6, and one half that they share.
	d = newDoor()
	come(t, d, "192.0.2.1")
	_, one := come(t, d, "2001:db8::1")
	come(t, d, "2001:db8::2")
	come(t, d, "192.0.2.3")
	come(t, d, "192.0.2.4")
	if !one() {
		t.Error("two addresses of one network were taken for two machines")
	}
}

// Strangers take no place from owners, and owners have their share.
func TestOwnersHaveTheirPlaces(t *testing.T) {
	d := newDoor()
	var of []*Conn
	for i := range 5 {
		c, gone := come(t, d, "192.0.2.1")
		if ok := c.Claim("ann"); ok != (i < 4) {
			t.Errorf("connection %d of one owner: %v", i, ok)
		}
		for range 10 {
			come(t, d, "192.0.2.2")
		}
		if i < 4 && (gone() || c.Owner() != "ann" || !c.Claim("ann") || c.Claim("bob")) {
			t.Errorf("connection %d is not kept", i)
		}
		of = append(of, c)
	}
	for i := range 3 {
		c, _ := come(t, d, "192.0.2.3")
		if ok := c.Claim("bob"); ok != (i < 2) {
			t.Errorf("connection %d of another: %v", i, ok)
		}
	}
	d.holds(t, 6, 4)
	for _, c := range of {
		c.Close()
		c.Close() // counts once
	}
	d.holds(t, 2, 3) // the one of too many was a stranger
	c, _ := come(t, d, "192.0.2.1")
	c.Close()
	if !c.Claim("ann") { // it is told by the connection
		t.Error("a closed connection")
	}
	d.holds(t, 2, 3)
}

// Who does not say who he is has to go.
func TestStrangersHaveTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor()
		_, gone := come(t, d, "192.0.2.1")
		c, stays := come(t, d, "192.0.2.1")
		c.Claim("ann")
		time.Sleep(StrangerLimit + time.Second)
		if !gone() || stays() {
			t.Errorf("gone: stranger %v, owner %v", gone(), stays())
		}
		d.holds(t, 1, 0)
	})
}

// Who waits for his own share holds up nobody, and nothing is left of who has gone.
func TestShares(t *testing.T) {
	s := NewShares(10, 5)
	ctx, cancel := context.WithCancel(t.Context())
	if !s.TryAcquire("ann", 5) || s.TryAcquire("ann", 1) {
		t.Error("a share is five")
	}
	waits := make(chan error)
	go func() { waits <- s.Acquire(ctx, "ann", 3) }()
	if err := s.Acquire(t.Context(), "bob", 5); err != nil {
		t.Error(err)
	}
	if s.TryAcquire("eve", 1) {
		t.Error("there are ten")
	}
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.Release("bob", 5)
	s.Release("ann", 5)
	if len(s.parts) != 0 {
		t.Errorf("left: %v", s.parts)
	}
}

// A refusal is logged now and then, with how often it was not.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, hook := test.NewNullLogger()
		r := Refusals{Log: log}
		for range 10 {
			r.Warn("one", logrus.Fields{"a": 1})
			r.Warn("two", nil)
		}
		time.Sleep(2 * logEvery)
		r.Warn("one", nil)
		var said []string
		for _, e := range hook.AllEntries() {
			said = append(said, fmt.Sprint(e.Message, e.Data))
		}
		if got, want := fmt.Sprint(said), "[onemap[a:1] twomap[] onemap[others_since:9]]"; got != want {
			t.Errorf("said %s, want %s", got, want)
		}
	})
}
