package container

import (
	"context"
	"sync"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/storetest"
)

// Puts whose sources give nothing, or stop in the middle, keep nobody else's out, however many
// there are: a source may be a stranger's, who sends a byte from time to time.
func TestPutsThatWaitHoldNoPlace(t *testing.T) {
	_, s := newContainer(t, 512<<20, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Fence(ctx, nil, store.NewToken(), false); err != nil {
		t.Fatal(err)
	}
	r := store.NewReservationID()
	if _, err := s.Reserve(ctx, store.ReserveRequest{ID: r, Bytes: 400 << 20}); err != nil {
		t.Fatal(err)
	}
	g := storetest.NewGen(1)
	data := g.Crate(2 * store.BlockSize).Data
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for i := range int64(2 * maxWrites) {
		// Before the first block, and after it.
		source, stalled := storetest.StallingSource(data, i%2*(store.BlockSize+1))
		all.Go(func() {
			_, _ = s.Put(ctx, store.PutRequest{Reservation: r, Crate: store.NewCrateID(), Size: 2 * store.BlockSize, Source: source})
		})
		select {
		case <-stalled:
		case <-time.After(20 * time.Second):
			t.Fatalf("after %d puts that wait the next one is not begun", i)
		}
	}
	within, done := context.WithTimeout(ctx, 20*time.Second)
	defer done()
	if _, err := s.Put(within, g.Crate(5000).Put(r)); err != nil {
		t.Errorf("beside puts that wait for their sources: %v", err)
	}
}
