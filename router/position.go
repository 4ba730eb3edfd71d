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
	changes  int            // calls of ours that may change it, under way
	begun    uint64         // how many such calls there have been
	told     uint64         // how many of them the position has been confirmed after
	until    time.Duration  // one failed, and may have its effect until then, by Clock.Boot
	taken    bool           // what a person's decision to take it over calls for was done
	doubts   uint64         // how often what a call under way had done may have been lost since
	named    store.Position // the furthest that a receipt has named since the count under way began
}

// inherit takes over what is known of the place that other's node led to: what that node has under
// way itself ends there, and counts no more.
func (s *standing) inherit(other *standing) {
	s.base, s.recorded, s.known = other.base, other.recorded, other.known
	s.unsure, s.since, s.quiet = other.unsure, other.since, other.quiet
	other.unsure = ""
	other.doubts++
}

// vantage is what was known of a node's position when it was asked for it.
type vantage struct {
	base   store.Position
	begun  uint64
	idle   bool // no call that may change it was under way
	doubts uint64
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

// receipted takes the positions of the receipts of one call, before which so much was known. They
// are not in the order in which the node made them. Called with mu held.
func (n *node) receipted(ps []store.Position, from vantage) {
	s := &n.at
	marks := make(map[uint64]uint64, len(ps))
	for _, p := range ps {
		if p == (store.Position{}) || n.exempt() || from.doubts != s.doubts {
			continue
		}
		if s.unsure != "" {
			if p.Count >= s.named.Count {
				s.named = p
			}
			continue
		}
		mark, again := marks[p.Count]
		if marks[p.Count] = p.Mark; again && mark != p.Mark || isBefore(p, from.base) || p.Count == s.base.Count && p != s.base {
			n.doubtAll(wasPutBack)
			continue
		}
		s.reached(p)
	}
}

// isBefore reports whether a node that was at one position and is at p now was put back.
func isBefore(p, was store.Position) bool {
	return p.Count < was.Count || p.Count == was.Count && p != was
}

// stands compares a position that the node gave in answer to a question with what was known when
// it was asked. Called with mu held.
func (n *node) stands(p store.Position, from vantage) {
	s := &n.at
	switch {
	case s.unsure != "" || n.exempt() || from.doubts != s.doubts:
		return
	case isBefore(p, from.base), p.Count == s.base.Count && p != s.base:
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
	n.at.doubts++
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
	r.mu.Lock()
	n.at.named = store.Position{}
	r.mu.Unlock()
	before, from, err := n.askStatus(ctx, h, GrantLimit)
	if err != nil {
		return err
	}
	if err := n.compare(h); err != nil {
		return err
	}
	r.mu.Lock()
	named := n.at.named
	r.mu.Unlock()
	is, now, err := n.askStatus(ctx, h, GrantLimit)
	if err != nil {
		return err
	}
	r.mu.Lock()
	s := &n.at
	ours := !from.idle || s.begun != from.begun || r.clock.Boot() < s.until
	after := is.Position
	back := isBefore(after, before.Position) || named != (store.Position{}) && isBefore(after, named)
	if back {
		s.doubts++
	}
	if n.handle != h || after != before.Position && !ours || back {
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
	return vantage{n.at.base, n.at.begun, n.at.changes == 0, n.at.doubts}
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
	if _, moved := n.position(); !moved {
		return nil
	}
	var base store.Position
	var moved bool
	_, err := n.r.local.Update(func(tx *ledger.Tx) error {
		base, moved = n.positionTx(tx)
		return nil
	})
	if err == nil && moved {
		n.positioned(base)
	}
	return err
}

// positionTx is recordPosition's, in an update of the local space. The base is taken within it, as
// updates run one after the other: none writes one that was left behind before.
func (n *node) positionTx(tx *ledger.Tx) (base store.Position, moved bool) {
	if base, moved = n.position(); moved {
		tx.Put(positionKey(n.nodeID()), encodePosition(base))
	}
	return base, moved
}

// position gives the base; moved says that the ledger has another and is to have this one.
func (n *node) position() (base store.Position, moved bool) {
	r := n.r
	r.mu.Lock()
	defer r.mu.Unlock()
	base = n.at.base
	same := base == n.at.recorded && (n.at.known || base == (store.Position{})) || n.at.unsure != "" || r.byID[n.id] != n || r.o.ReadOnly || n.exempt()
	return base, !same
}

// doubted reports whether what a call of ours has done before which so much was known may have been
// lost since: the node was put back, or is another node's now. A count made meanwhile has not seen it.
func (n *node) doubted(from vantage) bool {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	return n.at.doubts != from.doubts
}

// errDoubted is why a receipt is not recorded that is from before such a count.
var errDoubted = errors.New("its copies have become unknown since the receipt was given; it is asked for again")

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
