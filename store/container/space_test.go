package container

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/storetest"
)

// However a crate is cut up, what its header needs beyond the charge is within
// what is set aside, and what its records need is within the log's part.
func TestOverheadSuffices(t *testing.T) {
	var sizes []int64
	for _, n := range []int64{1, 4096, 4097, 1 << 20, 100 << 20, 111 << 20, 112 << 20, 113 << 20, 1 << 30, 10 << 30, store.MaxCrate} {
		for d := int64(-1); d <= 1; d++ {
			if n+d > 0 && n+d <= store.MaxCrate {
				sizes = append(sizes, n+d)
			}
		}
	}
	for b := int64(1); b < 4000; b += 7 {
		sizes = append(sizes, b<<20)
	}
	for _, size := range sizes {
		charge := store.Charge(size) / PageSize
		data := dataPages(size)
		for _, each := range []int64{1, 2, 3, 10, 1000, data + 1} {
			// As many pieces as runs of so many pages make.
			n := (data + headerPages(size, 1) + each - 1) / each
			for range 3 { // a longer header may be cut up too
				n = (data + headerPages(size, int(n)) + each - 1) / each
			}
			need := data + headerPages(size, int(n))
			if extra := need - charge; extra > charge/256+1 || extra > 0 && charge < 256 {
				t.Fatalf("a crate of %d bytes in %d pieces needs %d pages beyond its %d", size, n, extra, charge)
			}
			if log := crateRecordBytes(int(n)); log*82 > charge*(payloadSize-maxRecord) {
				t.Fatalf("a crate of %d bytes in %d pieces takes %d bytes of the log for %d pages", size, n, log, charge)
			}
		}
	}
	for _, capacity := range []int64{MinCapacity, 64 << 20, 1 << 30, MaxCapacity} {
		if u := usable(capacity); u < capacity*8/10 || u >= capacity {
			t.Errorf("of %d bytes %d are usable", capacity, u)
		}
	}
}

