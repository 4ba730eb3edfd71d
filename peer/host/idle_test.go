package host

import (
	"context"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/container"
	"stasis/store/ledger"
	"stasis/store/storetest"
)

// idle is the source of senders who begin and then send nothing. It counts them.
type idle struct{ begun atomic.Int64 }

func (s *idle) OpenAt(ctx context.Context, offset int64) (io.ReadCloser, error) {
	source, _ := storetest.StallingSource(nil, 0)
	s.begun.Add(1)
	return source.OpenAt(ctx, 0)
}

// await waits until so many have begun; false if they don't.
func (s *idle) await(n int64) bool {
	for deadline := time.Now().Add(20 * time.Second); s.begun.Load() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// One owner's uploads that send nothing, and that go on to a container as they come, don't keep
// another's crates out of it: there is a bound to their memory, and the store lets nobody wait for
// them.
func TestIdleUploadsKeepNobodyOut(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "container")
	if _, err := container.Create(at, keeper, 1<<30, container.Options{}); err != nil {
		t.Fatal(err)
	}
	st, err := container.Open(bg, at, store.NodeID{}, keeper, container.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, store: st}
	if p.db, err = ledger.Open(filepath.Join(dir, "ledger"), ledger.Small()); err != nil {
		t.Fatal(err)
	}
	if p.Host, err = Open(bg, Options{Ledger: p.db, Store: st}); err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	_, eve := p.owner(0)
	_, bob := p.owner(0)
	bobs, eves := reserve(t, bob, 16*mib), reserve(t, eve, 256*mib)
	ctx, cancel := context.WithCancel(bg)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	var sent idle
	for range 64 {
		all.Go(func() {
			_, _ = eve.Put(ctx, store.PutRequest{Reservation: eves, Crate: store.NewCrateID(), Size: 2 * mib, Source: &sent})
		})
	}
	const most = (MemoryAnOwner + MemoryPool) / store.BlockSize
	if !sent.await(most) {
		t.Errorf("%d uploads have begun, of %d for which there is memory", sent.begun.Load(), most)
	}
	within, done := context.WithTimeout(bg, 20*time.Second)
	defer done()
	for _, c := range []storetest.Crate{storetest.NewGen(1).Crate(5000), storetest.NewGen(2).Crate(2*mib + 1)} {
		if _, err := bob.Put(within, c.Put(bobs)); err != nil {
			t.Errorf("another's %d bytes: %v", len(c.Data), err)
		}
	}
	if n := sent.begun.Load(); n > most {
		t.Errorf("%d uploads of one owner have a block in memory, more than %d", n, most)
	}
}
