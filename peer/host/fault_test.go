package host

import (
	"bytes"
	"fmt"
	"testing"

	"stasis/store"
	"stasis/store/storetest"
	"stasis/store/storetest/fault"
)

// Whatever call of the store fails, or loses its answer, at whatever step: a repeat
// succeeds, nothing is charged twice, and in the end all space comes back.
func TestStoreFails(t *testing.T) {
	ops := map[string]fault.Op{"reserve": fault.Reserve, "renew": fault.Renew, "release": fault.Release, "put": fault.Put, "stat": fault.Stat, "discard": fault.Discard}
	kinds := []store.Kind{store.Unavailable, store.NoSpace, store.NotFound}
	most := 2
	if storetest.Soak() {
		most = 12
	}
	for name, op := range ops {
		t.Run(name, func(t *testing.T) {
			for n := 1; n <= most; n++ {
				for _, lost := range []bool{false, true} {
					for _, kind := range kinds {
						if lost && kind != store.Unavailable {
							continue
						}
						if !failAt(t, op, n, kind, lost) {
							return // there is no nth call
						}
						if t.Failed() {
							t.Fatalf("call %d failed with %v, answer lost: %v", n, kind, lost)
						}
					}
				}
			}
		})
	}
}

// failAt runs a vault's work with one failing call; false if the call never came.
func failAt(t *testing.T, op fault.Op, n int, kind store.Kind, lost bool) bool {
	t.Helper()
	p, f := withFaults(t, 64*mib, storetest.NewClock())
	_, c := p.owner(0)
	before := f.Calls(op)
	err := &store.Error{Kind: kind, Op: "reach the disk", Detail: "the test wants it"}
	if lost {
		f.LoseAnswer(op, n, err)
	} else {
		f.Fail(op, n, err)
	}
	g := storetest.NewGen(uint64(n))
	small, large := g.Crate(500), g.Crate(2*mib+1)
	batch := []storetest.Crate{g.Crate(100), g.Crate(200), g.Crate(300)}
	all := append([]storetest.Crate{small, large}, batch...)
	r := store.NewReservationID()
	try := func(what string, do func() error) {
		t.Helper()
		var err error
		for range 3 {
			if err = do(); err == nil {
				return
			}
		}
		t.Errorf("%s: %v, again and again", what, err)
	}
	reserve := func(bytes int64) func() error {
		return func() error { _, err := c.Reserve(bg, store.ReserveRequest{ID: r, Bytes: bytes}); return err }
	}
	try("reserve", reserve(8*mib))
	try("grow", reserve(16*mib))
	try("shrink", reserve(10*mib))
	try("renew", func() error { _, err := c.Renew(bg, r); return err })
	for _, crate := range all[:2] {
		try("put", func() error { _, err := c.Put(bg, crate.Put(r)); return err })
	}
	try("batch", func() error {
		var rs []store.PutRequest
		for _, crate := range batch {
			rs = append(rs, crate.Put(r))
		}
		for _, res := range c.PutBatch(bg, rs) {
			if res.Err != nil {
				return res.Err
			}
		}
		return nil
	})
	var used int64
	for _, crate := range all {
		used += crate.Charge()
		if got, err := read(c, crate.ID); err != nil || !bytes.Equal(got, crate.Data) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
	}
	agree := func(when string, used, reserved int64, crates int) {
		t.Helper()
		for who, s := range map[string]store.Store{"owner": c, "store": p.store} {
			st, err := s.Status(bg)
			if got, want := fmt.Sprint(st.Used, st.Reserved, st.Crates, err), fmt.Sprint(used, reserved, crates, nil); got != want {
				t.Errorf("%s the %s has %s, want %s", when, who, got, want)
			}
		}
	}
	agree("with all there", used, 10*mib-used, len(all))
	try("discard", func() error { return c.Discard(bg, store.DiscardRequest{Crate: small.ID}) })
	try("release", func() error { return c.Release(bg, r) })
	try("discard", func() error { return c.Discard(bg, store.DiscardRequest{Crate: large.ID}) })
	came := f.Calls(op) - before
	p.owners[c.id.Owner()].tend() // what failed behind an answer is tried again
	agree("in the end", used-small.Charge()-large.Charge(), 0, len(batch))
	p.stop()
	p.start()
	c = p.client(c.id)
	agree("after a restart", used-small.Charge()-large.Charge(), 0, len(batch))
	return came >= n
}
