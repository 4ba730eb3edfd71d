package body

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// unitRun is a run of units, [from, to).
type unitRun struct{ from, to int64 }

// runs gives the held runs of a map, as far as to.
func (m *Map) runs(to int64) (out []unitRun) {
	for u := int64(0); u < to; {
		n, held := m.Run(u, to)
		if held {
			out = append(out, unitRun{u, u + n})
		}
		u += n
	}
	return out
}

func runsOf(want []bool) (out []unitRun) {
	for u, held := range want {
		switch n := len(out); {
		case !held:
		case n > 0 && out[n-1].to == int64(u):
			out[n-1].to++
		default:
			out = append(out, unitRun{int64(u), int64(u) + 1})
		}
	}
	return out
}

func same(a, b []unitRun) bool {
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

// drawUnit draws a unit that is likely to lie at an edge of a word or a chunk.
func drawUnit(t *rapid.T, label string, units int64) int64 {
	at := rapid.Int64Range(0, units).Draw(t, label)
	switch rapid.IntRange(0, 3).Draw(t, label+" edge") {
	case 0:
		at = at / chunk * chunk
	case 1:
		at = at/64*64 + 1
	}
	return min(at, units)
}

// The map answers as a slice of bools would, through its synced form and its live one too.
func TestMapIsASetOfUnits(t *testing.T) {
	const units = 5*chunk + 100
	rapid.Check(t, func(t *rapid.T) {
		var m Map
		want := make([]bool, units)
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			from, to := drawUnit(t, "from", units), drawUnit(t, "to", units)
			if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
				m.cut(from)
				clear(want[from:])
				continue
			}
			if rapid.Bool().Draw(t, "short") {
				to = min(to, from+70)
			}
			fresh := false
			for u := from; u < to; u++ {
				fresh = fresh || !want[u]
				want[u] = true
			}
			if got, _ := m.set(from, to); got != fresh {
				t.Fatalf("set(%d, %d) said %v", from, to, got)
			}
		}
		synced, ok := decodeMap(m.encode())
		if !ok {
			t.Fatal("the synced form is refused")
		}
		var live Map
		for _, p := range m.patches(0, maxUnits) {
			live.add(p)
		}
		count := int64(0)
		for _, r := range runsOf(want) {
			count += r.to - r.from
		}
		for i, m := range []Map{m, synced, live} {
			if got := m.runs(units); !same(got, runsOf(want)) {
				t.Fatalf("form %d has %v, want %v", i, got, runsOf(want))
			}
			if got := m.count(0, units); got != count {
				t.Fatalf("form %d counts %d, want %d", i, got, count)
			}
			u := rapid.Int64Range(0, units-1).Draw(t, "unit")
			if m.Has(u) != want[u] {
				t.Fatalf("form %d: unit %d is %v", i, u, m.Has(u))
			}
		}
	})
}

// Whatever was done to a body, a kill leaves the map as it was, and a power cut that of the
// last sync; chunks that go over from bits to a whole and back leave nothing behind.
func TestMapOfABodySurvives(t *testing.T) {
	const units = 5 * chunk
	d := openDir(t)
	b := mustCreate(t, d, false)
	must(t, b.Truncate(units*Unit))
	want := make([]bool, units)
	rng := rand.New(rand.NewPCG(3, 4))
	edge := func() int64 {
		at := rng.Int64N(units)
		if rng.IntN(2) == 0 {
			at = at / chunk * chunk
		}
		return at
	}
	for step := range 150 {
		from, to := edge(), edge()
		switch rng.IntN(4) {
		case 0:
			must(t, b.Truncate(from*Unit))
			clear(want[from:])
			must(t, b.Truncate(units*Unit))
		case 1:
			must(t, b.Write(page(1), from*Unit))
			want[from] = true
		default:
			must(t, b.Punch(from*Unit, to*Unit))
			for u := from; u < to; u++ {
				want[u] = true
			}
		}
		cut := step%4 == 0
		if cut {
			must(t, b.Sync())
		}
		again, err := d.Load(b.ID, false, cut)
		must(t, err)
		if got := again.held.runs(units); !same(got, runsOf(want)) {
			t.Fatalf("step %d: it has %v, want %v", step, got, runsOf(want))
		}
		must(t, b.Release())
		b = again
	}
	must(t, b.Release())
}

