package fault

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	"stasis/store"
)

// Op is an operation of a store.
type Op int

// The operations. Any stands for each of them.
const (
	Any Op = iota
	Reserve
	Renew
	Release
	Put // PutBatch and Adopt too, each request by itself
	Open
	Verify
	Stat
	Discard
	List
	Status
	Fence
	File
	ops
)

// effect is what a rule does to a call.
type effect struct {
	err   error         // fail with it, without asking the store
	lose  error         // ask the store, then fail with it: the answer was lost on its way
	delay time.Duration // wait first
	stall bool          // wait for the context's end or Heal
	flip  int64         // flip a bit of this byte, counted from where the stream starts; -1: none
	cut   int64         // end the stream after so many bytes, without error; -1: not
	brk   int64         // break the stream off after so many bytes; -1: not
}

type rule struct {
	op  Op
	nth int // counts down; 0: every call
	effect
}

// Store wraps a store. Make it with Wrap.
type Store struct {
	inner store.Store

	mu     sync.Mutex
	rules  []*rule
	calls  [ops]int
	healed chan struct{}
}

// Wrap gives a store that does what s does until a rule says otherwise. It has
// none of the optional interfaces: see Full.
func Wrap(s store.Store) *Store { return &Store{inner: s, healed: make(chan struct{})} }

var _ store.Store = (*Store)(nil)

func (s *Store) add(op Op, nth int, e effect) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, &rule{op: op, nth: nth, effect: e})
}

func plain() effect { return effect{flip: -1, cut: -1, brk: -1} }

// Fail makes the nth call of op from now fail with err, without the store being
// asked; n = 0: every call.
func (s *Store) Fail(op Op, n int, err error) { e := plain(); e.err = err; s.add(op, n, e) }

// LoseAnswer lets the store do it, and the caller see err all the same.
func (s *Store) LoseAnswer(op Op, n int, err error) { e := plain(); e.lose = err; s.add(op, n, e) }

// Delay makes the call wait for d first, or for its context's end.
func (s *Store) Delay(op Op, n int, d time.Duration) { e := plain(); e.delay = d; s.add(op, n, e) }

// Stall makes the call wait until its context ends or the store is healed.
func (s *Store) Stall(op Op, n int) { e := plain(); e.stall = true; s.add(op, n, e) }

// Flip changes one bit of byte at of what an Open gives, or of what a Put's source
// gives to the store.
func (s *Store) Flip(op Op, n int, at int64) { e := plain(); e.flip = at; s.add(op, n, e) }

// Truncate ends that stream after so many bytes, as if it were the end.
func (s *Store) Truncate(op Op, n int, after int64) { e := plain(); e.cut = after; s.add(op, n, e) }

// Break breaks that stream off after so many bytes with Unavailable.
func (s *Store) Break(op Op, n int, after int64) { e := plain(); e.brk = after; s.add(op, n, e) }

// Down makes every call answer Unavailable, as an unplugged node does, until Heal.
func (s *Store) Down() {
	s.Fail(Any, 0, &store.Error{Kind: store.Unavailable, Op: "reach node", Detail: "the test took it down"})
}

// Heal ends all rules and lets what stalls go on.
func (s *Store) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = nil
	close(s.healed)
	s.healed = make(chan struct{})
}

// Calls tells how often op was called; Any gives the sum.
func (s *Store) Calls(op Op) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// begin counts a call, waits where a rule wants that, and gives what is left to
// happen to it.
func (s *Store) begin(ctx context.Context, op Op) (effect, error) {
	s.mu.Lock()
	s.calls[Any]++
	s.calls[op]++
	e := plain()
	healed := s.healed
	kept := s.rules[:0:0]
	for _, r := range s.rules {
		fires := false
		if r.op == Any || r.op == op {
			switch {
			case r.nth == 0:
				fires = true
			case r.nth == 1:
				fires = true
				r.nth = -1
			default:
				r.nth--
			}
		}
		if fires {
			e = merge(e, r.effect)
		}
		if r.nth >= 0 {
			kept = append(kept, r)
		}
	}
	s.rules = kept
	s.mu.Unlock()
	if e.stall {
		select {
		case <-ctx.Done():
			return e, ended(ctx)
		case <-healed:
		}
	}
	if e.delay > 0 {
		t := time.NewTimer(e.delay)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return e, ended(ctx)
		case <-t.C:
		}
	}
	return e, e.err
}

func ended(ctx context.Context) error {
	return &store.Error{Kind: store.Unavailable, Op: "reach node", Err: context.Cause(ctx)}
}

// merge gives both effects; where both have something to say, the earlier rule's.
func merge(a, b effect) effect {
	if a.err == nil {
		a.err = b.err
	}
	if a.lose == nil {
		a.lose = b.lose
	}
	a.delay += b.delay
	a.stall = a.stall || b.stall
	for _, p := range [][2]*int64{{&a.flip, &b.flip}, {&a.cut, &b.cut}, {&a.brk, &b.brk}} {
		if *p[0] < 0 {
			*p[0] = *p[1]
		}
	}
	return a
}

// lost replaces a good answer by its loss.
func lost[T any](v T, err error, e effect) (T, error) {
	if err == nil && e.lose != nil {
		var none T
		return none, e.lose
	}
	return v, err
}

// Reserve is the inner store's.
func (s *Store) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	e, err := s.begin(ctx, Reserve)
	if err != nil {
		return nil, err
	}
	v, err := s.inner.Reserve(ctx, r)
	return lost(v, err, e)
}

// Renew is the inner store's.
func (s *Store) Renew(ctx context.Context, id store.ReservationID) (time.Time, error) {
	e, err := s.begin(ctx, Renew)
	if err != nil {
		return time.Time{}, err
	}
	v, err := s.inner.Renew(ctx, id)
	return lost(v, err, e)
}

