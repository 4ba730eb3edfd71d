package body

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/store"
)

func openDir(t *testing.T) *Dir {
	t.Helper()
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustCreate(t *testing.T, d *Dir, whole bool) *Body {
	t.Helper()
	b, err := d.Create(whole)
	must(t, err)
	t.Cleanup(func() { b.Release() })
	return b
}

// held gives the units of a body, as far as to.
func held(b *Body, to int64) (units []int64) {
	for u := range to {
		if _, h := b.Held(u*Unit, (u+1)*Unit); h {
			units = append(units, u)
		}
	}
	return units
}

func equal(a, b []int64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func page(fill byte) []byte { return bytes.Repeat([]byte{fill}, Unit) }

// After a kill a body has every write that returned: the live map lies beside it.
func TestLiveMapServesAfterAKill(t *testing.T) {
	d := openDir(t)
	b := mustCreate(t, d, false)
	must(t, b.Truncate(10*Unit))
	must(t, b.Write(page(1), 3*Unit))
	must(t, b.Write(page(2), 9*Unit))
	again, err := d.Load(b.ID, false, false)
	must(t, err)
	defer again.Release()
	if got := held(again, 10); !equal(got, []int64{3, 9}) {
		t.Fatalf("holds %v", got)
	}
	got := make([]byte, Unit)
	must(t, again.ReadAt(got, 9*Unit))
	if !bytes.Equal(got, page(2)) {
		t.Fatal("the second write is lost")
	}
}

// After a power cut only what Sync returned for counts, whatever the live map says.
func TestSyncedMapServesAfterAPowerCut(t *testing.T) {
	d := openDir(t)
	b := mustCreate(t, d, false)
	must(t, b.Truncate(10*Unit))
	must(t, b.Write(page(1), 3*Unit))
	must(t, b.Sync())
	must(t, b.Write(page(2), 9*Unit))
	again, err := d.Load(b.ID, false, true)
	must(t, err)
	defer again.Release()
	if got := held(again, 10); !equal(got, []int64{3}) {
		t.Fatalf("holds %v", got)
	}
	// From then on a kill finds the same.
	third, err := d.Load(b.ID, false, false)
	must(t, err)
	defer third.Release()
	if got := held(third, 10); !equal(got, []int64{3}) {
		t.Fatalf("after a kill it holds %v", got)
	}
}

// A synced map that was damaged is refused: with a wrong map the old content would show
// through, or zeros.
func TestDamagedSyncedMapIsRefused(t *testing.T) {
	d := openDir(t)
	b := mustCreate(t, d, false)
	must(t, b.Write(page(1), 0))
	must(t, b.Sync())
	path := d.Path(b.ID) + syncedSuffix
	raw, err := os.ReadFile(path)
	must(t, err)
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 0x10
		must(t, os.WriteFile(path, bad, 0o600))
		if _, err := d.Load(b.ID, false, true); store.KindOf(err) != store.Corrupt {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
	must(t, os.WriteFile(path, raw[:2], 0o600))
	if _, err := d.Load(b.ID, false, true); store.KindOf(err) != store.Corrupt {
		t.Fatalf("torn: %v", err)
	}
}

// What a truncation took away does not come back when the body grows again.
func TestTruncateForgets(t *testing.T) {
	d := openDir(t)
	b := mustCreate(t, d, false)
	must(t, b.Write(bytes.Repeat([]byte{7}, 4*Unit), 0))
	must(t, b.Truncate(Unit+10))
	must(t, b.Truncate(4*Unit))
	if got := held(b, 4); !equal(got, []int64{0, 1}) {
		t.Fatalf("holds %v", got)
	}
	got := make([]byte, 2*Unit)
	must(t, b.ReadAt(got, 0))
	want := append(bytes.Repeat([]byte{7}, Unit+10), make([]byte, Unit-10)...)
	if !bytes.Equal(got, want) {
		t.Fatal("cut bytes came back")
	}
	again, err := d.Load(b.ID, false, false)
	must(t, err)
	defer again.Release()
	if got := held(again, 4); !equal(got, []int64{0, 1}) {
		t.Fatalf("after a kill it holds %v", got)
	}
}

// The data is whole blocks, in order, that cover every byte that was written and end
// at the size.
func TestDataCoversWhatWasWritten(t *testing.T) {
	for _, whole := range []bool{true, false} {
		d := openDir(t)
		b := mustCreate(t, d, whole)
		const size = 20*store.BlockSize + 12345
		must(t, b.Truncate(size))
		rng := rand.New(rand.NewPCG(1, 2))
		var wrote []int64
		for range 5 {
			off := rng.Int64N(size/Unit) * Unit
			must(t, b.Write(page(9), off))
			wrote = append(wrote, off)
		}
		must(t, b.Truncate(size))
		c, err := b.Content(size)
		must(t, err)
		spans := c.Data
		last := int64(-1)
		for _, s := range spans {
			if s.Offset%store.BlockSize != 0 || s.Length <= 0 || s.Offset <= last {
				t.Fatalf("whole %v: span %+v in %v", whole, s, spans)
			}
			last = s.Offset + s.Length
			if last != size && last%store.BlockSize != 0 || last > size {
				t.Fatalf("whole %v: span %+v ends inside a block", whole, s)
			}
		}
		for _, off := range wrote {
			in := false
			for _, s := range spans {
				in = in || s.Offset <= off && off < s.Offset+s.Length
			}
			if !in {
				t.Fatalf("whole %v: a write at %d is in none of %v", whole, off, spans)
			}
		}
		if len(spans) > 5 {
			t.Fatalf("whole %v: five pages give %v", whole, spans)
		}
	}
}

// A body that is removed leaves nothing, one that is set aside its data alone.
func TestRemoveAndSetAside(t *testing.T) {
	d := openDir(t)
	a, b := mustCreate(t, d, false), mustCreate(t, d, false)
	must(t, a.Write(page(1), 0))
	must(t, b.Write(page(2), 0))
	must(t, a.Sync())
	must(t, b.Sync())
	must(t, d.Remove(a.ID))
	must(t, d.Remove(a.ID)) // again: fine
	to, err := d.SetAside(b.ID, "kept")
	must(t, err)
	got, err := os.ReadFile(to)
	must(t, err)
	if !bytes.Equal(got, page(2)) {
		t.Fatal("what was set aside is something else")
	}
	left, err := filepath.Glob(filepath.Join(d.Root(), "*", "*"))
	must(t, err)
	if len(left) != 1 || left[0] != to {
		t.Fatalf("left are %v", left)
	}
	if ids, err := d.List(); err != nil || len(ids) != 0 {
		t.Fatalf("lists %v, %v", ids, err)
	}
}

// A file that is recycled is empty when it comes back, as another body, and has no map.
func TestRecycledBodiesAreEmpty(t *testing.T) {
	d := openDir(t)
	first := mustCreate(t, d, false)
	must(t, first.Write(page(1), 3*Unit))
	must(t, first.Sync())
	must(t, first.Release())
	was := inode(t, d, first.ID)
	must(t, d.Recycle(first.ID))
	if _, err := d.Open(first.ID); !os.IsNotExist(err) {
		t.Fatalf("by its old id it is open: %v", err)
	}
	again := mustCreate(t, d, false)
	if again.ID == first.ID || inode(t, d, again.ID) != was {
		t.Fatal("the file was not used again, under another id")
	}
	if got := held(again, 10); len(got) != 0 {
		t.Fatalf("holds %v", got)
	}
	if size, err := again.Size(); err != nil || size != 0 {
		t.Fatalf("has %d bytes, %v", size, err)
	}
	if _, err := d.Load(again.ID, false, true); err == nil {
		t.Fatal("the synced map of its earlier life is still there")
	}
	must(t, d.Recycle(store.NewCrateID())) // not there: fine
	if other := mustCreate(t, d, true); other.ID == first.ID {
		t.Fatal("one file is two bodies")
	}
}

// A body tells when its inode was last written, whatever else was done to it, also amid
// that, and the filesystem's time from the next write on.
func TestModified(t *testing.T) {
	const ino = 7
	for _, at := range []int64{0, 1_200_000_000_999_999_999} {
		b := mustCreate(t, openDir(t), false)
		tells := func(when string, want int64) {
			t.Helper()
			if got, stamped, err := b.Modified(ino); got != want || !stamped || err != nil {
				t.Errorf("%s: %d, %v, %v; want %d", when, got, stamped, err, want)
			}
		}
		must(t, b.Write(page(1), 0))
		must(t, b.Stamp(ino, at))
		tells("stamped", at)
		must(t, b.ReadAt(make([]byte, Unit), 0))
		tells("read", at)
		must(t, b.Untimed(ino, func() error {
			must(t, b.Write(page(2), Unit))
			tells("a kill amid filling", at)
			return b.Untimed(ino, func() error { // by the next start
				must(t, b.Write(page(3), Unit))
				tells("a kill of the start after it", at)
				return nil
			})
		}))
		tells("filled", at)
		must(t, b.Write(page(4), 0))
		if got, stamped, err := b.Modified(ino); got <= at || !stamped || err != nil {
			t.Errorf("written: %d, %v, %v", got, stamped, err)
		}
		if _, stamped, err := b.Modified(ino + 1); stamped || err != nil {
			t.Errorf("what was said for one inode counts for another (%v)", err)
		}
	}
}

func inode(t *testing.T, d *Dir, id store.CrateID) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(d.Path(id), &st))
	return st.Ino
}

// What is open to be read keeps its content, whatever becomes of the body.
func TestFileThatIsReadIsNotUsedAgain(t *testing.T) {
	d := openDir(t)
	first := mustCreate(t, d, true)
	must(t, first.Write(page(1), 0))
	must(t, first.Release())
	f, err := d.Open(first.ID)
	must(t, err)
	was := inode(t, d, first.ID)
	must(t, d.Recycle(first.ID))
	for range 3 {
		b := mustCreate(t, d, true)
		must(t, b.Write(page(2), 0))
		if inode(t, d, b.ID) == was {
			t.Fatal("the file is another body while it is read")
		}
	}
	got := make([]byte, Unit)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, page(1)) {
		t.Fatalf("what was open has changed, %v", err)
	}
	must(t, f.Close())
}
