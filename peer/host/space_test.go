package host

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

func TestQuota(t *testing.T) {
	p := newPeer(t, 64*mib, storetest.NewClock())
	_, ann := p.owner(4 * mib)
	_, bob := p.owner(0)
	st, err := ann.Status(bg)
	if err != nil || st.Capacity != 4*mib || st.Free != 4*mib {
		t.Errorf("status %+v, %v", st, err)
	}
	c := storetest.NewGen(1).Crate(mib)
	keep(t, ann, c)
	r := reserve(t, ann, 4*mib-c.Charge())
	_, err = ann.Reserve(bg, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 4096})
	fails(t, "reserve past the quota", err, store.Quota)
	_, err = ann.Reserve(bg, store.ReserveRequest{ID: r, Bytes: 4 * mib})
	fails(t, "grow past the quota", err, store.Quota)
	if st, err := ann.Status(bg); err != nil || st.Free != 0 || st.Reserved != 4*mib-c.Charge() || st.Used != c.Charge() {
		t.Errorf("status %+v, %v", st, err)
	}
	if st, err := bob.Status(bg); err != nil || st.Free != 45*mib || st.Capacity != 64*mib {
		t.Errorf("the other's status %+v, %v", st, err)
	}
	if err := ann.Discard(bg, store.DiscardRequest{Crate: c.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := ann.Reserve(bg, store.ReserveRequest{ID: r, Bytes: 4 * mib}); err != nil {
		t.Errorf("grow into what was freed: %v", err)
	}
	// What the store lacks is not a matter of quota.
	_, err = bob.Reserve(bg, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 61 * mib})
	fails(t, "reserve more than there is", err, store.NoSpace)
	// The quota outlasts a restart.
	p.stop()
	p.start()
	ann = p.client(ann.id)
	_, err = ann.Reserve(bg, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 4096})
	fails(t, "reserve past the quota after a restart", err, store.Quota)
}

// So many reservations of a byte would use up what the store can count.
func TestReservationsAnOwner(t *testing.T) {
	p := newPeer(t, -64*mib, storetest.NewClock())
	_, ann := p.owner(0)
	_, bob := p.owner(0)
	for range ReservationsAnOwner {
		reserve(t, ann, 1)
	}
	_, err := ann.Reserve(bg, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 1})
	fails(t, "one more", err, store.Quota)
	reserve(t, bob, 1)
}

// Many vaults at once get together what there is, and each no more than its quota.
func TestManyOwnersAtOnce(t *testing.T) {
	const owners, capacity, quota = 32, 48 * mib, 3 * mib
	p := newPeer(t, capacity, storetest.NewClock())
	seed := storetest.Seed(t)
	clients := make([]*client, owners)
	for i := range clients {
		_, clients[i] = p.owner(quota)
	}
	watch, done := context.WithCancel(bg)
	var watching sync.WaitGroup
	watching.Go(func() {
		for watch.Err() == nil {
			st, err := p.store.Status(bg)
			if err != nil || st.Used+st.Reserved > capacity {
				t.Errorf("the store has %+v, %v", st, err)
				return
			}
		}
	})
	rounds := 6
	if storetest.Soak() {
		rounds = 60
	}
	held := make([]map[store.CrateID][]byte, owners)
	var wg sync.WaitGroup
	for i, c := range clients {
		held[i] = make(map[store.CrateID][]byte)
		wg.Go(func() { vault(t, c, rand.New(rand.NewPCG(seed, uint64(i))), rounds, quota, held[i]) })
	}
	wg.Wait()
	done()
	watching.Wait()
	var used int64
	for i, c := range clients {
		var mine int64
		for id, want := range held[i] {
			mine += store.Charge(int64(len(want)))
			if got, err := read(c, id); err != nil || !bytes.Equal(got, want) {
				t.Errorf("a crate with a receipt: %d bytes, %v", len(got), err)
			}
		}
		st, err := c.Status(bg)
		if err != nil || st.Used != mine || st.Reserved != 0 || int(st.Crates) != len(held[i]) {
			t.Errorf("owner %d has %+v, %v; want %d bytes of %d crates", i, st, err, mine, len(held[i]))
		}
		used += mine
	}
	if st, err := p.store.Status(bg); err != nil || st.Used != used || st.Reserved != 0 {
		t.Errorf("at the end the store has %+v, %v; want %d used", st, err, used)
	}
}