// Release is the inner store's.
func (s *Store) Release(ctx context.Context, id store.ReservationID) error {
	e, err := s.begin(ctx, Release)
	if err != nil {
		return err
	}
	_, err = lost(0, s.inner.Release(ctx, id), e)
	return err
}

// Put is the inner store's, its source spoilt where a rule says so.
func (s *Store) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	e, err := s.begin(ctx, Put)
	if err != nil {
		return nil, err
	}
	r.Source = e.source(r.Source)
	v, err := s.inner.Put(ctx, r)
	return lost(v, err, e)
}

// Open is the inner store's, its stream spoilt where a rule says so.
func (s *Store) Open(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	e, err := s.begin(ctx, Open)
	if err != nil {
		return nil, err
	}
	rc, err := s.inner.Open(ctx, id, offset, length)
	if err != nil {
		return nil, err
	}
	if e.lose != nil {
		_ = rc.Close() // the answer is lost, and with it the reader
		return nil, e.lose
	}
	return e.stream(rc, 0), nil
}

// Verify is the inner store's.
func (s *Store) Verify(ctx context.Context, id store.CrateID, offset, length int64, nonce store.Digest) (store.Digest, error) {
	e, err := s.begin(ctx, Verify)
	if err != nil {
		return store.Digest{}, err
	}
	v, err := s.inner.Verify(ctx, id, offset, length, nonce)
	if e.flip >= 0 {
		v[0] ^= 1
	}
	return lost(v, err, e)
}

// Stat is the inner store's.
func (s *Store) Stat(ctx context.Context, id store.CrateID) (store.CrateInfo, error) {
	e, err := s.begin(ctx, Stat)
	if err != nil {
		return store.CrateInfo{}, err
	}
	v, err := s.inner.Stat(ctx, id)
	return lost(v, err, e)
}

// Discard is the inner store's.
func (s *Store) Discard(ctx context.Context, r store.DiscardRequest) error {
	e, err := s.begin(ctx, Discard)
	if err != nil {
		return err
	}
	_, err = lost(0, s.inner.Discard(ctx, r), e)
	return err
}

// List is the inner store's.
func (s *Store) List(ctx context.Context, cursor []byte) (store.Page, error) {
	e, err := s.begin(ctx, List)
	if err != nil {
		return store.Page{}, err
	}
	v, err := s.inner.List(ctx, cursor)
	return lost(v, err, e)
}

// Status is the inner store's.
func (s *Store) Status(ctx context.Context) (store.Status, error) {
	e, err := s.begin(ctx, Status)
	if err != nil {
		return store.Status{}, err
	}
	v, err := s.inner.Status(ctx)
	return lost(v, err, e)
}

// Close heals the store, so that nothing stalls, and closes the inner one.
func (s *Store) Close() error {
	s.Heal()
	return s.inner.Close()
}

// Full is a Store with every optional interface, for an inner store that has
// them all.
type Full struct {
	*Store
	all interface {
		store.Adopter
		store.Batcher
		store.Filer
		store.Fencer
	}
}

// WrapFull is Wrap for a store with every optional interface; ok is false if s
// lacks one.
func WrapFull(s store.Store) (f *Full, ok bool) {
	f = &Full{Store: Wrap(s)}
	f.all, ok = s.(interface {
		store.Adopter
		store.Batcher
		store.Filer
		store.Fencer
	})
	return f, ok
}

var (
	_ store.Adopter = (*Full)(nil)
	_ store.Batcher = (*Full)(nil)
	_ store.Filer   = (*Full)(nil)
	_ store.Fencer  = (*Full)(nil)
)

// Adopt is the inner store's and counts as a Put.
func (f *Full) Adopt(ctx context.Context, r store.PutRequest, path string) ([]store.Receipt, error) {
	e, err := f.begin(ctx, Put)
	if err != nil {
		return nil, err
	}
	v, err := f.all.Adopt(ctx, r, path)
	return lost(v, err, e)
}

// AdoptsFrom is the inner store's.
func (f *Full) AdoptsFrom(dir string) bool { return f.all.AdoptsFrom(dir) }

// Resident is the inner store's.
func (f *Full) Resident(bytes int64) { f.all.Resident(bytes) }

// File is the inner store's.
func (f *Full) File(ctx context.Context, id store.CrateID) (*os.File, error) {
	e, err := f.begin(ctx, File)
	if err != nil {
		return nil, err
	}
	v, err := f.all.File(ctx, id)
	if err == nil && e.lose != nil {
		_ = v.Close() // it is lost
	}
	return lost(v, err, e)
}

// PutBatch counts each request as a Put; those no rule fails go on as one batch.
func (f *Full) PutBatch(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	out := make([]store.PutResult, len(rs))
	effects := make([]effect, len(rs))
	var going []store.PutRequest
	var at []int
	for i, r := range rs {
		e, err := f.begin(ctx, Put)
		if err != nil {
			out[i].Err = err
			continue
		}
		effects[i] = e
		r.Source = e.source(r.Source)
		going, at = append(going, r), append(at, i)
	}
	for k, res := range f.all.PutBatch(ctx, going) {
		i := at[k]
		out[i].Receipts, out[i].Err = lost(res.Receipts, res.Err, effects[i])
	}
	return out
}

// Fence is the inner store's.
func (f *Full) Fence(ctx context.Context, known []store.Token, next store.Token, takeOver bool) error {
	e, err := f.begin(ctx, Fence)
	if err != nil {
		return err
	}
	_, err = lost(0, f.all.Fence(ctx, known, next, takeOver), e)
	return err
}
