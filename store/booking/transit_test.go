package booking

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// Files on their way have their space on the disk where they lie, beside what a store there
// has promised, no holder gets more than its part, and all of it comes back.
func TestTransit(t *testing.T) {
	const mib = 1 << 20
	dir := t.TempDir()
	tr, err := OpenTransit(dir, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	d := &disk{}
	d.avail.Store(100 * mib)
	tr.book.o.Avail = d.ask
	node := New(Options{Device: st.Dev, Avail: d.ask}, Totals{}, nil)
	defer node.Close()
	free := func(want int64) {
		t.Helper()
		if a, b := usage(t, node).Free, usage(t, tr.book).Free; a != want || b != want {
			t.Errorf("the store has %d free and the directory %d, want %d", a, b, want)
		}
	}
	ctx := context.Background()
	ann, bob := store.OwnerID{1}, store.OwnerID{2}
	most := func(free int64) int64 { return free / 2 }
	a, err := tr.Hold(ctx, ann, 40*mib, most)
	if err != nil {
		t.Fatal(err)
	}
	free(60 * mib)
	if _, err := tr.Hold(ctx, ann, 20*mib, most); !errors.Is(err, store.NoSpace) {
		t.Errorf("more than its part: %v", err)
	}
	free(60 * mib)
	b, err := tr.Hold(ctx, bob, 30*mib, most)
	if err != nil {
		t.Errorf("another's part: %v", err)
	}
	free(30 * mib)
	// What is written is not counted twice, and what is written anew is.
	d.avail.Add(-25 * mib)
	a.Written(25 * mib)
	free(30 * mib)
	d.avail.Add(25 * mib)
	a.Removed(25 * mib)
	free(30 * mib)
	if err := reserve(node, 1, 20*mib); err != nil {
		t.Fatal(err)
	}
	free(10 * mib)
	// A file for which the store has promised the space.
	c := tr.Cover()
	d.avail.Add(-15 * mib)
	c.Written(15 * mib)
	free(10 * mib)
	c.End()
	d.avail.Add(15 * mib)
	free(10 * mib)
	for range 2 {
		a.End()
		b.End()
	}
	free(80 * mib)
	if len(tr.held) > 0 {
		t.Errorf("held are %v", tr.held)
	}
}
