package guard

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
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
	return NewDoor(Options{Owners: NewLanes(6, 2, 2), Strangers: 4, Known: func(string) bool { return true }, Refusals: &Refusals{Log: log}})
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
		done := c.Work()
		defer done()
		if err := c.Claim("ann"); (err == nil) != (i < 4) {
			t.Errorf("connection %d of one owner: %v", i, err)
		}
		for range 10 {
			come(t, d, "192.0.2.2")
		}
		if i < 4 && (gone() || c.Owner() != "ann" || c.Claim("ann") != nil || c.Claim("bob") == nil) {
			t.Errorf("connection %d is not kept", i)
		}
		of = append(of, c)
	}
	for i := range 3 {
		c, _ := come(t, d, "192.0.2.3")
		c.Work()
		if err := c.Claim("bob"); (err == nil) != (i < 2) {
			t.Errorf("connection %d of another: %v", i, err)
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
	if c.Claim("ann") != nil { // it is told by the connection
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

// Where nothing is left that is kept for nobody, a connection on which nothing is under way
// makes room, of whoever has most. One to listen on is left to each.
func TestIdleOwnersMakeRoom(t *testing.T) {
	log, _ := test.NewNullLogger()
	d := NewDoor(Options{Owners: NewLanes(8, 1, 3), Strangers: 4, Known: func(string) bool { return true }, Refusals: &Refusals{Log: log}})
	var gone []func() bool
	var of []*Conn
	for i := range 6 {
		c, out := come(t, d, "192.0.2.1")
		if err := c.Claim("ann"); err != nil {
			t.Fatal(err)
		}
		switch i {
		case 0:
			c.Work()
		case 1, 2, 3: // the newest is kept
			c.Work()
			c.Listen()
		}
		of, gone = append(of, c), append(gone, out)
	}
	for i := range 4 {
		c, _ := come(t, d, "192.0.2.2")
		if err := c.Claim("bob"); (err == nil) != (i < 3) { // more than ann then has he gets only for his own
			t.Errorf("connection %d: %v", i, err)
		}
		c.Work()
	}
	var out []int
	for i := range gone {
		if gone[i]() {
			out = append(out, i)
		}
	}
	if fmt.Sprint(out) != "[1 2]" {
		t.Errorf("gone are %v of ann's", out)
	}
	of[5].Work()
	c, _ := come(t, d, "192.0.2.3")
	if err := c.Claim("eve"); err != nil {
		t.Errorf("a share that is kept: %v", err)
	}
}

// Who is an owner no more keeps no connection.
func TestNoOwnerAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _ := test.NewNullLogger()
		known := make(map[string]bool)
		var mu sync.Mutex
		d := NewDoor(Options{Owners: NewLanes(6, 2, 2), Strangers: 4, Refusals: &Refusals{Log: log},
			Known: func(owner string) bool { mu.Lock(); defer mu.Unlock(); return known[owner] }})
		known["ann"], known["bob"] = true, true
		l := d.Listen(nowhere{})
		var out [3]func() bool
		for i, who := range []string{"ann", "bob", "ann"} {
			var c *Conn
			c, out[i] = come(t, d, "192.0.2.1")
			if err := c.Claim(who); err != nil {
				t.Fatal(err)
			}
			c.Work()
		}
		time.Sleep(2 * KnownEvery)
		d.holds(t, 3, 0)
		mu.Lock()
		known["ann"] = false
		mu.Unlock()
		time.Sleep(2 * KnownEvery)
		if !out[0]() || out[1]() || !out[2]() {
			t.Error("the connections of one who is no owner any more are kept, or those of another gone")
		}
		d.holds(t, 1, 0)
		l.Close()
	})
}

// nowhere is a listener to which nobody comes.
type nowhere struct{ net.Listener }

func (nowhere) Close() error { return nil }

// While the bytes of handshakes are worked on, few are at a time; none waits for one whose
// bytes do not come.
func TestHandsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor()
		d.hands = NewLanes(1, 0, 0)
		var slow [3]*Conn
		for i := range slow {
			slow[i], _ = come(t, d, "192.0.2.1")
			go slow[i].Read(make([]byte, 1)) // for ever
		}
		synctest.Wait()
		if _, all := d.hands.Held(""); all != 0 {
			t.Error("who waits for bytes holds a turn")
		}
		one, other := &slow[0].hands, &slow[1].hands
		one.take()
		took := make(chan struct{})
		go func() { other.take(); close(took) }()
		synctest.Wait()
		select {
		case <-took:
			t.Error("two at a time")
		default:
		}
		slow[0].Greeted()
		<-took
		slow[1].Close()
		slow[2].Close()
		slow[0].Close()
		if _, all := d.hands.Held(""); all != 0 {
			t.Error("a turn is left")
		}
	})
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
