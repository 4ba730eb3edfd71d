package host

import (
	"testing"

	"stasis/store"
	"stasis/store/booking"
	"stasis/store/storetest"
)

// Small crates in batches: what a session costs beside the store itself.
func BenchmarkBatch(b *testing.B) {
	p := newPeer(b, 0, booking.System)
	_, c := p.owner(0)
	if err := p.store.(store.Fencer).Fence(bg, nil, store.NewToken(), true); err != nil {
		b.Fatal(err)
	}
	for name, s := range map[string]store.Store{"session": c, "store": p.store} {
		b.Run(name, func(b *testing.B) {
			g := storetest.NewGen(1)

			r := reserve(b, s, int64(b.N+256)*store.Charge(4096))
			crates := make([]store.PutRequest, b.N)
			for i := range crates {
				c := g.Crate(4096)
				c.ID = store.NewCrateID()
				crates[i] = c.Put(r)
			}
			b.ResetTimer()
			for len(crates) > 0 {
				n := min(256, len(crates))
				for _, res := range s.(store.Batcher).PutBatch(bg, crates[:n]) {
					if res.Err != nil {
						b.Fatal(res.Err)
					}
				}
				crates = crates[n:]
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "crates/s")
		})
	}
}

// A large crate, through the spool and adopted.
func BenchmarkUpload(b *testing.B) {
	p := newPeer(b, 0, booking.System)
	_, c := p.owner(0)
	g := storetest.NewGen(1)
	crate := g.Crate(64 * mib)
	b.SetBytes(int64(len(crate.Data)))
	for b.Loop() {
		crate.ID = store.NewCrateID()
		keep(b, c, crate)
		if err := c.Discard(bg, store.DiscardRequest{Crate: crate.ID}); err != nil {
			b.Fatal(err)
		}
	}
}
