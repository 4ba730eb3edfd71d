package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"stasis/store"
)

// Factory makes stores for the suite.
type Factory struct {
	// New makes an empty store, and sees to it that all of it is gone when t ends.
	New func(t testing.TB, o Options) *Instance
}

// Options are what a test wants of a store.
type Options struct {
	// Capacity of the store, in bytes of store.Charge.
	Capacity int64
	// Clock is what leases are to be counted on.
	Clock *Clock
}

// Instance is a store under test. All but Store may be left zero; what needs it
// is then skipped.
type Instance struct {
	Store store.Store
	// Reopen closes the store and opens the same again.
	Reopen func(t testing.TB) store.Store
	// Path is the file or directory that holds all of the store when it is closed, to be
	// copied and put back.
	Path string
	// Damage flips a bit of a stored byte, behind the store's back.
	Damage func(t testing.TB, crate store.CrateID, offset int64)
	// Lose takes the bytes of a crate away behind the store's back, as a copy of the store lacks
	// them that was made while it was in use: what the store notes of the crate stays.
	Lose func(t testing.TB, crate store.CrateID)
	// AdoptDir is a directory from which the store adopts files.
	AdoptDir string
	// Leaves is on how many leaves the store keeps each crate; 0 means 1.
	Leaves int
	// Settles says that what the store has free comes to rest some time after a call: it holds
	// space of others ahead of need.
	Settles bool
	// OneHolder says that the store knows who holds its reservations, whatever a request
	// says.
	OneHolder bool
	// OwnClock says that the store counts leases on a clock of its own.
	OwnClock bool
}

// Capacity is what the suite asks for unless a test needs another, in bytes.
const Capacity = 64 << 20

// patience bounds every wait of the suite.
const patience = 30 * time.Second

// Run puts a store through the contract. Each test gets a store of its own.
func Run(t *testing.T, f Factory) {
	tests := []struct {
		name string
		run  func(*env)
	}{
		{"RoundTrip", testRoundTrip},
		{"Ranges", testRanges},
		{"Verify", testVerify},
		{"NotFound", testNotFound},
		{"Repeat", testRepeat},
		{"Conflict", testConflict},
		{"InvalidPut", testInvalidPut},
		{"BadSource", testBadSource},
		{"Cancel", testCancel},
		{"CancelledBefore", testCancelledBefore},
		{"Reserve", testReserve},
		{"ReserveInvalid", testReserveInvalid},
		{"Draw", testDraw},
		{"Full", testFull},
		{"ReserveRace", testReserveRace},
		{"Lease", testLease},
		{"LapseDuringPut", testLapseDuringPut},
		{"LeaseReopen", testLeaseReopen},
		{"Reopen", testReopen},
		{"Discard", testDiscard},
		{"List", testList},
		{"SameCrateAtOnce", testSameCrateAtOnce},
		{"Concurrent", testConcurrent},
		{"Damage", testDamage},
		{"Lost", testLost},
		{"Close", testClose},
		{"Batch", testBatch},
		{"Adopt", testAdopt},
		{"AdoptRefused", testAdoptRefused},
		{"File", testFile},
		{"Unverified", testUnverified},
		{"Fence", testFence},
		{"Position", testPosition},
		{"PositionBack", testPositionBack},
	}
	seed := Seed(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t, f, seed, Capacity)
			tt.run(e)
		})
	}
}

// env is a store under test with what tests do to it all the time.
type env struct {
	*testing.T
	*Gen
	f      Factory
	ctx    context.Context
	clock  *Clock
	inst   *Instance
	s      store.Store
	tokens []store.Token
}

