package depot

import (
	"bytes"
	"context"
	"errors"
	"time"

	"stasis/router"
	"stasis/store"
)

// mend sees to it, until ctx ends, that every crate is going to have the copies that the
// policy wants: more may be wanted now, nodes may have been added, or be away for good.
func (s *Store) mend(ctx context.Context) {
	wait, told := MendFirst, ""
	var from store.CrateID // where the last look ended
	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		case <-s.changed:
			t.Stop()
		}
		if ctx.Err() == nil {
			time.Sleep(MendPause) // changes come in numbers
		}
		wait = MendEvery
		var err error
		from, err = s.mendAll(ctx, from)
		switch {
		case err == nil || ctx.Err() != nil:
			told = ""
			continue
		case err.Error() != told:
			told = err.Error()
			s.log.WithError(err).Warn("crates with fewer copies than wanted were not all given further places; it is tried again")
		}
		wait = MendRetry
	}
}

// mendAll goes once through all crates, from the one behind a given id on and round to it. Some
// refusals in a row end it: there is no room. The next look begins behind where it ended, lest
// crates that find no place keep those behind them from being looked at.
func (s *Store) mendAll(ctx context.Context, from store.CrateID) (at store.CrateID, err error) {
	policy := s.policyOf(terms{})
	policy.Least = 1
	refused := 0
	for round := range 2 {
		last := from
		if round > 0 {
			last = store.CrateID{}
		}
		for more := true; more; {
			ms, err := s.router.Manifests(last, pageCrates)
			if err != nil {
				return last, err
			}
			more = len(ms) == pageCrates
			for i := range ms {
				m := &ms[i]
				if last = m.Crate; round > 0 && bytes.Compare(last[:], from[:]) > 0 {
					return store.CrateID{}, nil
				}
				err := s.mendOne(ctx, m, policy)
				if ctx.Err() != nil {
					return last, ctx.Err()
				}
				if err == nil {
					refused = 0
				} else if refused++; refused >= MendRefusals {
					return last, err
				}
			}
		}
		if from.IsZero() {
			break
		}
	}
	return store.CrateID{}, nil
}

// mendOne has one crate get the copies that it lacks; an error is that no node takes it.
func (s *Store) mendOne(ctx context.Context, m *router.Manifest, policy router.Policy) error {
	if !visible(m) || m.Wanted == policy.Copies && !s.router.CanGain(m) {
		return nil
	}
	_, err := s.router.Reconsider(ctx, m.Crate, policy)
	if errors.Is(err, store.NotFound) {
		return nil
	}
	return err
}

// stir has the crates looked through soon.
func (s *Store) stir() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