// What is held of a file of any size costs what there is to tell, in memory and on the disk.
func TestMapOfAHugeFileIsSmall(t *testing.T) {
	d := openDir(t)
	b := mustCreate(t, d, false)
	const size = int64(8) << 40 // what ext4 takes
	must(t, b.Truncate(size))
	must(t, b.Write(page(7), size-Unit))
	must(t, b.Punch(Unit, size-Unit))
	must(t, b.Write(page(8), size/2))
	must(t, b.Sync())
	if n := len(b.held.parts); n > 5 {
		t.Errorf("%d parts", n)
	}
	for _, suffix := range []string{"", liveSuffix, syncedSuffix} {
		disk, err := openFile(d.Path(b.ID)+suffix, os.O_RDONLY)
		must(t, err)
		f := &Body{ID: b.ID, dir: d, f: disk}
		blocks, err := f.Blocks()
		must(t, err)
		if blocks*512 > 64<<10 {
			t.Errorf("%q takes %d bytes on the disk", suffix, blocks*512)
		}
		must(t, f.Release())
	}
	for _, cut := range []bool{false, true} {
		again, err := d.Load(b.ID, false, cut)
		must(t, err)
		if n, held := again.Held(0, size); held || n != Unit {
			t.Errorf("%d bytes at the beginning, held: %v", n, held)
		}
		if n, held := again.Held(Unit, size); !held || n != size-Unit {
			t.Errorf("%d bytes behind it, held: %v", n, held)
		}
		must(t, again.ClearUnheld())
		must(t, again.Release())
	}
}

// A live map that could not be written for want of room is made up for later.
func TestLiveMapIsMadeUpFor(t *testing.T) {
	d := openDir(t)
	b := mustCreate(t, d, false)
	must(t, b.Truncate(10*Unit))
	must(t, b.live.Close())
	if err := b.Write(page(1), 3*Unit); err == nil {
		t.Fatal("a closed file was written")
	}
	b.live = nil
	must(t, b.Write(page(2), 9*Unit))
	must(t, b.Write(page(1), 3*Unit))
	again, err := d.Load(b.ID, false, false)
	must(t, err)
	defer again.Release()
	if got := held(again, 10); !equal(got, []int64{3, 9}) {
		t.Fatalf("holds %v", got)
	}
}

// goldenMap has all that a map can have.
func goldenMap() (m Map) {
	m.set(3, 70)
	m.set(2*chunk, 5*chunk)
	m.set(5*chunk+9, 5*chunk+10)
	return m
}

// Maps that earlier releases synced are read: that of version 1, which had the bits of all
// units, and that of version 2.
func TestGoldenMaps(t *testing.T) {
	var first Map
	first.set(3, 70)
	first.set(127, 129)
	for name, want := range map[string]Map{"map-1": first, "map-2": goldenMap()} {
		path := filepath.Join("testdata", "golden", name+".hex")
		if os.Getenv("STASIS_GOLDEN") == "new" && name == "map-2" {
			must(t, os.WriteFile(path, []byte(hex.EncodeToString(want.encode())+"\n"), 0o644))
		}
		text, err := os.ReadFile(path)
		must(t, err)
		golden, err := hex.DecodeString(strings.TrimSpace(string(text)))
		must(t, err)
		got, ok := decodeMap(golden)
		if !ok || !same(got.runs(maxUnits), want.runs(maxUnits)) {
			t.Errorf("%s reads as %v (%v), want %v", name, got.runs(maxUnits), ok, want.runs(maxUnits))
		}
		if name == "map-2" && !bytes.Equal(want.encode(), golden) {
			t.Errorf("%s is written as %x", name, want.encode())
		}
	}
}

// A live map of an earlier release, which had no chunks, is read.
func TestEarlierLiveMap(t *testing.T) {
	d := openDir(t)
	b := mustCreate(t, d, false)
	must(t, b.Truncate(10*Unit))
	must(t, os.WriteFile(d.Path(b.ID)+liveSuffix, []byte{0x08, 0x02, 0, 0, 0, 0, 0, 0}, 0o600))
	again, err := d.Load(b.ID, false, false)
	must(t, err)
	defer again.Release()
	if got := held(again, 10); !equal(got, []int64{3, 9}) {
		t.Fatalf("holds %v", got)
	}
}

// Bytes of a damaged map give nothing or a map that can be used.
func FuzzDecodeMap(f *testing.F) {
	m := goldenMap()
	f.Add(m.encode()[:len(m.encode())-4])
	f.Add([]byte{0xff, 0, 0, 0, 1, 0, 0, 0x80})
	f.Add([]byte(syncedMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := decodeMap(binary.LittleEndian.AppendUint32(b[:len(b):len(b)], crc32.Checksum(b, castagnoli)))
		if !ok {
			return
		}
		m.count(0, maxUnits)
		again, ok := decodeMap(m.encode())
		if !ok || !same(again.runs(maxUnits), m.runs(maxUnits)) {
			t.Errorf("it comes back as %v (%v)", again, ok)
		}
	})
}
