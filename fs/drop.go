package fs

import (
	"context"

	"stasis/store"
	"stasis/store/ledger"
)

// dropTx records that a body is not needed: nothing names it any more. Its file goes when
// that is durable, and until then a start knows that it is nobody's loss.
func dropTx(tx *ledger.Tx, body store.CrateID) {
	tx.Put(crateKey(tableDropped, body), []byte{recordVersion})
}

// dropBodies removes the files that are not needed, once the ledger's word of that is durable, or
// keeps them for new bodies.
func (s *FS) dropBodies(ctx context.Context) error {
	for ctx.Err() == nil {
		pairs, err := s.local.Scan([]byte{tableDropped}, []byte{tableDropped + 1}, s.keys)
		if err != nil || len(pairs) == 0 {
			return err
		}
		if err := s.db.Sync(ctx, s.db.Position()); err != nil {
			return err
		}
		ids := make([]store.CrateID, len(pairs))
		for i, p := range pairs {
			copy(ids[i][:], p.Key[1:])
		}
		if left := s.dropSome(ids); left || len(pairs) < s.keys {
			return nil
		}
	}
	return nil
}

// dropSome removes bodies and their records; left says that some could not be removed.
func (s *FS) dropSome(ids []store.CrateID) (left bool) {
	var removed []store.CrateID
	for _, id := range ids {
		if err := s.bodies.Recycle(id); err != nil {
			left = true // its record stays, so that it is tried again
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
	return left || err != nil
}

// recoverDrops knows the bodies that an earlier run did not come to remove.
func (s *FS) recoverDrops(known map[store.CrateID]bool) error {
	return each(s.local, tableDropped, func(k, _ []byte) error {
		var id store.CrateID
		copy(id[:], k)
		if known[id] {
			// An earlier release emptied its file, which is a body again under the same id.
			_, err := s.local.Update(func(tx *ledger.Tx) error {
				tx.Delete(crateKey(tableDropped, id))
				return nil
			})
			return err
		}
		known[id] = true
		return nil
	})
}

// sweepBodies looks at files in the directory of bodies that nothing names: one without data
// was made just before the end or kept for a new body, anything else is set aside for a person.
func (s *FS) sweepBodies(known map[store.CrateID]bool) error {
	ids, err := s.bodies.List()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if known[id] {
			continue
		}
		if s.bodies.Unwritten(id) {
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
