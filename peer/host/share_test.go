package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/directory"
	"stasis/store/storetest"
)

func (c *client) take(n int64, lease time.Duration) (store.ReservationID, []store.Share, error) {
	id := store.NewReservationID()
	shares, err := c.Reserve(bg, store.ReserveRequest{ID: id, Bytes: n, Lease: lease})
	return id, shares, err
}

// Without a quota, too, one of several owners can't reserve everything, in whatever parts, and
// what it has reserved gives way with its lease, which is no longer than a day.
func TestOneOwnerLeavesSome(t *testing.T) {
	clock := storetest.NewClock()
	p := newPeer(t, 100*mib, clock)
	_, ann := p.owner(0)
	// Who is alone may have all, and renew it.
	all, shares, err := ann.take(100*mib, 30*24*time.Hour)
	if err != nil || shares[0].Expires.After(clock.Wall().Add(LongestLease)) {
		t.Fatalf("who is alone: %+v, %v", shares, err)
	}
	if _, err := ann.Renew(bg, all); err != nil {
		t.Errorf("renewed alone: %v", err)
	}
	_, bob := p.owner(0)
	_, err = ann.Renew(bg, all)
	fails(t, "renewed beside another", err, store.NoSpace)
	clock.Advance(LongestLease)
	// Then three quarters, and a large file after a small one as well.
	if _, _, err := ann.take(mib, time.Hour); err != nil {
		t.Error(err)
	}
	large, _, err := ann.take(61*mib, time.Hour)
	if err != nil {
		t.Errorf("61 of 100: %v", err)
	}
	if st, err := ann.Status(bg); err != nil || st.Free != 13*mib {
		t.Errorf("what ann may still reserve: %+v, %v", st, err)
	}
	for range 100 {
		_, _, err = ann.take(mib, time.Hour)
	}
	fails(t, "more than its part in small parts", err, store.NoSpace)
	_, err = ann.Reserve(bg, store.ReserveRequest{ID: large, Bytes: 90 * mib})
	fails(t, "more than its part by growing", err, store.NoSpace)
	if _, err := ann.Renew(bg, large); err != nil {
		t.Errorf("renewed within its part: %v", err)
	}
	r, _, err := bob.take(18*mib, time.Hour)
	if err != nil {
		t.Fatalf("the other: %v", err)
	}
	for i := range 5 {
		if _, err := bob.Put(bg, storetest.NewGen(uint64(i)).Crate(3*mib).Put(r)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = ann.Renew(bg, large)
	fails(t, "renewed when the other has come to use the rest", err, store.NoSpace)
}

// ordered tells of the copies that a store is asked for. It has one place for all of them.
type ordered struct {
	*directory.Store
	copies int
}

func (o *ordered) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	o.copies, r.Copies = r.Copies, 0
	return o.Store.Reserve(ctx, r)
}

// The quota counts every copy that the owner orders, as reserved and as stored, through
// restarts and up to the discard.
func TestQuotaCountsCopies(t *testing.T) {
	p := newPeer(t, 128*mib, storetest.NewClock())
	p.stop()
	var inner *ordered
	p.wrap = func(s store.Store) store.Store { inner = &ordered{Store: s.(*directory.Store)}; return inner }
	p.start()
	id, ann := p.owner(16 * mib)
	r := store.NewReservationID()
	ask := store.ReserveRequest{ID: r, Bytes: 9 * mib, Copies: 2}
	_, err := ann.Reserve(bg, ask)
	fails(t, "two copies of 9 MiB with a quota of 16", err, store.Quota)
	if st, err := ann.Status(bg); err != nil || st.Reserved != 0 || st.Free != 16*mib {
		t.Errorf("after that: %+v, %v", st, err)
	}
	ask.Bytes = 8 * mib
	shares, err := ann.Reserve(bg, ask)
	if err != nil || shares[0].Bytes != 8*mib || inner.copies != 2 {
		t.Fatalf("two copies of 8 MiB: %+v, %v; the store was asked for %d", shares, err, inner.copies)
	}
	ask.Copies = 3
	_, err = ann.Reserve(bg, ask)
	fails(t, "another number of copies under the same id", err, store.Invalid)
	ask.Copies = 0
	if shares, err := ann.Reserve(bg, ask); err != nil || shares[0].Bytes != 8*mib {
		t.Errorf("a repeat: %+v, %v", shares, err)
	}
	small, large := storetest.NewGen(1).Crate(5000), storetest.NewGen(2).Crate(3*mib)
	want := int64(0)
	for _, c := range []storetest.Crate{small, large} {
		if _, err := ann.Put(bg, c.Put(r)); err != nil {
			t.Fatal(err)
		}
		want += 2 * c.Charge()
	}
	has := func(c *client) {
		t.Helper()
		if st, err := c.Status(bg); err != nil || st.Used != want || st.Used+st.Reserved != 16*mib || st.Free != 0 {
			t.Errorf("the owner has %+v, %v; want %d used", st, err, want)
		}
		if st, err := p.store.Status(bg); err != nil || st.Used != want/2 || st.Used+st.Reserved != 8*mib {
			t.Errorf("the store has %+v, %v", st, err)
		}
	}
	has(ann)
	p.stop()
	p.start()
	ann = p.client(id)
	has(ann)
	if err := errors.Join(ann.Discard(bg, store.DiscardRequest{Crate: large.ID}), ann.Release(bg, r)); err != nil {
		t.Fatal(err)
	}
	if st, err := ann.Status(bg); err != nil || st.Used != 2*small.Charge() || st.Reserved != 0 {
		t.Errorf("at the end: %+v, %v", st, err)
	}
}

// passing is a store that takes files over from the spool, but has not promised the space
// that they need there: one that passes crates on.
type passing struct{ store.Store }

func (p passing) AdoptsFrom(string) bool               { return true }
func (p passing) Resident(int64)                       {}
func (p passing) AdoptsUnder(store.ReservationID) bool { return false }
func (p passing) Adopt(ctx context.Context, r store.PutRequest, path string) ([]store.Receipt, error) {
	receipts, err := p.Put(ctx, r)
	if err == nil {
		err = os.Remove(path)
	}
	return receipts, err
}

// Uploads that were broken off have their space on the disk of the spool, where a store that
// is elsewhere does not reserve any, by owner: they don't fill it, others' uploads go on, and
// all of it comes back.
func TestSpoolIsReserved(t *testing.T) {
	d := newDisk(t, "ext4", 96<<20)
	p := newPeer(t, -1<<30, storetest.NewClock())
	p.stop()
	p.spool, p.wrap = filepath.Join(d.dir, "spool"), func(s store.Store) store.Store { return passing{s} }
	p.start()
	id, bad := p.owner(0)
	_, good := p.owner(0)
	free := func() int64 {
		t.Helper()
		u, err := p.transit.Free(bg)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	bavail := func() int64 {
		var st unix.Statfs_t
		if err := unix.Statfs(d.dir, &st); err != nil {
			t.Fatal(err)
		}
		return int64(st.Bavail) * st.Bsize
	}
	was := free()
	g := storetest.NewGen(storetest.Seed(t))
	r := reserve(t, bad, 700*mib)
	kept := 0
	for range 40 {
		c := g.Crate(16 * mib)
		req := c.Put(r)
		req.Source = storetest.BreakingSource(c.Data, 15*mib)
		if _, err := bad.Put(bg, req); !errors.Is(err, store.Unavailable) && !errors.Is(err, store.NoSpace) {
			t.Errorf("an upload that is broken off: %v", err)
		}
		if kept = len(p.spoolFiles()); bavail() < was/SparedPart/2 {
			t.Fatalf("%d uploads have left %d bytes of the disk", kept, bavail())
		}
	}
	t.Logf("%d uploads are kept, %d of %d MiB of the disk are left", kept, bavail()>>20, was>>20)
	c := g.Crate(14 * mib)
	if _, err := good.Put(bg, c.Put(reserve(t, good, 30*mib))); err != nil {
		t.Errorf("another owner's upload: %v", err)
	}
	// What interrupted uploads hold outlasts a restart, with them.
	before := free()
	p.stop()
	p.start()
	if now := free(); kept == 0 || now < before-mib || now > before+mib {
		t.Errorf("after a restart %d bytes are free, were %d", now, before)
	}
	bad = p.client(id)
	if err := bad.Release(bg, r); err != nil {
		t.Fatal(err)
	}
	if now := free(); now < was-mib || len(p.spoolFiles()) > 0 {
		t.Errorf("at the end %d bytes are free, were %d", now, was)
	}
}

// What puts under way hold of a reservation that was released counts in the owner's part like what
// is reserved: by turns of reserving, beginning to put and releasing one could have all that is free
// otherwise, and never store a byte.
func TestReleasedUnderWayCounts(t *testing.T) {
	clock := storetest.NewClock()
	p := newPeer(t, 1000*mib, clock)
	_, eve := p.owner(0)
	_, bob := p.owner(0)
	ctx, cancel := context.WithCancel(bg)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	var sent idle
	for range 10 {
		st, err := eve.Status(bg)
		if err != nil {
			t.Fatal(err)
		}
		n := st.Free &^ 4095
		if n < 4*mib {
			break
		}
		r, _, err := eve.take(n, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		size := n - n/256 - 65536 // the rest comes with it
		all.Go(func() {
			_, _ = eve.Put(ctx, store.PutRequest{Reservation: r, Crate: store.NewCrateID(), Size: size, Source: &sent})
		})
		underWay(t, p.owners[eve.id.Owner()], r)
		if err := eve.Release(bg, r); err != nil {
			t.Fatal(err)
		}
	}
	for _, when := range []string{"at once", "after ten days"} {
		st, err := p.store.Status(bg)
		if err != nil || st.Free < 1000*mib/SparedPart/2 {
			t.Errorf("%s: one owner, who has stored nothing, leaves %d of 1,000 MiB, %v", when, st.Free>>20, err)
		}
		r, _, err := bob.take(20*mib, time.Hour)
		if err != nil {
			t.Errorf("%s: another's 20 MiB: %v", when, err)
		} else if err := bob.Release(bg, r); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			clock.Advance(12 * time.Hour)
			p.owners[eve.id.Owner()].tend()
		}
	}
}

// underWay waits until a put has drawn from a reservation.
func underWay(t *testing.T, o *owner, id store.ReservationID) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		o.mu.Lock()
		active := o.leases[id].active
		o.mu.Unlock()
		if active > 0 {
			return
		}
	}
	t.Fatal("no put is under way")
}