func newEnv(t *testing.T, f Factory, seed uint64, capacity int64) *env {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience)
	t.Cleanup(cancel)
	e := &env{T: t, Gen: NewGen(seed), f: f, ctx: ctx, clock: NewClock()}
	e.inst = f.New(t, Options{Capacity: capacity, Clock: e.clock})
	e.s = e.inst.Store
	t.Cleanup(func() {
		if err := e.s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	e.fence()
	return e
}

// fence makes this test the running mount, where the store wants that.
func (e *env) fence() {
	e.Helper()
	f, ok := e.s.(store.Fencer)
	if !ok {
		return
	}
	next := store.NewToken()
	if err := f.Fence(e.ctx, e.tokens, next, false); err != nil {
		e.Fatalf("fence: %v", err)
	}
	e.tokens = append(e.tokens, next)
}

// reopen restarts the store, or skips the test.
func (e *env) reopen() {
	e.Helper()
	if e.inst.Reopen == nil {
		e.Skip("nothing outlives this store")
	}
	e.s = e.inst.Reopen(e)
	e.fence()
}

// reserve gives a reservation of so many bytes.
func (e *env) reserve(n int64) store.ReservationID {
	e.Helper()
	id := store.NewReservationID()
	if _, err := e.s.Reserve(e.ctx, store.ReserveRequest{ID: id, Bytes: n}); err != nil {
		e.Fatalf("reserve %d bytes: %v", n, err)
	}
	return id
}

// put stores a crate and checks the receipt.
func (e *env) put(r store.ReservationID, c Crate) {
	e.Helper()
	receipts, err := e.s.Put(e.ctx, c.Put(r))
	if err != nil {
		e.Fatalf("put %d bytes: %v", len(c.Data), err)
	}
	e.checkReceipts(receipts, c)
}

func (e *env) checkReceipts(receipts []store.Receipt, c Crate) {
	e.Helper()
	if len(receipts) == 0 {
		e.Fatal("no error and no receipt")
	}
	for _, r := range receipts {
		if r.Leaf.IsZero() || r.Time.IsZero() {
			e.Errorf("receipt without leaf or time: %+v", r)
		}
		if r.Sums.Size != int64(len(c.Data)) || r.Sums.Root() != c.Root() || !r.Sums.Valid() {
			e.Errorf("receipt's checksums are not the crate's")
		}
	}
}

// crates makes and stores a crate of each size under one reservation.
func (e *env) crates(sizes ...int) (store.ReservationID, []Crate) {
	e.Helper()
	var sum int64
	for _, n := range sizes {
		sum += store.Charge(int64(n))
	}
	r := e.reserve(sum)
	var cs []Crate
	for _, n := range sizes {
		c := e.Crate(n)
		e.put(r, c)
		cs = append(cs, c)
	}
	return r, cs
}

func (e *env) read(id store.CrateID, offset, length int64) ([]byte, error) {
	return drain(e.s.Open(e.ctx, id, offset, length))
}

// drain reads what an open gave.
func drain(rc io.ReadCloser, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	p, err := io.ReadAll(rc)
	return p, errors.Join(err, rc.Close())
}

// has checks that the whole crate is there.
func (e *env) has(c Crate) {
	e.Helper()
	p, err := e.read(c.ID, 0, -1)
	if err != nil {
		e.Fatalf("read crate of %d bytes: %v", len(c.Data), err)
	}
	if !bytes.Equal(p, c.Data) {
		e.Fatalf("crate of %d bytes gave %d others", len(c.Data), len(p))
	}
}

// lacks checks that nothing of a crate is visible.
func (e *env) lacks(id store.CrateID) {
	e.Helper()
	if _, err := e.s.Stat(e.ctx, id); !errors.Is(err, store.NotFound) {
		e.Errorf("stat: %v, want not found", err)
	}
	if _, err := e.read(id, 0, -1); !errors.Is(err, store.NotFound) {
		e.Errorf("open: %v, want not found", err)
	}
	for _, c := range e.list() {
		if c.ID == id {
			e.Errorf("listed, and should not be there")
		}
	}
}

func (e *env) list() []store.CrateInfo {
	e.Helper()
	var all []store.CrateInfo
	var cursor []byte
	for range 1000 {
		page, err := e.s.List(e.ctx, cursor)
		if err != nil {
			e.Fatalf("list: %v", err)
		}
		if len(page.Crates) > store.MaxPage {
			e.Errorf("a page of %d crates, the most is %d", len(page.Crates), store.MaxPage)
		}
		all = append(all, page.Crates...)
		if page.Next == nil {
			return all
		}
		cursor = page.Next
	}
	e.Fatal("the listing does not end")
	return nil
}

func (e *env) status() store.Status {
	e.Helper()
	st, err := e.s.Status(e.ctx)
	if err != nil {
		e.Fatalf("status: %v", err)
	}
	return st
}

// account is the part of a status that a failed operation must not change.
type account struct{ used, reserved, free, crates int64 }

func (e *env) account() account {
	e.Helper()
	now := e.accountNow()
	if !e.inst.Settles {
		return now
	}
	for same, end := 0, time.Now().Add(patience); same < 5 && time.Now().Before(end); same++ {
		time.Sleep(10 * time.Millisecond)
		if next := e.accountNow(); next != now {
			now, same = next, -1
		}
	}
	return now
}

func (e *env) accountNow() account {
	e.Helper()
	st := e.status()
	return account{st.Used, st.Reserved, st.Free, st.Crates}
}

// unchanged checks that the accounts are what they were.
func (e *env) unchanged(was account) {
	e.Helper()
	now := e.account()
	for end := time.Now().Add(patience); now != was && e.inst.Settles && time.Now().Before(end); {
		now = e.account()
	}
	if now != was {
		e.Errorf("accounts are %+v, were %+v", now, was)
	}
}

// fails checks that err is of the kind.
func (e *env) fails(err error, kind store.Kind) {
	e.Helper()
	if !errors.Is(err, kind) {
		e.Errorf("got error %v, want %v", err, kind)
	}
}

// soon runs f and fails if it takes too long: nothing may hang.
func (e *env) soon(what string, f func()) {
	e.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		e.Fatalf("%s did not return", what)
	}
}

// together runs f n times at once.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		go func() { defer wg.Done(); f(i) }()
	}
	wg.Wait()
}
