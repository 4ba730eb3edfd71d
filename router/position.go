package router

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"

	"stasis/store"
	"stasis/store/ledger"
)

// A node that was put back into an earlier state, or that somebody else has changed, is told by the
// position of its crates. The ledger has the one up to which all is accounted for: the base. It
// follows the node's as long as what this vault does there explains that the node's moves. Where it
// does not the node is to be counted anew: until that is done its copies are unknown. They are not
// counted and not replaced; they are still read, as each byte is verified. What is found missing is
// made again, and the position from before the count is the new base.

// standing is what is known of a node's position. Guarded by Router.mu.
type standing struct {
	base     store.Position // up to which all is accounted for
	recorded store.Position // of it, what the ledger has
	known    bool           // the ledger has one
	unsure   string         // why the copies are unknown; empty: they are known
	failed   string         // why they could not be counted yet
	since    time.Duration  // they have been unknown, by Clock.Boot
	quiet    bool           // it is no news for a person: the node was not known before
	counting bool
	changes  int           // calls of ours that may change it, under way
	begun    uint64        // how many such calls there have been
	told     uint64        // how many of them the position has been confirmed after
	until    time.Duration // one failed, and may have its effect until then, by Clock.Boot
	taken    bool          // what a person's decision to take it over calls for was done
}

// vantage is what was known of a node's position when it was asked for it.
type vantage struct {
	base  store.Position
	begun uint64
	idle  bool // no call that may change it was under way
}

const positionVersion = 1

func encodePosition(p store.Position) []byte {
	b := binary.BigEndian.AppendUint64([]byte{positionVersion}, p.Count)
	return binary.BigEndian.AppendUint64(b, p.Mark)
}

func decodePosition(b []byte) (p store.Position, err error) {
	r := reader{b: b}
	r.version(positionVersion)
	var raw [16]byte
	r.fixed(raw[:])
	p.Count, p.Mark = binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
	return p, r.end("read the position of a node")
}

// changing counts a call that may change the node's crates; the call ends with what it gives.
func (n *node) changing() (over func(error)) {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	n.at.changes++
	n.at.begun++
	return func(err error) {
		n.r.mu.Lock()
		defer n.r.mu.Unlock()
		n.at.changes--
		if silentError(err) {
			n.at.until = n.r.clock.Boot() + ExplainFor // the node may be at it still
		}
	}
}

// reached takes the position of a receipt: what it tells of was done for this vault.
// Called with mu held.
func (s *standing) reached(p store.Position) {
	if p.Count > s.base.Count && s.unsure == "" {
		s.base = p
	}
}

// receipted takes the position of a receipt, of a call before which so much was known. Called with
// mu held.
func (n *node) receipted(p store.Position, from vantage) {
	switch {
	case p == (store.Position{}) || n.at.unsure != "" || n.exempt():
	case p.Count < from.base.Count || p.Count == from.base.Count && p != from.base:
		n.doubtAll(wasPutBack)
	default:
		n.at.reached(p)
	}
}

// stands compares a position that the node gave in answer to a question with what was known when
// it was asked. Called with mu held.
func (n *node) stands(p store.Position, from vantage) {
	s := &n.at
	switch {
	case s.unsure != "" || n.exempt():
		return
	case p.Count < from.base.Count || p.Count == from.base.Count && p != from.base,
		p.Count == s.base.Count && p != s.base:
		n.doubtAll(wasPutBack)
		return
	case p.Count > s.base.Count && !s.explains(n.r.clock.Boot()):
		n.doubtAll(wasChanged)
		return
	}
	s.reached(p)
	if from.idle && s.begun == from.begun {
		s.told = from.begun
	}
}

// explains reports whether calls of ours may have moved the position.
func (s *standing) explains(now time.Duration) bool {
	return s.changes > 0 || s.begun != s.told || now < s.until
}

const (
	wasPutBack = "it is in an earlier state than this vault left it in, or in another: an older copy was put back"
	wasChanged = "it was changed since this vault has noted how it stood: the daemon was killed, or something else has used it"
)

// exempt reports whether a node has no position to be told by: memory forgets, and is not counted
// anyhow. Called with mu held.
func (n *node) exempt() bool { return n.spec.Kind == "memory" || n.handle != nil && !n.handle.durable }

// doubtAll has the copies of a node unknown until they were counted. Called with mu held.
func (n *node) doubtAll(why string) {
	if n.at.unsure != "" || n.r.o.ReadOnly {
		return
	}
	n.at.unsure, n.at.since = why, n.r.clock.Boot()
	n.r.unsure.Add(1)
	n.r.doubts.Add(1)
	if !n.at.quiet {
		n.r.log.WithField("node", n.name).WithField("reason", why).Warn("the copies on a node are counted anew")
	}
}

// lost reports whether the copies of a node have been unknown for so long that they are to be
// replaced. Called with mu held.
func (n *node) lost() bool {
	return n.at.unsure != "" && n.r.clock.Boot()-n.at.since > UnknownFor
}

// standsAtOpening compares the position of a store that is about to be used with the base.
// before is what it said before this mount has fenced it, after what it says now.
func (n *node) standsAtOpening(before, after store.Position) {
	r := n.r
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &n.at
	if n.exempt() {
		return
	}
	switch {
	case !s.known && before == (store.Position{}):
		return // it keeps none
	case !s.known:
		s.quiet = n.record.id.IsZero()
		n.doubtAll("it is counted for the first time")
	case before.Count > s.base.Count:
		n.doubtAll(wasChanged)
	case before != s.base:
		n.doubtAll(wasPutBack)
	case r.o.TakeOver && !s.taken:
		n.doubtAll("it was taken over from another mount")
	}
	if s.taken = true; s.unsure == "" {
		s.base, s.told = after, s.begun
	}
}

