package fault

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/memory"
	"stasis/store/storetest"
)

func open(t testing.TB, o storetest.Options) store.Store {
	m, err := memory.New(o.Capacity, memory.Options{Clock: o.Clock})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A decorator without rules must be invisible.
func TestTransparent(t *testing.T) {
	storetest.Run(t, storetest.Factory{New: func(t testing.TB, o storetest.Options) *storetest.Instance {
		return &storetest.Instance{Store: Wrap(open(t, o))}
	}})
}

func TestRules(t *testing.T) {
	ctx := context.Background()
	s := Wrap(open(t, storetest.Options{Capacity: 16 << 20, Clock: storetest.NewClock()}))
	defer s.Close()
	g := storetest.NewGen(storetest.Seed(t))
	c := g.Crate(10000)
	r := store.ReserveRequest{ID: store.NewReservationID(), Bytes: 1 << 20}

	boom := errors.New("boom")
	s.Fail(Reserve, 2, boom)
	for i, want := range []error{nil, boom, nil} {
		if _, err := s.Reserve(ctx, r); !errors.Is(err, want) {
			t.Errorf("call %d: %v, want %v", i+1, err, want)
		}
	}
	if n := s.Calls(Reserve); n != 3 {
		t.Errorf("%d calls counted, want 3", n)
	}

	s.Flip(Put, 1, 17)
	if _, err := s.Put(ctx, c.Put(r.ID)); !errors.Is(err, store.Corrupt) {
		t.Errorf("a flipped byte on its way in: %v", err)
	}
	s.LoseAnswer(Put, 1, boom)
	if _, err := s.Put(ctx, c.Put(r.ID)); !errors.Is(err, boom) {
		t.Errorf("a lost answer: %v", err)
	}
	if _, err := s.Stat(ctx, c.ID); err != nil {
		t.Errorf("the store should have done it: %v", err)
	}

	read := func() ([]byte, error) {
		rc, err := s.Open(ctx, c.ID, 0, -1)
		if err != nil {
			return nil, err
		}
		defer rc.Close()
		return io.ReadAll(rc)
	}
	s.Flip(Open, 1, 9999)
	want := bytes.Clone(c.Data)
	want[9999] ^= 1
	if p, err := read(); err != nil || !bytes.Equal(p, want) {
		t.Errorf("flipped on its way out: %d bytes, %v", len(p), err)
	}
	s.Truncate(Open, 1, 100)
	if p, err := read(); err != nil || !bytes.Equal(p, c.Data[:100]) {
		t.Errorf("truncated: %d bytes, %v", len(p), err)
	}
	s.Break(Open, 1, 100)
	if p, err := read(); !errors.Is(err, store.Unavailable) || !bytes.Equal(p, c.Data[:100]) {
		t.Errorf("broken off: %d bytes, %v", len(p), err)
	}

	s.Stall(Stat, 0)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := s.Stat(short, c.ID); !errors.Is(err, store.Unavailable) {
		t.Errorf("stalled: %v", err)
	}
	done := make(chan error, 1)
	calls := s.Calls(Stat)
	go func() { _, err := s.Stat(ctx, c.ID); done <- err }()
	for s.Calls(Stat) == calls {
		time.Sleep(time.Millisecond)
	}
	s.Heal()
	if err := <-done; err != nil {
		t.Errorf("healed: %v", err)
	}

	s.Down()
	for range 2 {
		if _, err := s.List(ctx, nil); !errors.Is(err, store.Unavailable) {
			t.Errorf("down: %v", err)
		}
	}
	s.Heal()
	if p, err := read(); err != nil || !bytes.Equal(p, c.Data) {
		t.Errorf("up again: %d bytes, %v", len(p), err)
	}
}
