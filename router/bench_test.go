package router

import (
	"context"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/ledger"
	"stasis/store/storetest"
)

// BenchmarkPlace puts crates of 4 KiB on two memory nodes, from the draw to the second
// receipt.
func BenchmarkPlace(b *testing.B) {
	g := newRig(b, 8*gib, 8*gib)
	g.start()
	crates := make([]storetest.Crate, b.N)
	for i := range crates {
		crates[i] = g.gen.Crate(4096)
		g.bodies.add(b, crates[i])
	}
	time.Sleep(200 * time.Millisecond) // the grants
	b.ResetTimer()
	var front time.Duration
	for _, c := range crates {
		begin := time.Now()
		plan, err := g.r.Draw(context.Background(), DrawRequest{Policy: two, Bytes: c.Charge()})
		if err != nil {
			b.Fatal(err)
		}
		if err := g.enqueue(plan, c); err != nil {
			b.Fatal(err)
		}
		front += time.Since(begin)
	}
	for g.r.Pending().Crates > 0 {
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "crates/s")
	b.ReportMetric(float64(front.Microseconds())/float64(b.N), "us-front")
	if n := g.copies(crates[b.N-1].ID); n != 2 {
		b.Errorf("%d copies", n)
	}
}

// BenchmarkDraw is what a close costs of the router itself.
func BenchmarkDraw(b *testing.B) {
	g := newRig(b, 64*gib, 64*gib)
	g.start()
	time.Sleep(200 * time.Millisecond)
	b.ReportAllocs()
	for b.Loop() {
		plan, err := g.r.Draw(context.Background(), DrawRequest{Policy: two, Bytes: 8192})
		if err != nil {
			b.Fatal(err)
		}
		g.r.Return(plan)
	}
}

// BenchmarkRegister is what the transactions cost, the ledger included.
func BenchmarkRegister(b *testing.B) {
	g := newRig(b, 64*gib, 64*gib)
	g.start()
	time.Sleep(200 * time.Millisecond)
	plan, err := g.r.Draw(context.Background(), DrawRequest{Policy: two, Bytes: 8192})
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []string{"n0", "n1"} {
		g.r.mu.Lock()
		g.r.named(n).leaving = true // nothing is sent
		g.r.mu.Unlock()
	}
	b.ReportAllocs()
	for b.Loop() {
		id := store.NewCrateID()
		_, err := g.db.Space(ledger.Shared).Update(func(tx *ledger.Tx) error {
			return g.r.RegisterTx(tx, NewCrate{ID: id, Size: 4096, Origin: 7, Plan: plan})
		})
		if err != nil {
			b.Fatal(err)
		}
		_, err = g.db.Space(ledger.Local).Update(func(tx *ledger.Tx) error {
			_, err := g.r.EnqueueTx(tx, id, 4096, plan)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