// vault reserves, puts and discards, and remembers what has a receipt.
func vault(t *testing.T, c *client, rng *rand.Rand, rounds int, quota int64, held map[store.CrateID][]byte) {
	g := storetest.NewGen(rng.Uint64())
	for range rounds {
		r := store.NewReservationID()
		want := int64(rng.IntN(int(quota) * 5 / 4))
		if _, err := c.Reserve(bg, store.ReserveRequest{ID: r, Bytes: 1 + want}); err != nil {
			if !errors.Is(err, store.NoSpace) && !errors.Is(err, store.Quota) {
				t.Errorf("reserve: %v", err)
			}
			continue
		}
		if st, err := c.Status(bg); err != nil || st.Used+st.Reserved > quota {
			t.Errorf("an owner has %+v, %v", st, err)
		}
		for range 3 {
			crate := g.Crate(1 + rng.IntN(mib+mib/2))
			_, err := c.Put(bg, crate.Put(r))
			if err == nil {
				held[crate.ID] = crate.Data
			} else if !errors.Is(err, store.NoSpace) {
				t.Errorf("put: %v", err)
			}
		}
		if err := c.Release(bg, r); err != nil {
			t.Errorf("release: %v", err)
		}
		for id := range held {
			if rng.IntN(2) == 0 {
				if err := c.Discard(bg, store.DiscardRequest{Crate: id}); err != nil {
					t.Errorf("discard: %v", err)
				}
				delete(held, id)
			}
		}
	}
}

