package router

import (
	"errors"
	"maps"
	"time"

	"stasis/store"
	"stasis/store/ledger"
)

// doubt deals with a node that gave a wrong answer about a copy it had verified: the
// copy does not count any more, and is made again.
func (r *Router) doubt(n *node, m *Manifest, err error) {
	k := store.KindOf(err)
	if k != store.NotFound && k != store.Corrupt || r.o.ReadOnly {
		return
	}
	r.mu.Lock()
	if k == store.Corrupt && !local(n.spec.Kind) {
		n.wrong++
	}
	r.mu.Unlock()
	// A reader may have begun before the crate was given up there.
	struck, err := r.damaged(n, m.Crate, err)
	if struck && k == store.NotFound {
		r.mu.Lock()
		if !n.exempt() {
			n.doubtAll("a crate that it had is not there")
		}
		r.mu.Unlock()
	}
	if err != nil && !errors.Is(err, errInFlight) {
		r.log.WithField("node", n.name).WithField("crate", m.Crate).WithError(err).Error("record a damaged copy")
	}
}

// errInFlight is that a copy is neither struck nor right: it is being sent, or discarded, at this
// moment.
var errInFlight = errors.New("it is on its way")

// damaged strikes a copy, for a reason, and queues its repair; struck is false if it was none that
// counts.
func (r *Router) damaged(n *node, c store.CrateID, why error) (struck bool, err error) {
	id := n.nodeID()
	r.mu.Lock()
	_, under := n.inFlight[c]
	r.mu.Unlock()
	if under {
		return false, errInFlight // another read finds out how that went
	}
	var m Manifest
	_, err = r.shared.Update(func(tx *ledger.Tx) (err error) {
		var ok bool
		struck = false
		if m, ok, err = manifestTx(tx, c); err != nil || !ok {
			return err
		}
		d := m.Destination(id)
		if d == nil || d.State != Verified {
			return nil
		}
		d.State = Damaged
		struck = true
		r.changedTx(tx, &m)
		return nil
	})
	if err != nil || !struck {
		return false, err
	}
	r.log.WithField("node", n.name).WithField("crate", c).WithError(why).Warn("a copy is damaged; it is made again")
	if err := r.enqueueRepair(n, &m, true); err != nil {
		return true, err // the audit queues it
	}
	if !m.verifiedBut(id) && r.differs(c) {
		r.retireCrate(c) // it was left to this copy to have what the body has no more
	}
	n.telling.Lock()
	defer n.telling.Unlock()
	r.placed([]Manifest{m})
	return true, nil
}

// enqueueRepair queues a copy that has no space drawn for it.
func (r *Router) enqueueRepair(n *node, m *Manifest, repair bool) error {
	id := n.nodeID()
	e := entry{size: m.Size, charge: store.Charge(m.Size), queued: r.clock.Now(), repair: repair}
	k := classOf(m.Size)
	fresh := false
	_, err := r.local.Update(func(tx *ledger.Tx) error {
		_, ok, err := tx.Get(queueKey(id, k, m.Crate))
		if err != nil {
			return err
		}
		if fresh = !ok; fresh {
			tx.Put(queueKey(id, k, m.Crate), e.encode())
		}
		return nil
	})
	if err != nil || !fresh {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n.count(k, e, 1)
	n.rouse(k)
	return nil
}

// repaired notes that a node on another machine has had a copy made again: until it gets the
// same crate once more some time has to pass, whatever it says. Called with mu held.
func (n *node) repaired(c store.CrateID) {
	if local(n.spec.Kind) {
		return
	}
	now := n.r.clock.Boot()
	a := n.repairs[c]
	if a == nil {
		if !n.roomForRepair(now) {
			n.alsoRepaired.add(c, now, RepairFirst, RepairMost)
			return
		}
		a = new(allowance)
		n.repairs[c] = a
	}
	a.take(now, RepairFirst, RepairMost)
}

// roomForRepair reports whether one more repair can be remembered. Those that may be repeated for
// long are forgotten. Called with mu held.
func (n *node) roomForRepair(now time.Duration) bool {
	if len(n.repairs) >= MaxRepairs && now >= n.alsoRepaired.pause.until {
		maps.DeleteFunc(n.repairs, func(_ store.CrateID, a *allowance) bool { return now-a.until > RepairMost })
	}
	return len(n.repairs) < MaxRepairs
}

// repairable is after how long a crate may be repaired at the node; 0: now. Called with mu held.
func (n *node) repairable(c store.CrateID, now time.Duration) time.Duration {
	if a := n.repairs[c]; a != nil {
		return max(0, a.until-now)
	}
	return n.alsoRepaired.rests(c, now)
}
