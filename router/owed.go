package router

import (
	"context"
	"time"

	"stasis/store"
	"stasis/store/ledger"
)

// What becomes of the copies of a crate may call for something: a body that is not needed any
// more, content that was replaced, a crate that must be made anew. So each update that changes a
// manifest notes the crate, in that same update, unless all that follows is in it too. The note is
// taken back when the observer was told and has done what follows; a start tells it of what is
// noted still. Nothing is owed that only a process knows.

const owedVersion = 1

// changedTx records a manifest of which something follows, in a transaction of the shared space:
// two keys.
func (r *Router) changedTx(tx *ledger.Tx, m *Manifest) {
	tx.Put(manifestKey(m.Crate), m.encode())
	tx.In(ledger.Local).Put(owedKey(m.Crate), []byte{owedVersion})
	r.doubts.Add(1)
}

// Doubts counts how often copies that counted may have stopped to count: where it is the same
// before and after, what was seen between still holds.
func (r *Router) Doubts() uint64 { return r.doubts.Load() }

// placed tells the observer of manifests that have changed, which are owed nothing then.
func (r *Router) placed(ms []Manifest) {
	for i := range ms {
		r.mark(&ms[i])
	}
	if err := r.o.Observer.Placed(ms); err != nil {
		r.log.WithError(err).Error("do what is owed for crates; it is tried again")
		return
	}
	var done []store.CrateID
	for i := range ms {
		if !ms[i].Retired {
			done = append(done, ms[i].Crate)
		}
	}
	if err := r.Paid(done...); err != nil {
		r.log.WithError(err).Error("record that nothing is owed for crates any more")
	}
}

// Paid says that what the observer was told of crates is done, and durably so.
func (r *Router) Paid(crates ...store.CrateID) error {
	if r.o.ReadOnly {
		return nil
	}
	for len(crates) > 0 {
		n := min(len(crates), r.keys)
		_, err := r.local.Update(func(tx *ledger.Tx) error {
			for _, c := range crates[:n] {
				k := owedKey(c)
				if _, noted, err := tx.Get(k); err != nil {
					return err
				} else if noted {
					tx.Delete(k)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		crates = crates[n:]
	}
	return nil
}

// payLoop tells the observer of what is owed since before the start, and of what failed.
func (r *Router) payLoop(ctx context.Context) {
	for {
		if err := r.payAll(ctx); err != nil && ctx.Err() == nil {
			r.log.WithError(err).Error("find what is owed for crates")
		}
		t := time.NewTimer(OwedEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

func (r *Router) payAll(ctx context.Context) error {
	from := []byte{tableOwed}
	for ctx.Err() == nil {
		pairs, err := r.local.Scan(from, after([]byte{tableOwed}), OwedPairs)
		if err != nil {
			return err
		}
		var ms []Manifest
		for _, p := range pairs {
			from = next(p.Key)
			m, ok, err := r.manifest(crateOf(p.Key))
			switch {
			case err != nil:
				return err
			case !ok: // it died, and nothing is owed
				if err := r.Paid(crateOf(p.Key)); err != nil {
					return err
				}
			case m.Retired:
				r.o.Observer.Retired(m)
			default:
				ms = append(ms, m)
			}
		}
		if len(ms) > 0 {
			r.placed(ms)
		}
		if len(pairs) < OwedPairs {
			return nil
		}
	}
	return ctx.Err()
}
