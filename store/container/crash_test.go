package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/storetest"
)

// openLossy opens the container in f, fenced for use.
func openLossy(f *lossyFile) (*Store, error) {
	s, err := open(context.Background(), place{f: f, path: "lossy", check: func() error { return nil }}, store.NodeID{}, testOwner, Options{})
	if err != nil {
		return nil, err
	}
	if err := s.Fence(context.Background(), nil, store.Token{1}, true); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// known is what a crash test knows of one crate.
type known struct {
	crate     storetest.Crate
	there     bool // put acknowledged and no discard begun
	gone      bool // discard acknowledged, or put refused while the disk was well
	uncertain bool // an operation on it was cut
}

// worker drives a container and remembers what it was told.
type worker struct {
	g    *storetest.Gen
	rng  *rand.Rand
	mine []*known
	held map[store.ReservationID]bool // reservations acknowledged and not given up
	err  error                        // what ended it

	refused int // times in a row that there was no space
}

func (w *worker) live() (out []*known) {
	for _, k := range w.mine {
		if k.there {
			out = append(out, k)
		}
	}
	return out
}

// sizes are mostly small, so that many lie in a small container.
func (w *worker) size() int {
	switch w.rng.IntN(10) {
	case 0:
		return 1 + w.rng.IntN(1<<20+100000)
	case 1, 2:
		return 1 + w.rng.IntN(100000)
	}
	return 1 + w.rng.IntN(10000)
}

// step does one thing and reports whether the container still answers.
func (w *worker) step(s *Store) bool {
	ctx := context.Background()
	if live := w.live(); len(live) > 12 || len(live) > 0 && w.rng.IntN(3) == 0 {
		k := live[w.rng.IntN(len(live))]
		k.there = false
		if err := s.Discard(ctx, store.DiscardRequest{Crate: k.crate.ID}); err != nil {
			k.uncertain, w.err = true, err
			return false
		}
		k.gone = true
		return true
	}
	n := 1
	if w.rng.IntN(3) == 0 {
		n = 1 + w.rng.IntN(6)
	}
	var ks []*known
	var sum int64
	for range n {
		k := &known{crate: w.g.Crate(w.size())}
		ks, sum = append(ks, k), sum+k.crate.Charge()
	}
	r := store.NewReservationID()
	if _, err := s.Reserve(ctx, store.ReserveRequest{ID: r, Bytes: sum}); err != nil {
		w.err = err
		w.refused++
		return errors.Is(err, store.NoSpace) && w.refused < 50
	}
	w.refused = 0
	w.held[r] = true
	w.mine = append(w.mine, ks...)
	reqs := make([]store.PutRequest, n)
	for i, k := range ks {
		reqs[i] = k.crate.Put(r)
	}
	for i, res := range s.PutBatch(ctx, reqs) {
		ks[i].there, ks[i].uncertain = res.Err == nil, res.Err != nil
		if res.Err != nil {
			w.err = res.Err
			return false
		}
	}
	if w.rng.IntN(2) == 0 || len(w.held) > 10 {
		delete(w.held, r)
		w.err = s.Release(ctx, r)
		return w.err == nil
	}
	return true
}

func contents(s *Store, id store.CrateID) ([]byte, error) {
	rc, err := s.Open(context.Background(), id, 0, -1)
	if err != nil {
		return nil, err
	}
	p, err := io.ReadAll(rc)
	return p, errors.Join(err, rc.Close())
}

// verify compares a container that was opened again with what the worker knows,
// and takes what turned out into that knowledge.
func (w *worker) verify(s *Store) error {
	for _, k := range w.mine {
		p, err := contents(s, k.crate.ID)
		switch {
		case err == nil && !bytes.Equal(p, k.crate.Data):
			return fmt.Errorf("crate %s: other bytes", k.crate.ID)
		case err == nil && k.gone:
			return fmt.Errorf("crate %s is there after its discard was acknowledged", k.crate.ID)
		case err != nil && (k.there || !errors.Is(err, store.NotFound)):
			return fmt.Errorf("crate %s (acknowledged: %v): %w", k.crate.ID, k.there, err)
		}
		k.there, k.gone, k.uncertain = err == nil, err != nil, false
	}
	for r := range w.held {
		if _, err := s.Renew(context.Background(), r); err != nil {
			return fmt.Errorf("an acknowledged reservation: %w", err)
		}
	}
	return nil
}

// clean empties the container and looks for space that leaked.
func clean(s *Store, ws []*worker) error {
	ctx := context.Background()
	for _, w := range ws {
		for _, k := range w.mine {
			if err := s.Discard(ctx, store.DiscardRequest{Crate: k.crate.ID}); err != nil {
				return err
			}
		}
		for r := range w.held {
			if err := s.Release(ctx, r); err != nil {
				return err
			}
		}
	}
	st, err := s.Status(ctx)
	if err != nil {
		return err
	}
	if st.Used != 0 || st.Crates != 0 {
		return fmt.Errorf("emptied, and it says %+v", st)
	}
	if st.Damage != 0 {
		return fmt.Errorf("a crash alone makes no damage, and it tells of %d", st.Damage)
	}
	return nil
}

// tight checks that every page is free or of the log once the container is empty.
func tight(s *Store) error {
	free := s.room.sp.free
	if most := s.v.limit - firstPage; most-free > logLimit(s.v.limit) {
		return fmt.Errorf("emptied, and %d pages of %d are in use", most-free, most)
	}
	return nil
}

func rounds(few int) int {
	if storetest.Soak() {
		return 200
	}
	return few
}

// A power cut or a kill at any write or sync loses nothing that was acknowledged,
// serves nothing torn and leaks no space, over many crashes of one container.
func TestCrashAtAnyOperation(t *testing.T) {
	seed := storetest.Seed(t)
	for round := range rounds(12) {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		if err := crashRound(rng, 1+round%3); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

func crashRound(rng *rand.Rand, workers int) error {
	f := newLossy(nil)
	if _, err := format(f, testOwner, MinCapacity+rng.Int64N(8<<20), time.Now()); err != nil {
		return err
	}
	var ws []*worker
	for range workers {
		ws = append(ws, &worker{
			g: storetest.NewGen(rng.Uint64()), rng: rand.New(rand.NewPCG(rng.Uint64(), 1)), held: map[store.ReservationID]bool{},
		})
	}
	for crash := range 6 {
		if rng.IntN(2) == 0 && crash > 0 {
			f.dieAt = f.ops + 1 + rng.IntN(12) // while it opens, or soon after
		} else {
			f.dieAt = f.ops + 1 + rng.IntN(400)
		}
		if s, err := openLossy(f); err == nil {
			var wg sync.WaitGroup
			for _, w := range ws {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for w.step(s) {
					}
				}()
			}
			wg.Wait()
			for _, w := range ws {
				if !f.dead && !errors.Is(w.err, store.NoSpace) {
					return fmt.Errorf("refused while the disk was well: %w", w.err)
				}
			}
			_ = s.Close()
		} else if !f.dead {
			return fmt.Errorf("open: %w", err)
		}
		if rng.IntN(3) == 0 {
			f = f.killed()
		} else {
			f = f.survivor(rng)
		}
		image := newLossy(f.data)
		s, err := openLossy(image)
		if err != nil {
			return fmt.Errorf("open after crash %d: %w", crash, err)
		}
		for _, w := range ws {
			if err := w.verify(s); err != nil {
				return fmt.Errorf("after crash %d: %w", crash, errors.Join(err, s.Close()))
			}
		}
		if crash == 5 {
			if err := errors.Join(clean(s, ws), tight(s)); err != nil {
				return errors.Join(err, s.Close())
			}
		}
		if err := s.Close(); err != nil {
			return err
		}
		f = image.killed()
	}
	return nil
}
