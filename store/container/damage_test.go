package container

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/storetest"
)

// filled gives a container in memory with crates, some of them discarded, and a
// closed file.
func filled(t *testing.T, g *storetest.Gen, capacity int64, n int) (f *lossyFile, there, gone []storetest.Crate) {
	t.Helper()
	ctx := context.Background()
	f = newLossy(nil)
	if _, err := format(f, testOwner, capacity, time.Now()); err != nil {
		t.Fatal(err)
	}
	s, err := openLossy(f)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		c := g.Crate(1 + g.IntN(30000))
		if i%17 == 3 {
			c = g.Crate(store.BlockSize + g.IntN(200000))
		}
		store1(t, s, c)
		if i%5 == 4 {
			if err := s.Discard(ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
				t.Fatal(err)
			}
			gone = append(gone, c)
		} else {
			there = append(there, c)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return f.killed(), there, gone
}

func store1(t testing.TB, s *Store, c storetest.Crate) {
	t.Helper()
	ctx := context.Background()
	r := store.NewReservationID()
	if _, err := s.Reserve(ctx, store.ReserveRequest{ID: r, Bytes: c.Charge()}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(ctx, c.Put(r)); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(ctx, r); err != nil {
		t.Fatal(err)
	}
}

// layout tells what lies where, for a test to damage it.
func layout(t *testing.T, f *lossyFile) (sb superblock, log *logWriter, st *state, v *volume) {
	t.Helper()
	sb, _, _, err := readSupers(f)
	if err != nil {
		t.Fatal(err)
	}
	v = &volume{f: f, key: newKeyer(sb.pageKey()), limit: sb.capacity / PageSize}
	m, marked, _, _, err := v.readMark(&sb)
	if err != nil {
		t.Fatal(err)
	}
	st, log, _, err = v.replay(&sb, m, marked)
	if err != nil {
		t.Fatal(err)
	}
	return sb, log, st, v
}

// A page of the log before the last mark that is damaged loses no crate: the
// headers say what the log doesn't. It is reported, and mended by the opening.
func TestDamagedLog(t *testing.T) {
	seed := storetest.Seed(t)
	g := storetest.NewGen(seed)
	clean, there, _ := filled(t, g, 16<<20, 40)
	_, log, _, _ := layout(t, clean)
	if len(log.pages) < 20 {
		t.Fatalf("the log has %d pages, too few for this test", len(log.pages))
	}
	for i, page := range log.pages {
		if i%7 != 0 && i != len(log.pages)-1 && !storetest.Soak() {
			continue
		}
		f := newLossy(clean.data)
		f.data[page*PageSize+int64(g.IntN(PageSize))] ^= 16
		s, err := openLossy(f)
		if err != nil {
			t.Fatalf("log page %d: %v", i, err)
		}
		if s.damage.count() == 0 {
			t.Errorf("log page %d is damaged and nobody is told", i)
		}
		for _, c := range there {
			if p, err := contents(s, c.ID); err != nil || !bytes.Equal(p, c.Data) {
				t.Errorf("log page %d: a crate is lost: %v", i, err)
			}
		}
		// A discarded one may be back, if all of it is still there.
		page, err := s.List(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range page.Crates {
			if _, err := contents(s, info.ID); err != nil {
				t.Errorf("log page %d: a crate is listed and can't be read: %v", i, err)
			}
		}
		fresh := g.Crate(20000)
		store1(t, s, fresh)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = openLossy(f.killed()); err != nil {
			t.Fatal(err)
		}
		if n := s.damage.count(); n != 0 {
			t.Errorf("log page %d: mended, and %d damages are told of", i, n)
		}
		for _, c := range append(there, fresh) {
			if p, err := contents(s, c.ID); err != nil || !bytes.Equal(p, c.Data) {
				t.Errorf("log page %d, mended: a crate is lost: %v", i, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The last commit, torn, is cut without a word if no mark speaks of it, and what
// is before it stays.
func TestTornTail(t *testing.T) {
	g := storetest.NewGen(storetest.Seed(t))
	f := newLossy(nil)
	if _, err := format(f, testOwner, MinCapacity, time.Now()); err != nil {
		t.Fatal(err)
	}
	s, err := openLossy(f)
	if err != nil {
		t.Fatal(err)
	}
	first, last := g.Crate(5000), g.Crate(6000)
	r := store.NewReservationID()
	if _, err := s.Reserve(context.Background(), store.ReserveRequest{ID: r, Bytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []storetest.Crate{first, last} {
		if _, err := s.Put(context.Background(), c.Put(r)); err != nil {
			t.Fatal(err)
		}
	}
	// As a power cut leaves it: with the mark of the commit before.
	f = f.killed()
	_, log, _, v := layout(t, f)
	at := log.pages[len(log.pages)-1]
	for i := range int64(markPages) {
		if m, err := decodeMark(v.key, f.data[(superPages+i)*PageSize:][:PageSize], superPages+i); err == nil && m.index == int64(len(log.pages))-1 {
			clear(f.data[(superPages+i)*PageSize:][:PageSize])
		}
	}
	clear(f.data[at*PageSize+64:][:2048])
	again, err := openLossy(f)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if n := again.damage.count(); n != 0 {
		t.Errorf("%d damages told of for a torn tail", n)
	}
	if p, err := contents(again, first.ID); err != nil || !bytes.Equal(p, first.Data) {
		t.Errorf("what was before the tail: %v", err)
	}
	if _, err := contents(again, last.ID); !errors.Is(err, store.NotFound) {
		t.Errorf("what was in the tail: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Damage anywhere: the container opens or says that it is corrupt; what it gives
// is right; and what is lost is told of.
func TestDamageAnywhere(t *testing.T) {
	seed := storetest.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 2))
	g := storetest.NewGen(seed)
	clean, there, gone := filled(t, g, 8<<20, 30)
	for round := range rounds(40) {
		f := newLossy(clean.data)
		for range 1 + rng.IntN(5) {
			at := rng.IntN(len(f.data))
			switch rng.IntN(3) {
			case 0:
				f.data[at] ^= 1 << rng.IntN(8)
			case 1:
				clear(f.data[at:min(len(f.data), at+rng.IntN(20000))])
			case 2: // a write to the wrong place
				from := rng.IntN(len(f.data)/PageSize) * PageSize
				copy(f.data[at/PageSize*PageSize:], f.data[from:min(len(f.data), from+PageSize)])
			}
		}
		s, err := openLossy(f)
		if err != nil {
			if !errors.Is(err, store.Corrupt) && !errors.Is(err, store.Unavailable) {
				t.Fatalf("round %d: %v", round, err)
			}
			continue
		}
		lost := 0
		for _, c := range there {
			p, err := contents(s, c.ID)
			if err == nil && !bytes.Equal(p, c.Data) {
				t.Fatalf("round %d: wrong bytes", round)
			}
			if err != nil {
				lost++
			}
		}
		for _, c := range gone { // may come back, but not changed
			if p, err := contents(s, c.ID); err == nil && !bytes.Equal(p, c.Data) {
				t.Fatalf("round %d: wrong bytes of a discarded crate", round)
			}
		}
		if lost > 0 && s.damage.count() == 0 {
			t.Errorf("round %d: %d crates lost and no damage told of", round, lost)
		}
		// It works on.
		ctx := context.Background()
		for _, c := range there {
			if err := s.Discard(ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		store1(t, s, g.Crate(30000))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
