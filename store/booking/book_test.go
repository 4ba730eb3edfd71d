package booking

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stasis/store"
)

// disk is what two books share: so many bytes that a user may still fill.
type disk struct{ avail atomic.Int64 }

func (d *disk) ask(context.Context) (int64, error) { return d.avail.Load(), nil }

// journal is a Journal in memory that refuses what it is told to.
type journal struct {
	mu    sync.Mutex
	terms map[store.ReservationID]Terms
	fails error
}

func newJournal() *journal { return &journal{terms: make(map[store.ReservationID]Terms)} }

func (j *journal) SaveTerms(_ context.Context, t Terms) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fails == nil {
		j.terms[t.ID] = t
	}
	return j.fails
}

func (j *journal) DeleteTerms(_ context.Context, id store.ReservationID) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fails == nil {
		delete(j.terms, id)
	}
	return j.fails
}

func (j *journal) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fails = err
}

func usage(t testing.TB, b *Book) Usage {
	t.Helper()
	u, err := b.Usage(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func reserve(b *Book, id byte, bytes int64) error {
	_, err := b.Reserve(context.Background(), store.ReserveRequest{ID: store.ReservationID{id}, Bytes: bytes})
	return err
}

// testDevice is a device number that no other test uses.
var testDevice atomic.Uint64

// TestOneDevice: stores on one disk never promise the same byte twice, and what one
// of them writes is not counted twice either.
func TestOneDevice(t *testing.T) {
	d := &disk{}
	d.avail.Store(1000 << 10)
	dev := 1<<40 + testDevice.Add(1)
	a := New(Options{Device: dev, Avail: d.ask}, Totals{}, nil)
	b := New(Options{Device: dev, Avail: d.ask, Capacity: 600 << 10}, Totals{}, nil)
	defer b.Close()
	if err := reserve(a, 1, 700<<10); err != nil {
		t.Fatal(err)
	}
	if err := reserve(b, 1, 301<<10); !errors.Is(err, store.NoSpace) {
		t.Errorf("promised more than the disk has: %v", err)
	}
	if err := reserve(b, 1, 300<<10); err != nil {
		t.Fatal(err)
	}
	if fa, fb := usage(t, a).Free, usage(t, b).Free; fa != 0 || fb != 0 {
		t.Errorf("free %d and %d, all is promised", fa, fb)
	}
	draw, err := a.Draw(store.ReservationID{1}, store.CrateID{1}, 500<<10)
	if err != nil {
		t.Fatal(err)
	}
	draw.Written(500 << 10)
	d.avail.Add(-500 << 10)
	if f := usage(t, b).Free; f != 0 {
		t.Errorf("free %d while a draw is half way", f)
	}
	draw.Commit()
	if f := usage(t, b).Free; f != 0 {
		t.Errorf("free %d after the commit", f)
	}
	a.Close() // its promises end with it
	if f := usage(t, b).Free; f != 200<<10 {
		t.Errorf("free %d after the other store was closed, want what was promised there", f)
	}
}

// TestResident: bytes that lie on the disk already, to be adopted, are charged once.
func TestResident(t *testing.T) {
	d := &disk{}
	d.avail.Store(100 << 10)
	b := New(Options{Device: 1<<40 + testDevice.Add(1), Avail: d.ask}, Totals{}, nil)
	defer b.Close()
	if err := reserve(b, 1, 80<<10); err != nil {
		t.Fatal(err)
	}
	d.avail.Add(-80 << 10) // the body is written
	b.Resident(80 << 10)
	if f := usage(t, b).Free; f != 20<<10 {
		t.Errorf("free %d with a resident body", f)
	}
	draw, err := b.Draw(store.ReservationID{1}, store.CrateID{1}, 80<<10)
	if err != nil {
		t.Fatal(err)
	}
	draw.Adopts(80 << 10)
	draw.Commit()
	if u := usage(t, b); u.Free != 20<<10 || u.Used != 80<<10 || u.Reserved != 0 {
		t.Errorf("after the adoption %+v", u)
	}
}

// TestJournalFails: a promise that could not be persisted was never made, and a
// change that could not be leaves the promise as it was.
func TestJournalFails(t *testing.T) {
	j := newJournal()
	b := New(Options{Capacity: 1 << 20, Journal: j}, Totals{}, nil)
	defer b.Close()
	if err := reserve(b, 1, 100<<10); err != nil {
		t.Fatal(err)
	}
	was := usage(t, b)
	broken := &store.Error{Kind: store.Unavailable, Op: "write"}
	j.fail(broken)
	for _, bytes := range []int64{200 << 10, 50 << 10} {
		if err := reserve(b, 1, bytes); !errors.Is(err, store.Unavailable) {
			t.Errorf("%v", err)
		}
	}
	if err := reserve(b, 2, 10<<10); !errors.Is(err, store.Unavailable) {
		t.Errorf("%v", err)
	}
	if err := b.Release(context.Background(), store.ReservationID{1}); !errors.Is(err, store.Unavailable) {
		t.Errorf("%v", err)
	}
	if now := usage(t, b); now != was {
		t.Errorf("after failures %+v, was %+v", now, was)
	}
	j.fail(nil)
	if err := b.Bury(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, there := j.terms[store.ReservationID{2}]; there {
		t.Error("a reservation that was refused is in the journal")
	}
	if err := b.Release(context.Background(), store.ReservationID{1}); err != nil {
		t.Fatal(err)
	}
	if now := usage(t, b); now.Reserved != 0 || now.Free != 1<<20 || len(j.terms) != 0 {
		t.Errorf("at the end %+v, %d terms", now, len(j.terms))
	}
}

// TestTerms: what is encoded is read again, and nothing else is.
func TestTerms(t *testing.T) {
	x := Terms{
		ID: store.ReservationID{1}, Holder: store.OwnerID{2}, Bytes: 3, Lease: time.Hour,
		Expires: time.Unix(5, 6), Boot: [16]byte{7}, Deadline: 8,
	}
	p := x.Encode()
	if len(p) != TermsSize {
		t.Errorf("%d bytes, TermsSize says %d", len(p), TermsSize)
	}
	y, err := DecodeTerms(p)
	if err != nil || !y.Expires.Equal(x.Expires) {
		t.Errorf("%+v, %v", y, err)
	}
	if y.Expires = x.Expires; x != y {
		t.Errorf("%+v came back as %+v", x, y)
	}
	for _, bad := range [][]byte{nil, p[1:], append([]byte{2}, p[1:]...), append(p, 0)} {
		if _, err := DecodeTerms(bad); !errors.Is(err, store.Corrupt) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

// TestAtOnce lets everybody do everything at once, with a journal that fails now and
// then: the sums never pass the capacity, and in the end they are what is left.
func TestAtOnce(t *testing.T) {
	const capacity = 1 << 20
	j := newJournal()
	b := New(Options{Capacity: capacity, Journal: j}, Totals{}, nil)
	defer b.Close()
	ctx := context.Background()
	var kept atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			id := store.ReservationID{byte(w + 1)}
			for range 300 {
				if w == 0 && rng.IntN(4) == 0 {
					j.fail(&store.Error{Kind: store.Unavailable, Op: "write"})
				} else if w == 0 {
					j.fail(nil)
				}
				_, err := b.Reserve(ctx, store.ReserveRequest{ID: id, Bytes: int64(rng.IntN(capacity / 4))})
				if err == nil {
					if draw, err := b.Draw(id, store.CrateID{1}, int64(rng.IntN(4096))); err == nil {
						draw.Written(draw.Charge() / 2)
						if rng.IntN(2) == 0 {
							draw.Commit()
							kept.Add(draw.Charge())
							b.Freed(draw.Charge())
							kept.Add(-draw.Charge())
						}
						draw.Undo()
					}
				}
				if u, err := b.Usage(ctx); err != nil || u.Used < 0 || u.Reserved < 0 || u.Used+u.Reserved > capacity {
					t.Errorf("%+v, %v", u, err)
				}
				_ = b.Release(ctx, id) // where the journal fails, the next Reserve takes it up
			}
		})
	}
	wg.Wait()
	j.fail(nil)
	for w := range 8 {
		if err := b.Release(ctx, store.ReservationID{byte(w + 1)}); err != nil {
			t.Error(err)
		}
	}
	if u := usage(t, b); u.Used != kept.Load() || u.Reserved != 0 || u.Free != capacity-kept.Load() || u.Crates != 0 {
		t.Errorf("at the end %+v", u)
	}
}
