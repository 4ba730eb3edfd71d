package depot

import (
	"context"
	"errors"
	"time"

	"stasis/store"
)

// mend sees to it, until ctx ends, that every crate is going to have the copies that the
// policy wants: more may be wanted now, nodes may have been added, or be away for good.
func (s *Store) mend(ctx context.Context) {
	wait, told := MendFirst, ""
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
		err := s.mendAll(ctx)
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

// mendAll goes once through all crates. Some refusals in a row end it: there is no room.
func (s *Store) mendAll(ctx context.Context) error {
	policy := s.policyOf(terms{})
	policy.Least = 1
	var last store.CrateID
	for refused := 0; ; {
		ms, err := s.router.Manifests(last, pageCrates)
		if err != nil {
			return err
		}
		for i := range ms {
			m := &ms[i]
			if last = m.Crate; !visible(m) || m.Wanted == policy.Copies && !s.router.CanGain(m) {
				continue
			}
			switch _, err := s.router.Reconsider(ctx, m.Crate, policy); {
			case err == nil, errors.Is(err, store.NotFound):
				refused = 0
			case ctx.Err() != nil:
				return ctx.Err()
			default:
				if refused++; refused >= MendRefusals {
					return err
				}
			}
		}
		if len(ms) < pageCrates {
			return nil
		}
	}
}

// stir has the crates looked through soon.
func (s *Store) stir() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
