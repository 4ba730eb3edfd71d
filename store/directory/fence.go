package directory

import (
	"bytes"
	"context"
	"slices"

	"stasis/store"
	"stasis/store/ledger"
)

// Fence is store.Fencer's.
func (s *Store) Fence(ctx context.Context, tokens []store.Token, next store.Token, takeOver bool) error {
	const op = "admit a mount"
	if next == (store.Token{}) {
		return &store.Error{Kind: store.Invalid, Op: op, Subject: "to " + s.path, Detail: "its token is empty"}
	}
	return s.done(ctx, op, toRead, func() error {
		s.fencing.Lock()
		defer s.fencing.Unlock()
		if err := s.admits(op, tokens, takeOver); err != nil {
			return err
		}
		p, err := s.index.change(func(tx *ledger.Tx) error {
			tx.Put([]byte{keyFence}, bytes.Clone(next[:]))
			return nil
		})
		if err == nil {
			err = s.index.sync(ctx, p)
		}
		if err == nil {
			_, err = s.publish()
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.fenced = true
		s.mu.Unlock()
		return nil
	})
}

// admits tells whether a mount that knows these tokens may have the store.
func (s *Store) admits(op string, tokens []store.Token, takeOver bool) error {
	held, ok, err := s.index.space.Get([]byte{keyFence})
	if err != nil || !ok || takeOver {
		return err
	}
	if len(held) == len(store.Token{}) && slices.Contains(tokens, store.Token(held)) {
		return nil
	}
	return &store.Error{
		Kind: store.Conflict, Op: op, Subject: "to " + s.path,
		Detail: "a mount with another history has used this store since",
		Hint:   "the state directory may be a copy or a restored one; if this is the right one, start it with --take-over",
	}
}
