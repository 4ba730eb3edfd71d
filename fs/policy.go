package fs

import (
	"bytes"
	"context"
	"fmt"
	"syscall"
	"time"

	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
	"stasis/store/ledger"
)

// ownPolicy is what an inode says itself; 0 leaves a value to what it lies in.
type ownPolicy struct{ Copies, Least int }

func (p *ownPolicy) encode() []byte {
	e := newEncoder()
	e.u64(uint64(p.Copies))
	e.u64(uint64(p.Least))
	return e
}

func decodePolicy(b []byte) (ownPolicy, error) {
	d := newDecoder(b)
	p := ownPolicy{Copies: int(d.u64()), Least: int(d.u64())}
	return p, d.end("a policy")
}

// effective gives the policy in force for an inode.
func (s *FS) effective(ino names.Ino) (router.Policy, error) {
	p, _, err := s.policyOf(ino)
	return p, err
}

// policyOf also gives the inode that says how many copies; 0: none does.
func (s *FS) policyOf(ino names.Ino) (p router.Policy, from names.Ino, err error) {
	p = s.policy()
	p.Copies, p.Least = max(1, p.Copies), max(1, p.Least)
	if !s.policies.Load() {
		return p, 0, nil
	}
	var copies, least int
	for copies == 0 || least == 0 {
		raw, at, err := s.tree.EffectivePolicy(ino)
		if err != nil {
			return p, 0, err
		}
		if at == 0 {
			break
		}
		own, err := decodePolicy(raw)
		if err != nil {
			return p, 0, err
		}
		if copies == 0 && own.Copies != 0 {
			copies, from = own.Copies, at
		}
		if least == 0 {
			least = own.Least
		}
		if at == names.Root {
			break
		}
		in, err := s.tree.Get(at)
		if err != nil {
			return p, 0, err
		}
		ino = in.Parent
	}
	if copies != 0 {
		p.Copies = copies
	}
	if least != 0 {
		p.Least = least
	}
	p.Least = min(p.Least, p.Copies)
	return p, from, nil
}

// PolicyAt gives the policy in force at a path, and the path that says how many copies
// there are to be; empty if it is the vault's default.
func (s *FS) PolicyAt(path string) (router.Policy, string, error) {
	in, err := s.find(path)
	if err != nil {
		return router.Policy{}, "", err
	}
	p, at, err := s.policyOf(in.Ino)
	if err != nil || at == 0 {
		return p, "", err
	}
	from, err := s.tree.Path(at)
	return p, from, err
}

// SetPolicy sets what a directory and everything in it, or a file, should have; 0
// leaves a value as it is. Copies that are wanted from then on are asked for in the
// background.
func (s *FS) SetPolicy(ctx context.Context, path string, copies, least int) (router.Policy, error) {
	if s.ro {
		return router.Policy{}, syscall.EROFS
	}
	in, err := s.find(path)
	if err != nil {
		return router.Policy{}, err
	}
	var own ownPolicy
	if raw, ok, err := s.tree.Policy(in.Ino); err != nil {
		return router.Policy{}, err
	} else if ok {
		if own, err = decodePolicy(raw); err != nil {
			return router.Policy{}, err
		}
	}
	if copies != 0 {
		own.Copies = copies
	}
	if least != 0 {
		own.Least = least
	}
	if own.Copies != 0 && own.Least > own.Copies {
		return router.Policy{}, &store.Error{Kind: store.Invalid, Op: "set the policy of", Subject: path,
			Detail: fmt.Sprintf("least %d is more than copies %d", own.Least, own.Copies), Hint: "give both, with least at most copies"}
	}
	s.policies.Store(true) // before anything derives what is wanted from the update
	if _, err := s.tree.SetPolicy(in.Ino, own.encode(), func(tx *ledger.Tx) { reviewTx(tx.In(ledger.Local), in.Ino) }); err != nil {
		return router.Policy{}, err
	}
	kick(s.review)
	if err := s.db.Sync(ctx, s.db.Position()); err != nil {
		return router.Policy{}, err
	}
	return s.effective(in.Ino)
}

// PolicyChanged says that the vault's default may be another now.
func (s *FS) PolicyChanged() error {
	if s.ro {
		return nil
	}
	p := s.policy()
	now := (&ownPolicy{p.Copies, p.Least}).encode()
	was, ok, err := s.local.Get(defaultKey)
	if err != nil || ok && string(was) == string(now) {
		return err
	}
	_, err = s.local.Update(func(tx *ledger.Tx) error {
		tx.Put(defaultKey, now)
		if ok { // a new vault has nothing to look at
			reviewTx(tx, names.Root)
		}
		return nil
	})
	kick(s.review)
	return err
}

// NodeRemoved says that copies may be fewer than wanted anywhere: a node that had some
// was taken away.
func (s *FS) NodeRemoved() error {
	if s.ro {
		return nil
	}
	_, err := s.local.Update(func(tx *ledger.Tx) error {
		reviewTx(tx, names.Root)
		return nil
	})
	kick(s.review)
	return err
}

// reviewTx notes, in the update that makes it so, that the copies of everything below an inode may
// not be what is wanted. The note is kept until that was looked at.
func reviewTx(tx *ledger.Tx, ino names.Ino) {
	// No two notes are the same, so that one made amid a review is not taken for done.
	note := store.NewCrateID()
	tx.Put(key(tableReview, uint64(ino)), note[:])
}

func (s *FS) reviewLoop() {
	for {
		err := each(s.local, tableReview, func(k, note []byte) error {
			ino, err := inoOf(k)
			if err != nil {
				return err
			}
			return s.reviewTree(ino, note)
		})
		var again <-chan time.Time
		if err != nil && s.ctx.Err() == nil {
			s.log.WithError(err).Error("ask for the copies that a changed policy wants; it is tried again")
			again = time.After(workRetry)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-again:
		case <-s.review:
		}
	}
}

func (s *FS) reviewTree(top names.Ino, note []byte) error {
	err := s.walk(s.ctx, top, "", func(_ *place, in names.Inode) error {
		if !in.IsRegular() || in.List == 0 {
			return nil
		}
		s.reconsider(s.ctx, in.Ino)
		return s.assess(in.Ino)
	})
	if err != nil {
		return err
	}
	k := key(tableReview, uint64(top))
	_, err = s.local.Update(func(tx *ledger.Tx) error {
		if now, _, err := tx.Get(k); err != nil || !bytes.Equal(now, note) {
			return err
		}
		tx.Delete(k)
		return nil
	})
	return err
}
