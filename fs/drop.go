package fs

import (
	"os"
	"sync"

	"stasis/store"
	"stasis/store/ledger"
)

// dropTx records that a body is not needed: nothing names it any more. Its file goes when
// that is durable, and until then a start knows that it is nobody's loss.
func dropTx(tx *ledger.Tx, body store.CrateID) {
	tx.Put(crateKey(tableDropped, body), []byte{recordVersion})
}

// dropList holds bodies that the ledger does not name any more, until it does so
// durably.
type dropList struct {
	mu  sync.Mutex
	ids []drop
}

type drop struct {
	body store.CrateID
	pos  ledger.Position
}

func (d *dropList) add(body store.CrateID, pos ledger.Position) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids = append(d.ids, drop{body, pos})
}

// take gives the bodies that may go once the ledger is durable up to synced.
func (d *dropList) take(synced ledger.Position) (now []store.CrateID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	keep := d.ids[:0]
	for _, id := range d.ids {
		if id.pos <= synced {
			now = append(now, id.body)
		} else {
			keep = append(keep, id)
		}
	}
	if d.ids = keep; len(keep) == 0 {
		d.ids = nil // with what it took for the most there were
	}
	return now
}

// dropBodies removes the files that durably are not needed, or keeps them for new bodies.
func (s *FS) dropBodies() {
	ids := s.drops.take(s.db.Synced())
	for len(ids) > 0 {
		n := min(len(ids), updateKeys)
		s.dropSome(ids[:n])
		ids = ids[n:]
	}
}

func (s *FS) dropSome(ids []store.CrateID) {
	var removed []store.CrateID
	for _, id := range ids {
		if err := s.bodies.Recycle(id); err != nil {
			// Its record stays, so that the next start tries again.
			s.log.WithError(err).WithField("body", id).Warn("remove a body that is not needed any more")
			continue
		}
		removed = append(removed, id)
	}
	_, err := s.local.Update(func(tx *ledger.Tx) error {
		for _, id := range removed {
			tx.Delete(crateKey(tableDropped, id))
		}
		return nil
	})
	if err != nil {
		s.log.WithError(err).Warn("record that bodies were removed")
	}
}

// recoverDrops takes up the bodies that an earlier run did not come to remove.
func (s *FS) recoverDrops(known map[store.CrateID]bool) error {
	return each(s.local, tableDropped, func(k, _ []byte) error {
		var id store.CrateID
		copy(id[:], k)
		if known[id] {
			// Its file was emptied and is a body again; only this record is left of that.
			_, err := s.local.Update(func(tx *ledger.Tx) error {
				tx.Delete(crateKey(tableDropped, id))
				return nil
			})
			return err
		}
		known[id] = true
		s.drops.add(id, s.db.Position())
		return nil
	})
}

// sweepBodies looks at files in the directory of bodies that nothing names: an empty
// one was made just before the end or kept for a new body, anything else is set aside for a person.
func (s *FS) sweepBodies(known map[store.CrateID]bool) error {
	ids, err := s.bodies.List()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if known[id] {
			continue
		}
		if st, err := os.Stat(s.bodies.Path(id)); err == nil && st.Size() == 0 {
			if err := s.bodies.Recycle(id); err != nil {
				return err
			}
			continue
		}
		to, err := s.bodies.SetAside(id, id.String())
		if err != nil {
			return err
		}
		s.log.WithField("kept", to).Warn("a body that no file names was set aside")
	}
	return nil
}
