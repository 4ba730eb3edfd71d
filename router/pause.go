package router

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"stasis/store"
	"stasis/store/ledger"
)

// hold is a person's wish that nothing is sent to a node or, with a reason, the router's own
// conclusion that it is not to be trusted.
type hold struct {
	until time.Time // zero: until it is resumed
	why   string
}

// over reports whether it has run out.
func (h hold) over(now time.Time) bool { return !h.until.IsZero() && !now.Before(h.until) }

func (h hold) String() string {
	if h.why != "" {
		return h.why
	}
	if h.until.IsZero() {
		return "sending to it is paused until it is resumed"
	}
	return "sending to it is paused until " + h.until.Local().Format("2006-01-02 15:04:05")
}

// A hold of version 2 has a reason.
const (
	holdVersion    = 1
	holdVersionWhy = 2
)

func (h hold) encode() []byte {
	until := int64(0)
	if !h.until.IsZero() {
		until = h.until.UnixNano()
	}
	if h.why == "" {
		return binary.AppendVarint([]byte{holdVersion}, until)
	}
	return appendString(binary.AppendVarint([]byte{holdVersionWhy}, until), h.why)
}

func decodeHold(b []byte) (h hold, err error) {
	r := reader{b: b}
	version := r.byte()
	if t := r.varint(); t != 0 {
		h.until = time.Unix(0, t)
	}
	switch version {
	case holdVersion:
	case holdVersionWhy:
		h.why = r.text()
	default:
		r.bad = true
	}
	return h, r.end("read a pause")
}

// Pause has nothing sent to a node until a time, or until Resume if that is zero; an empty
// name means every configured node. What is under way breaks off, and goes on from there later.
// Space is drawn as before, reads and discards go on. It is recorded. NotFound if there is
// no node of that name.
func (r *Router) Pause(name string, until time.Time) error {
	h := hold{until: until}
	names, err := r.names("pause node", name)
	if err != nil {
		return err
	}
	_, err = r.local.Update(func(tx *ledger.Tx) error {
		for _, n := range names {
			if old, ok, err := holdTx(tx, n); err != nil {
				return err
			} else if ok && old.why != "" {
				continue // it gets nothing already, and only Resume ends that
			}
			tx.Put(holdKey(n), h.encode())
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		if r.holds[name].why != "" {
			continue
		}
		r.holds[name] = h
		if n := r.named(name); n != nil && n.revoke != nil && !h.over(r.clock.Now()) {
			n.revoke()
		}
	}
	return nil
}

func holdTx(tx *ledger.Tx, name string) (h hold, ok bool, err error) {
	v, ok, err := tx.Get(holdKey(name))
	if err == nil && ok {
		h, err = decodeHold(v)
	}
	return h, ok, err
}

// Resume ends a pause; an empty name means every one. It is no error if there is none. A node
// that was not trusted is trusted again if it is called by its name, and gets what it has refused.
func (r *Router) Resume(name string) error {
	names, err := r.names("resume node", name)
	if err != nil {
		return err
	}
	_, err = r.local.Update(func(tx *ledger.Tx) error {
		for _, n := range names {
			if h, ok, err := holdTx(tx, n); err != nil {
				return err
			} else if ok && (h.why == "" || name != "") {
				tx.Delete(holdKey(n))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	for _, is := range names {
		if r.holds[is].why == "" || name != "" {
			delete(r.holds, is)
		}
		n := r.named(is)
		if n == nil {
			continue
		}
		n.calm()
		if name != "" && !r.o.ReadOnly {
			n.lies = 0
			r.background(func() { n.forgive(r.ctx) })
		}
	}
	r.mu.Unlock()
	r.o.Observer.NodesChanged()
	return nil
}

// names gives the nodes that are meant by a name.
func (r *Router) names(op, name string) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, n := range r.nodes {
		if name == "" && n.configured || name == n.name {
			all = append(all, n.name)
		}
	}
	if len(all) == 0 && name != "" {
		return nil, &store.Error{Kind: store.NotFound, Op: op, Subject: fmt.Sprintf("%q", name), Hint: "see `stasis status` for the nodes"}
	}
	return all[:min(len(all), r.keys)], nil
}

// loadHolds reads the pauses of earlier starts.
func (r *Router) loadHolds() error {
	return r.scan(r.local, []byte{tableHold}, func(p ledger.Pair) error {
		h, err := decodeHold(p.Value)
		r.holds[string(p.Key[1:])] = h
		return err
	})
}

// held gives the pause that is in force for a node. Called with mu held.
func (n *node) held() (hold, bool) {
	h, ok := n.r.holds[n.name]
	return h, ok && !h.over(n.r.clock.Now())
}

// permit gives a context that ends when sending to the node is paused. Called with mu held.
func (n *node) permit() context.Context {
	if n.permitted == nil || n.permitted.Err() != nil {
		n.permitted, n.revoke = context.WithCancel(context.Background())
	}
	if _, held := n.held(); held {
		n.revoke()
	}
	return n.permitted
}
