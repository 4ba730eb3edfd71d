package directory

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"stasis/store"
	"stasis/store/storetest"
)

// BenchmarkPutBatch is the way small files take: 4 KiB crates, 256 at a time.
// STASIS_BENCH_DIR chooses the filesystem.
func BenchmarkPutBatch(b *testing.B) {
	s := benchStore(b)
	ctx := context.Background()
	const batch = 256
	g := storetest.NewGen(1)
	b.SetBytes(4096)
	for done := 0; b.Loop(); done++ {
		if done%batch != 0 {
			continue
		}
		b.StopTimer()
		r := store.NewReservationID()
		rs := make([]store.PutRequest, batch)
		for i := range rs {
			c := g.Crate(4096)
			c.ID = store.NewCrateID()
			rs[i] = c.Put(r)
		}
		b.StartTimer()
		if _, err := s.Reserve(ctx, store.ReserveRequest{ID: r, Bytes: batch * store.Charge(4096)}); err != nil {
			b.Fatal(err)
		}
		for _, res := range s.PutBatch(ctx, rs) {
			if res.Err != nil {
				b.Fatal(res.Err)
			}
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "crates/s")
}

func BenchmarkPut(b *testing.B) {
	s := benchStore(b)
	ctx := context.Background()
	g := storetest.NewGen(1)
	r := store.NewReservationID()
	for b.Loop() {
		c := g.Crate(4096)
		c.ID = store.NewCrateID()
		if _, err := s.Reserve(ctx, store.ReserveRequest{ID: r, Bytes: 1 << 30}); err != nil {
			b.Skip(err)
		}
		if _, err := s.Put(ctx, c.Put(r)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "crates/s")
}

// BenchmarkList goes through 100,000 crates.
func BenchmarkList(b *testing.B) {
	s := benchStore(b)
	ctx := context.Background()
	const n, batch = 100_000, 250
	g := storetest.NewGen(1)
	r := store.NewReservationID()
	if _, err := s.Reserve(ctx, store.ReserveRequest{ID: r, Bytes: n * store.Charge(100)}); err != nil {
		b.Skip(err)
	}
	for range n / batch {
		rs := make([]store.PutRequest, batch)
		for i := range rs {
			c := g.Crate(100)
			c.ID = store.NewCrateID()
			rs[i] = c.Put(r)
		}
		for _, res := range s.PutBatch(ctx, rs) {
			if res.Err != nil {
				b.Fatal(res.Err)
			}
		}
	}
	for b.Loop() {
		listed := 0
		for cursor := []byte(nil); ; {
			page, err := s.List(ctx, cursor)
			if err != nil {
				b.Fatal(err)
			}
			listed += len(page.Crates)
			if cursor = page.Next; cursor == nil {
				break
			}
		}
		if listed != n {
			b.Fatalf("%d crates are listed", listed)
		}
	}
}

func benchStore(b *testing.B) *Store {
	dir := os.Getenv("STASIS_BENCH_DIR")
	if dir == "" {
		dir = b.TempDir()
	} else {
		var err error
		if dir, err = os.MkdirTemp(dir, "bench"); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	s := admitted(b, makeStore(b, filepath.Join(dir, "node"), 0, Options{}))
	b.Cleanup(func() { _ = s.Close() })
	return s
}