// countAnew counts the copies on a node whose copies are unknown, once at a time.
func (n *node) countAnew(h *handle) {
	r := n.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.at.unsure == "" || n.at.counting || n.handle != h || r.o.ReadOnly {
		return
	}
	n.at.counting = true
	r.background(func() {
		ctx, cancel := context.WithCancel(r.ctx)
		defer cancel()
		defer context.AfterFunc(h.ctx, cancel)()
		for n.await(h, &n.recounts) {
			err := n.takeStock(ctx, h)
			if err == nil || ctx.Err() != nil {
				break
			}
			r.mu.Lock()
			n.at.failed = err.Error()
			r.mu.Unlock()
			r.log.WithField("node", n.name).WithError(err).Warn("the copies on a node could not be counted yet; it is tried again")
		}
		r.mu.Lock()
		n.at.counting = false
		r.mu.Unlock()
	})
}

// takeStock goes through the ledger and what the node lists. What was missing is recorded before
// the new base is.
func (n *node) takeStock(ctx context.Context, h *handle) error {
	r := n.r
	before, from, err := n.askStatus(ctx, h, GrantLimit)
	if err != nil {
		return err
	}
	if err := n.compare(h); err != nil {
		return err
	}
	is, now, err := n.askStatus(ctx, h, GrantLimit)
	if err != nil {
		return err
	}
	r.mu.Lock()
	s := &n.at
	ours := !from.idle || s.begun != from.begun || r.clock.Boot() < s.until
	after := is.Position
	if n.handle != h || after != before.Position && !ours || after.Count < before.Position.Count {
		r.mu.Unlock()
		return errAnotherMoved
	}
	id := n.id
	r.mu.Unlock()
	if err := r.writePosition(id, after); err != nil {
		return err
	}
	r.mu.Lock()
	if n.handle != h || s.unsure == "" {
		r.mu.Unlock()
		return errAnotherMoved
	}
	quiet := s.quiet
	s.base, s.recorded, s.known = after, after, true
	s.unsure, s.failed, s.quiet = "", "", false
	if now.idle && s.begun == now.begun {
		s.told = s.begun
	}
	r.unsure.Add(-1)
	r.mu.Unlock()
	if !quiet {
		r.log.WithField("node", n.name).Info("the copies on the node are counted")
	}
	r.o.Observer.Counted()
	return nil
}

var errAnotherMoved = errors.New("it changed while it was counted")

// vantage is what is known of the node's position now that it is going to be asked for it.
func (n *node) vantage() vantage {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	return vantage{n.at.base, n.at.begun, n.at.changes == 0}
}

// askStatus asks the node how it stands; from is what was known of its position before.
func (n *node) askStatus(ctx context.Context, h *handle, limit time.Duration) (s store.Status, from vantage, err error) {
	from = n.vantage()
	s, err = call(ctx, n, h, limit, "ask for the status", func(ctx context.Context, st store.Store) (store.Status, error) {
		return st.Status(ctx)
	}, nil)
	return s, from, err
}

// recordPosition writes the base into the ledger, if that has another.
func (n *node) recordPosition() error {
	base, moved := n.position()
	if !moved {
		return nil
	}
	if err := n.r.writePosition(n.nodeID(), base); err != nil {
		return err
	}
	n.positioned(base)
	return nil
}

// position gives the base; moved says that the ledger has another and is to have this one.
func (n *node) position() (base store.Position, moved bool) {
	r := n.r
	r.mu.Lock()
	defer r.mu.Unlock()
	base = n.at.base
	same := base == n.at.recorded && (n.at.known || base == (store.Position{})) || n.at.unsure != "" || n.id.IsZero() || r.o.ReadOnly || n.exempt()
	return base, !same
}

// positioned says that the ledger has a base.
func (n *node) positioned(base store.Position) {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	n.at.recorded, n.at.known = base, true
}

func (r *Router) writePosition(id store.NodeID, p store.Position) error {
	_, err := r.local.Update(func(tx *ledger.Tx) error {
		tx.Put(positionKey(id), encodePosition(p))
		return nil
	})
	return err
}

// loadPosition reads the base. Nobody else uses the node yet.
func (n *node) loadPosition() error {
	v, ok, err := n.r.local.Get(positionKey(n.id))
	if err != nil || !ok {
		return err
	}
	p, err := decodePosition(v)
	n.at = standing{base: p, recorded: p, known: true}
	return err
}

// mark notes of a manifest's destinations which are unknown at the moment.
func (r *Router) mark(m *Manifest) {
	known := *r.known.Load()
	for i := range m.Destinations {
		d := &m.Destinations[i]
		d.Unknown = d.State == Verified && !slices.Contains(known, d.Node)
	}
	if r.unsure.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range m.Destinations {
		d := &m.Destinations[i]
		if n := r.byID[d.Node]; n != nil && d.State == Verified {
			d.Unknown = n.at.unsure != ""
		}
	}
}

// enter makes a node the one that leads to a store, or with nil no node. Called with mu held.
func (r *Router) enter(id store.NodeID, n *node) {
	if n == nil {
		delete(r.byID, id)
	} else {
		r.byID[id] = n
	}
	known := slices.Collect(maps.Keys(r.byID))
	r.known.Store(&known)
}
