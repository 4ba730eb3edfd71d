package host

import (
	"context"

	"stasis/store"
	"stasis/store/booking"
	"stasis/store/ledger"
)

// Tokens are those by which a host over this ledger has shown itself to its store.
func Tokens(db *ledger.DB) ([]store.Token, error) {
	var known []store.Token
	err := eachIn(db.Space(ledger.Local), key(tableToken), func(k, _ []byte) error {
		if len(k) != 2+len(store.Token{}) {
			return damaged("a token")
		}
		known = append(known, store.Token(k[2:]))
		return nil
	})
	return known, err
}

// admit shows a store that this is the history that used it last.
func admit(ctx context.Context, db *ledger.DB, f store.Fencer, clock booking.Clock, takeOver bool) error {
	known, err := Tokens(db)
	if err != nil {
		return err
	}
	next := store.NewToken()
	p, err := db.Space(ledger.Local).Update(func(tx *ledger.Tx) error {
		tx.Put(key(tableToken, next[:]), encodeDrawn(clock.Wall().Unix()))
		return nil
	})
	if err != nil {
		return err
	}
	if err := db.Sync(ctx, p); err != nil {
		return err
	}
	return f.Fence(ctx, known, next, takeOver)
}

// Part ends what the owners of a ledger, which nobody else has open, have reserved in the
// store that was behind the host until now, because another takes its place; their leases
// are over, and they reserve anew. What they have stored stays.
func Part(ctx context.Context, db *ledger.DB, st store.Store, takeOver bool) error {
	if f, ok := st.(store.Fencer); ok {
		if err := admit(ctx, db, f, booking.System, takeOver); err != nil {
			return err
		}
	}
	space := db.Space(ledger.Local)
	err := eachIn(space, key(tableTerms), func(_, v []byte) error {
		r, err := decodeTermsRecord(v)
		if err != nil {
			return err
		}
		return st.Release(ctx, r.inner)
	})
	if err != nil {
		return err
	}
	for _, table := range []byte{tableTerms, tableDrawn, tableMirror} {
		var gone [][]byte
		err := eachIn(space, key(table), func(k, _ []byte) error {
			gone = append(gone, k)
			return nil
		})
		if err != nil {
			return err
		}
		for ; len(gone) > 0; gone = gone[min(len(gone), itemsAnUpdate):] {
			_, err := space.Update(func(tx *ledger.Tx) error {
				for _, k := range gone[:min(len(gone), itemsAnUpdate)] {
					tx.Delete(k)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return db.Sync(ctx, db.Position())
}
