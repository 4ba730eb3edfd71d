package host

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/storetest"
	"stasis/store/storetest/fault"
)

func (p *peer) spoolFiles() []string {
	p.t.Helper()
	dir := p.spool
	if dir == "" {
		dir = filepath.Join(p.dir, "spool")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		p.t.Fatal(err)
	}
	var paths []string
	for _, e := range entries {
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	return paths
}

// interrupted puts a crate up to a byte.
func interrupted(t testing.TB, c *client, crate storetest.Crate, r store.ReservationID, n int64) {
	t.Helper()
	req := crate.Put(r)
	req.Source = storetest.BreakingSource(crate.Data, n)
	_, err := c.Put(bg, req)
	fails(t, "an interrupted put", err, store.Unavailable)
	if _, err := c.Stat(bg, crate.ID); !errors.Is(err, store.NotFound) {
		t.Errorf("half a crate is visible: %v", err)
	}
}

func resumed(t testing.TB, c *client, crate storetest.Crate, r store.ReservationID, opened ...int64) {
	t.Helper()
	src := &counting{Source: storetest.BytesSource(crate.Data)}
	req := crate.Put(r)
	req.Source = src
	receipts, err := c.Put(bg, req)
	if err != nil || receipts[0].Sums.Root() != crate.Root() {
		t.Fatalf("put: %v", err)
	}
	if !slices.Equal(src.opened, opened) {
		t.Errorf("%v; want it opened at %v", src, opened)
	}
	if got, err := read(c, crate.ID); err != nil || !bytes.Equal(got, crate.Data) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}

// A broken transfer goes on at the block where it stopped: after the link broke, after
// the peer was started again, under another reservation.
func TestResume(t *testing.T) {
	clock := storetest.NewClock()
	p := newPeer(t, 64*mib, clock)
	_, ann := p.owner(0)
	g := storetest.NewGen(storetest.Seed(t))
	r := reserve(t, ann, 40*mib)

	c := g.Crate(5*mib + 7)
	interrupted(t, ann, c, r, 2*mib+100)
	interrupted(t, ann, c, r, 3*mib+100)
	resumed(t, ann, c, r, 3*mib)

	c = g.Crate(5 * mib)
	interrupted(t, ann, c, r, 4*mib+1)
	p.stop()
	p.start()
	ann = p.client(ann.id)
	resumed(t, ann, c, r, 4*mib)

	c = g.Crate(3 * mib)
	interrupted(t, ann, c, r, 2*mib)
	other := reserve(t, ann, 4*mib)
	resumed(t, ann, c, other, 2*mib)

	// Less than a block is nothing to resume.
	c = g.Crate(3 * mib)
	interrupted(t, ann, c, r, mib-1)
	resumed(t, ann, c, r, 0)

	// Without a known digest nobody could tell whether the parts belong together.
	c = g.Crate(3 * mib)
	interrupted(t, ann, c, r, 2*mib)
	req := c.Put(r)
	src := &counting{Source: req.Source}
	req.Source, req.Expect = src, nil
	if _, err := ann.Put(bg, req); err != nil || !slices.Equal(src.opened, []int64{0}) {
		t.Errorf("%v, %v", src, err)
	}

	// Whoever goes on says it; who began need not have known it.
	for _, stopped := range []bool{false, true} {
		c = g.Crate(3 * mib)
		req = c.Put(r)
		req.Source, req.Expect = storetest.BreakingSource(c.Data, 2*mib+9), nil
		_, err := ann.Put(bg, req)
		fails(t, "an interrupted put without a digest", err, store.Unavailable)
		if stopped {
			p.stop()
			p.start()
			ann = p.client(ann.id)
		}
		resumed(t, ann, c, r, 2*mib)
	}
	if left := p.spoolFiles(); len(left) != 0 {
		t.Errorf("left in the spool: %v", left)
	}
	if st, err := p.store.Status(bg); err != nil || st.Reserved != 40*mib+4*mib-store.Charge(5*mib+7)-store.Charge(5*mib)-5*store.Charge(3*mib) {
		t.Errorf("the store has %+v, %v", st, err)
	}
}

// Bytes of an earlier attempt that are wrong, whoever is at fault, cost another transfer
// and are never said to be the sender's.
func TestResumeOverWrongBytes(t *testing.T) {
	p := newPeer(t, 64*mib, storetest.NewClock())
	_, ann := p.owner(0)
	g := storetest.NewGen(storetest.Seed(t))
	r := reserve(t, ann, 40*mib)
	spoil := func(change func(path string) error) {
		t.Helper()
		files := p.spoolFiles()
		if len(files) != 1 {
			t.Fatalf("in the spool: %v", files)
		}
		if err := change(files[0]); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(path string) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b[77] ^= 1
		return os.WriteFile(path, b, 0o600)
	}

	// The sender's earlier attempt had other bytes.
	c := g.Crate(4 * mib)
	lie := bytes.Clone(c.Data)
	lie[5] ^= 1
	interrupted(t, ann, storetest.Crate{ID: c.ID, Data: lie, Sums: c.Sums}, r, 2*mib)
	resumed(t, ann, c, r, 2*mib, 0)

	// And did not know what they were to become.
	c = g.Crate(4 * mib)
	req := c.Put(r)
	req.Source, req.Expect = storetest.BreakingSource(lie, 2*mib+1), nil
	_, err := ann.Put(bg, req)
	fails(t, "an interrupted put of other bytes", err, store.Unavailable)
	resumed(t, ann, c, r, 2*mib, 0)

	// The disk lost some in a power cut.
	c = g.Crate(4 * mib)
	interrupted(t, ann, c, r, 3*mib)
	p.stop()
	spoil(flip)
	p.start()
	ann = p.client(ann.id)
	resumed(t, ann, c, r, 3*mib, 0)

	// Or all.
	c = g.Crate(4 * mib)
	interrupted(t, ann, c, r, 3*mib)
	p.stop()
	spoil(os.Remove)
	p.start()
	ann = p.client(ann.id)
	resumed(t, ann, c, r, 0)

	// Or the end of it.
	c = g.Crate(4 * mib)
	interrupted(t, ann, c, r, 3*mib)
	p.stop()
	spoil(func(path string) error { return os.Truncate(path, mib+9) })
	p.start()
	ann = p.client(ann.id)
	resumed(t, ann, c, r, mib)

	// It loses them while the host runs: the sender is told to come again.
	c = g.Crate(4 * mib)
	interrupted(t, ann, c, r, 3*mib)
	spoil(flip)
	_, err = ann.Put(bg, c.Put(r))
	fails(t, "a put over a lossy disk", err, store.Unavailable)
	resumed(t, ann, c, r, 0)
	if left := p.spoolFiles(); len(left) != 0 {
		t.Errorf("left in the spool: %v", left)
	}
}

// withFaults makes a peer over a directory that fails on demand.
func withFaults(t testing.TB, capacity int64, clock *storetest.Clock) (*peer, *fault.Full) {
	t.Helper()
	p := &peer{t: t, dir: t.TempDir(), clock: clock}
	var f *fault.Full
	p.wrap = func(s store.Store) store.Store {
		f, _ = fault.WrapFull(s) // a directory has every optional interface
		return f
	}
	p.make(capacity)
	p.start()
	t.Cleanup(func() {
		f.Heal()
		if p.Host != nil {
			p.stop()
		}
	})
	return p, f
}

// A crate that came whole isn't sent again because the store failed, or because the
// sender went away while the store was at work.
func TestCompleteUploadWaits(t *testing.T) {
	p, f := withFaults(t, 64*mib, storetest.NewClock())
	_, ann := p.owner(0)
	g := storetest.NewGen(storetest.Seed(t))
	r := reserve(t, ann, 40*mib)
	down := &store.Error{Kind: store.Unavailable, Op: "reach the disk"}

	c := g.Crate(3*mib + 3)
	f.Fail(fault.Put, 1, down)
	_, err := ann.Put(bg, c.Put(r))
	fails(t, "put into a store that fails", err, store.Unavailable)
	resumed(t, ann, c, r)

	c = g.Crate(3 * mib)
	f.Stall(fault.Put, 1)
	ctx, cancel := context.WithCancel(bg)
	done := make(chan error, 1)
	calls := f.Calls(fault.Put)
	go func() { _, err := ann.Put(ctx, c.Put(r)); done <- err }()
	for f.Calls(fault.Put) == calls {
		time.Sleep(time.Millisecond) // there is no other sign that the store is asked
	}
	cancel()
	f.Heal()
	if err := <-done; err != nil {
		t.Errorf("a put whose sender went away at the end: %v", err)
	}
	resumed(t, ann, c, r)

	// The store has it, and its answer was lost: the repeat finds it, nothing is drawn twice.
	c = g.Crate(3 * mib)
	f.LoseAnswer(fault.Put, 1, down)
	_, err = ann.Put(bg, c.Put(r))
	fails(t, "put with a lost answer", err, store.Unavailable)
	resumed(t, ann, c, r)
	if left := p.spoolFiles(); len(left) != 0 {
		t.Errorf("left in the spool: %v", left)
	}
	want := 40*mib - store.Charge(3*mib+3) - 2*store.Charge(3*mib)
	for who, s := range map[string]store.Store{"owner": ann, "store": p.store} {
		if st, err := s.Status(bg); err != nil || st.Reserved != want || st.Crates != 3 {
			t.Errorf("the %s has %+v, %v; want %d reserved", who, st, err, want)
		}
	}
}
