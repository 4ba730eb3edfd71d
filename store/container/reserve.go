package container

import (
	"context"
	"fmt"
	"slices"
	"time"

	"stasis/store"
	"stasis/store/booking"
)

// Reserve is store.Store's; see booking.Book.
func (s *Store) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	const op = "reserve space"
	return call(ctx, s, op, toChange, func() ([]store.Share, error) {
		share, err := s.book.Reserve(ctx, r)
		if err != nil {
			return nil, s.ioError(op, err)
		}
		return []store.Share{share}, nil
	}, nil)
}

// Renew is store.Store's.
func (s *Store) Renew(ctx context.Context, id store.ReservationID) (time.Time, error) {
	return call(ctx, s, "renew reservation", toChange, func() (time.Time, error) {
		return s.book.Renew(ctx, id)
	}, nil)
}

// Release is store.Store's.
func (s *Store) Release(ctx context.Context, id store.ReservationID) error {
	_, err := call(ctx, s, "release reservation", toChange, func() (struct{}, error) {
		return struct{}{}, s.book.Release(ctx, id)
	}, nil)
	return err
}

// journal persists terms in the log.
type journal struct{ s *Store }

var _ booking.Journal = journal{}

// SaveTerms is booking.Journal's.
func (j journal) SaveTerms(_ context.Context, t booking.Terms) error {
	s := j.s
	ch := &change{
		records: [][]byte{encodeTerms(t)}, grows: true,
		apply: func(st *state) { st.save(t) },
	}
	ch.admit = func(terms int) error {
		if _, there := s.st.reservations[t.ID]; there {
			return nil
		}
		if len(s.st.reservations)+terms >= s.limitOfReservations {
			return &store.Error{
				Kind: store.Quota, Op: "reserve space", Subject: s.subject(),
				Detail: fmt.Sprintf("%d reservations are the most a container of this size keeps", s.limitOfReservations),
				Hint:   "release those that are not needed",
			}
		}
		ch.terms = 1
		return nil
	}
	return s.commit(ch)[0]
}

// DeleteTerms is booking.Journal's.
func (j journal) DeleteTerms(_ context.Context, id store.ReservationID) error {
	return j.s.commit(&change{
		records: [][]byte{encodeEnd(id)},
		apply:   func(st *state) { delete(st.reservations, id) },
	})[0]
}

// fence is a mount that asks to be the one which may change the container.
type fence struct {
	known    []store.Token
	next     store.Token
	takeOver bool
}

// Fence is store.Fencer's. The token lies in the superblock.
func (s *Store) Fence(ctx context.Context, known []store.Token, next store.Token, takeOver bool) error {
	if next == (store.Token{}) {
		return s.fail(store.Invalid, opFence, "the token is empty", nil)
	}
	_, err := call(ctx, s, opFence, toLook, func() (struct{}, error) {
		err := s.commit(&change{fence: &fence{known: slices.Clone(known), next: next, takeOver: takeOver}})[0]
		if err == nil {
			s.fenced.Store(true)
		}
		return struct{}{}, err
	}, nil)
	return err
}

const opFence = "let a mount use the container"

func (c *committer) fence(f *fence) error {
	held := c.sb.token
	if held == f.next {
		return nil
	}
	if held != (store.Token{}) && !slices.Contains(f.known, held) && !f.takeOver {
		return &store.Error{
			Kind: store.Conflict, Op: opFence, Subject: c.s.subject(),
			Detail: "a mount with another history has used it since",
			Hint:   "if this state directory is the right one, mount it with --take-over",
		}
	}
	sb := c.sb
	sb.token = f.next
	if err := c.supers(sb); err != nil {
		c.fatal(err)
		return c.broken
	}
	next := after(c.position)
	if err := c.mark(next); err != nil {
		return c.s.ioError(opFence, err)
	}
	c.position = next
	return nil
}
