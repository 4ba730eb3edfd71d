package depot

import (
	"context"
	"errors"

	"stasis/router"
	"stasis/store"
	"stasis/store/ledger"
)

// A depot's own record, of its making: its id is never another's.
const tableMade = 'd'

func madeKey() []byte { return []byte{tableDepot, tableMade} }

// Made reports whether a ledger is that of a depot.
func Made(db *ledger.DB) (bool, error) {
	_, made, err := db.Space(ledger.Local).Get(madeKey())
	return made, err
}

// make notes that this is a depot. Where one node was served alone until now, what it has is
// taken over: it becomes the first copy of each crate. What a crash cuts off is done again.
func (s *Store) make(ctx context.Context) error {
	made, err := Made(s.o.Ledger)
	if err != nil || made {
		return err
	}
	if s.o.Former != nil {
		if err := s.takeOver(ctx, s.o.Former); err != nil {
			return err
		}
	}
	p, err := s.local.Update(func(tx *ledger.Tx) error {
		tx.Put(madeKey(), s.o.ID[:])
		return nil
	})
	if err != nil {
		return err
	}
	return s.o.Ledger.Sync(ctx, p)
}

// takeOver makes a manifest of every crate that a leaf has.
func (s *Store) takeOver(ctx context.Context, from store.Store) error {
	st, err := from.Status(ctx)
	if err != nil {
		return err
	}
	s.log.WithField("crates", st.Crates).Info("the node that was served alone becomes one of several")
	for cursor := []byte(nil); ; {
		page, err := from.List(ctx, cursor)
		if err != nil {
			return err
		}
		for _, c := range page.Crates {
			if _, there, err := s.find(c.ID); err != nil || there {
				if err != nil {
					return err
				}
				continue
			}
			// A repeat costs no space, and gives the checksums without a read.
			receipts, err := from.Put(ctx, store.PutRequest{Crate: c.ID, Form: c.Form, Size: c.Size, Expect: &c.Root})
			if err == nil && len(receipts) != 1 {
				err = &store.Error{Kind: store.Corrupt, Op: opOpen, Subject: c.ID.String(), Detail: "no receipt"}
			}
			if err == nil {
				err = s.router.Found(c.ID, originOf(c.Form, router.MaxHops), receipts[0], s.policyOf(terms{}).Copies)
			}
			if errors.Is(err, store.Corrupt) || errors.Is(err, store.NotFound) {
				// Its owner's vault finds out, and sends it again.
				s.log.WithError(err).WithField("crate", c.ID.String()).Error("a crate is damaged and not taken over")
				continue
			}
			if err != nil {
				return err
			}
		}
		if cursor = page.Next; cursor == nil {
			return nil
		}
	}
}