// A vault that dies gives back what it had reserved, to the others, within the lease; so
// it is for one that dies while the peer is down.
func TestDeadVault(t *testing.T) {
	clock := storetest.NewClock()
	p := newPeer(t, 16*mib, clock)
	_, ann := p.owner(0)
	_, bob := p.owner(0)
	take := func(c *client, n int64, lease time.Duration) error {
		_, err := c.Reserve(bg, store.ReserveRequest{ID: store.NewReservationID(), Bytes: n, Lease: lease})
		return err
	}
	if err := take(ann, 10*mib, 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	fails(t, "before the lease is over", take(bob, 10*mib, time.Hour), store.NoSpace)
	clock.Advance(10 * time.Minute)
	if err := take(bob, 10*mib, 5*time.Minute); err != nil {
		t.Errorf("after ann's lease: %v", err)
	}
	p.stop()
	clock.Advance(5 * time.Minute)
	p.start()
	if st, err := p.store.Status(bg); err != nil || st.Reserved != 0 {
		t.Errorf("after bob's lease, over while the peer was down: %+v, %v", st, err)
	}
	if err := take(p.client(ann.id), 12*mib, 0); err != nil {
		t.Errorf("after all leases: %v", err)
	}
}

// A small writer goes on while a large one has all its places busy and stalls in them.
func TestFairness(t *testing.T) {
	p := newPeer(t, 512*mib, storetest.NewClock())
	_, big := p.owner(0)
	_, small := p.owner(0)
	g := storetest.NewGen(5)
	ctx, cancel := context.WithCancel(bg)
	defer cancel()
	var stuck sync.WaitGroup
	r := reserve(t, big, 380*mib)
	for i := range 32 {
		size := 3 * mib
		if i%2 == 0 {
			size = 2000
		}
		src, stalled := storetest.StallingSource(g.Bytes(size), int64(size)/2)
		id := g.ID()
		stuck.Go(func() {
			_, _ = big.Put(ctx, store.PutRequest{Reservation: r, Crate: id, Size: int64(size), Source: src}) // cancelled at the end
		})
		if i < 8 {
			<-stalled
		}
	}
	began := time.Now()
	for _, size := range []int{100, 5000, mib, 4 * mib} {
		keep(t, small, g.Crate(size))
	}
	reqs := make([]store.PutRequest, 100)
	rs := reserve(t, small, mib)
	for i := range reqs {
		reqs[i] = g.Crate(3000).Put(rs)
	}
	for _, res := range small.PutBatch(bg, reqs) {
		if res.Err != nil {
			t.Errorf("batch: %v", res.Err)
		}
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the small writer took %v", took)
	}
	cancel()
	stuck.Wait()
}

// What an interrupted upload holds is part of its reservation: it gives way to a crate
// that needs the space, and goes when the reservation does.
func TestPartialsAreCharged(t *testing.T) {
	clock := storetest.NewClock()
	p := newPeer(t, 64*mib, clock)
	_, ann := p.owner(0)
	g := storetest.NewGen(storetest.Seed(t))
	spooled := func() (files int) { return len(p.spoolFiles()) }
	interrupt := func(r store.ReservationID) storetest.Crate {
		t.Helper()
		c := g.Crate(4 * mib)
		req := c.Put(r)
		req.Source = storetest.BreakingSource(c.Data, 2*mib+5)
		_, err := ann.Put(bg, req)
		fails(t, "an interrupted put", err, store.Unavailable)
		return c
	}
	st := func() store.Status {
		t.Helper()
		s, err := ann.Status(bg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	r := reserve(t, ann, 2*store.Charge(4*mib))
	was := st()
	a := interrupt(r)
	b := interrupt(r)
	if now := st(); now != was || spooled() != 2 {
		t.Errorf("after two interrupted puts %+v, was %+v; %d files", now, was, spooled())
	}
	c := g.Crate(4 * mib)
	if _, err := ann.Put(bg, c.Put(r)); err != nil {
		t.Errorf("a put where interrupted ones lie: %v", err)
	}
	if spooled() != 1 {
		t.Errorf("%d files are left; the oldest should have gone", spooled())
	}
	if _, err := ann.Put(bg, b.Put(r)); err != nil {
		t.Errorf("the younger one, resumed: %v", err)
	}
	_, err := ann.Put(bg, a.Put(r))
	fails(t, "one more than there is space for", err, store.NoSpace)

	for how, end := range map[string]func(store.ReservationID){
		"released": func(r store.ReservationID) {
			if err := ann.Release(bg, r); err != nil {
				t.Error(err)
			}
		},
		"lapsed": func(store.ReservationID) { clock.Advance(2 * store.DefaultLease) },
		"shrunk": func(r store.ReservationID) {
			if _, err := ann.Reserve(bg, store.ReserveRequest{ID: r, Bytes: 1}); err != nil {
				t.Error(err)
			}
			if err := ann.Release(bg, r); err != nil {
				t.Error(err)
			}
		},
	} {
		r := reserve(t, ann, 16*mib)
		interrupt(r)
		end(r)
		if now := st(); now.Reserved != 0 || spooled() != 0 {
			t.Errorf("%s: %d reserved, %d files", how, now.Reserved, spooled())
		}
	}
	if s, err := p.store.Status(bg); err != nil || s.Reserved != 0 {
		t.Errorf("the store has %d reserved, %v", s.Reserved, err)
	}
}

// counting counts the bytes that are taken from a source, and where it was opened.
type counting struct {
	store.Source
	mu     sync.Mutex
	bytes  int64
	opened []int64
}

func (c *counting) OpenAt(ctx context.Context, offset int64) (io.ReadCloser, error) {
	c.mu.Lock()
	c.opened = append(c.opened, offset)
	c.mu.Unlock()
	rc, err := c.Source.OpenAt(ctx, offset)
	if err != nil {
		return nil, err
	}
	return &countingReader{rc, c}, nil
}

type countingReader struct {
	io.ReadCloser
	c *counting
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.c.mu.Lock()
	r.c.bytes += int64(n)
	r.c.mu.Unlock()
	return n, err
}

func (c *counting) String() string { return fmt.Sprintf("opened at %v, %d bytes", c.opened, c.bytes) }