// A crate in hundreds of pieces, which fills every hole that there is, is whole,
// over a restart and without the log too.
func TestCrateInManyPieces(t *testing.T) {
	g := storetest.NewGen(1)
	f, s := lossyStore(t, MinCapacity)
	ctx := context.Background()
	var small []storetest.Crate
	status := func() store.Status {
		t.Helper()
		st, err := s.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	for status().Free >= store.Charge(100) {
		c := g.Crate(100)
		store1(t, s, c)
		small = append(small, c)
	}
	for i, c := range small {
		if i%2 == 0 {
			if err := s.Discard(ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := g.Crate(int(status().Free - 2*PageSize))
	store1(t, s, c)
	if n := len(s.get(c.ID).extents); n < 200 {
		t.Errorf("it is in %d pieces only", n)
	}
	same := func(when string) {
		t.Helper()
		if p, err := contents(s, c.ID); err != nil || !bytes.Equal(p, c.Data) {
			t.Errorf("%s: %v", when, err)
		}
	}
	same("at once")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := f.killed()
	_, log, _, _ := layout(t, again)
	var err error
	if s, err = openLossy(again); err != nil {
		t.Fatal(err)
	}
	same("after a restart")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again = f.killed()
	for _, page := range log.pages {
		clear(again.data[page*PageSize:][:PageSize])
	}
	if s, err = openLossy(again); err != nil {
		t.Fatal(err)
	}
	same("without the log")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Random comings and goings up to the last byte: what was promised always fits,
// and the file never passes its capacity.
func TestFragmented(t *testing.T) {
	seed := storetest.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 5))
	g := storetest.NewGen(seed)
	const capacity = 12 << 20
	f, s := lossyStore(t, capacity)
	ctx := context.Background()
	var there []storetest.Crate
	drop := func(i int) {
		t.Helper()
		if err := s.Discard(ctx, store.DiscardRequest{Crate: there[i].ID}); err != nil {
			t.Fatal(err)
		}
		there[i] = there[len(there)-1]
		there = there[:len(there)-1]
	}
	for range rounds(8) {
		for { // fill it to the last byte
			st, err := s.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			size := 1 + rng.IntN(6000)
			if rng.IntN(20) == 0 {
				size = 1 + rng.IntN(2<<20)
			}
			if st.Free < 2*PageSize {
				break
			}
			for store.Charge(int64(size)) > st.Free {
				size = max(1, size/2)
			}
			c := g.Crate(size)
			store1(t, s, c)
			there = append(there, c)
		}
		if n, err := f.Size(); err != nil || n > capacity {
			t.Fatalf("the file has %d bytes, %v", n, err)
		}
		for range len(there) / 2 {
			drop(rng.IntN(len(there)))
		}
	}
	for _, c := range there {
		if p, err := contents(s, c.ID); err != nil || !bytes.Equal(p, c.Data) {
			t.Fatalf("%d bytes: %v", len(c.Data), err)
		}
	}
	// Emptied, the file shrinks to next to nothing.
	for len(there) > 0 {
		drop(0)
	}
	if err := errors.Join(tight(s), s.Close()); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Size(); err != nil || n > capacity/4 {
		t.Errorf("emptied, the file has %d bytes, %v", n, err)
	}
}

// The log moves out of the file's tail when it alone is there.
func TestFileShrinks(t *testing.T) {
	g := storetest.NewGen(1)
	path, s := newContainer(t, 64<<20, Options{})
	ctx := context.Background()
	if err := s.Fence(ctx, nil, store.NewToken(), false); err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	keep := g.Crate(1000)
	store1(t, s, keep)
	var cs []storetest.Crate
	for range 40 {
		c := g.Crate(1 << 20)
		store1(t, s, c)
		cs = append(cs, c)
	}
	for range 200 { // the log grows behind them
		store1(t, s, keep)
	}
	if n := size(); n < 40<<20 {
		t.Fatalf("the file has %d bytes", n)
	}
	for _, c := range cs {
		if err := s.Discard(ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var info unix.Stat_t
	if err := unix.Stat(path, &info); err != nil {
		t.Fatal(err)
	}
	if info.Size > 4<<20 || info.Blocks*512 > 2<<20 {
		t.Errorf("emptied, the file has %d bytes and takes %d", info.Size, info.Blocks*512)
	}
	s = reopen(t, path, Options{})
	if p, err := contents(s, keep.ID); err != nil || !bytes.Equal(p, keep.Data) {
		t.Error(err)
	}
}

// A container keeps as many reservations as its log has room for, and says so.
func TestReservationLimit(t *testing.T) {
	_, s := lossyStore(t, MinCapacity)
	ctx := context.Background()
	var err error
	var ids []store.ReservationID
	for range 3 * minReservations {
		id := store.NewReservationID()
		if _, err = s.Reserve(ctx, store.ReserveRequest{ID: id, Bytes: 1}); err != nil {
			break
		}
		ids = append(ids, id)
	}
	if !errors.Is(err, store.Quota) || len(ids) != minReservations {
		t.Errorf("after %d reservations %v, want a quota after %d", len(ids), err, minReservations)
	}
	if err := s.Release(ctx, ids[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reserve(ctx, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 1}); err != nil {
		t.Error(err)
	}
	if st, err := s.Status(ctx); err != nil || st.Reserved != minReservations {
		t.Errorf("%+v, %v", st, err)
	}
}

// The index takes no more memory than the documented figure.
func TestCrateMemory(t *testing.T) {
	const n = 100000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	g := storetest.NewGen(1)
	before := heap()
	st := newState()
	sp := newSpace(firstPage, 1<<30)
	for i := range int64(n) {
		es, _ := sp.alloc(2)
		if i%2 == 1 {
			sp.alloc(1)
		}
		st.add(&crate{id: g.ID(), size: 100, seq: uint64(i + 1), extents: []extent{{es[0].start, 2}}})
	}
	if each := (heap() - before) / n; each > CrateMemory {
		t.Errorf("a crate takes %d bytes of memory, not %d", each, CrateMemory)
	}
	runtime.KeepAlive(st)
	runtime.KeepAlive(sp)
}

// Small crates in batches, as a mount sends them.
func BenchmarkPutBatch4KiB(b *testing.B) {
	const batch = 256
	_, s := newContainer(b, 8<<30, Options{})
	ctx := context.Background()
	if err := s.Fence(ctx, nil, store.NewToken(), false); err != nil {
		b.Fatal(err)
	}
	g := storetest.NewGen(1)
	r := store.NewReservationID()
	if _, err := s.Reserve(ctx, store.ReserveRequest{ID: r, Bytes: int64(b.N+batch) * store.Charge(4096)}); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(4096)
	b.ResetTimer()
	for done := 0; done < b.N; done += batch {
		b.StopTimer()
		var reqs []store.PutRequest
		for range batch {
			reqs = append(reqs, g.Crate(4096).Put(r))
		}
		b.StartTimer()
		for _, res := range s.PutBatch(ctx, reqs) {
			if res.Err != nil {
				b.Fatal(res.Err)
			}
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "crates/s")
}

// Crates of 16 MiB, one after the other.
func BenchmarkPutLarge(b *testing.B) {
	_, s := newContainer(b, 8<<30, Options{})
	ctx := context.Background()
	if err := s.Fence(ctx, nil, store.NewToken(), false); err != nil {
		b.Fatal(err)
	}
	c := storetest.NewGen(1).Crate(16 << 20)
	b.SetBytes(16 << 20)
	for range b.N {
		store1(b, s, c)
		if err := s.Discard(ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
			b.Fatal(err)
		}
	}
}
