package extent

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"stasis/store"
)

// units is the length of the model files, in units of unit bytes.
const (
	units = 40
	unit  = store.BlockSize
)

// place is where a unit of a file lies; the zero place is a hole.
type place struct {
	crate store.CrateID
	at    int64
}

// drawList draws an ordered list of pieces that don't overlap.
func drawList(t *rapid.T, label string, whole bool) []Extent {
	var list []Extent
	for at := int64(0); at < units; {
		at += rapid.Int64Range(0, 5).Draw(t, label+" gap")
		n := rapid.Int64Range(1, 6).Draw(t, label+" length")
		if at+n > units {
			break
		}
		e := Extent{Offset: at * unit, Length: n * unit, Crate: store.NewCrateID()}
		if !whole {
			e.CrateOffset = rapid.Int64Range(0, 3).Draw(t, label+" start") * unit
		}
		list = append(list, e)
		at += n
	}
	return list
}

func paint(on []place, list []Extent, limit int64) {
	for _, e := range list {
		for o := e.Offset; o < min(e.End(), limit); o += unit {
			on[o/unit] = place{e.Crate, e.CrateOffset + o - e.Offset}
		}
	}
}

// A list made by Overlay shows, unit by unit, what painting one list over the other
// shows, and is ordered, free of overlaps and as short as it can be.
func TestOverlayShowsTopOverBase(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, top := drawList(t, "base", false), drawList(t, "top", true)
		limit := rapid.Int64Range(0, units).Draw(t, "limit") * unit
		var want [units]place
		paint(want[:], base, limit)
		paint(want[:], top, units*unit)

		before := append([]Extent(nil), base...)
		got := Overlay(base, top, limit)
		if !reflect.DeepEqual(before, base) {
			t.Fatal("the base list was changed")
		}
		var shown [units]place
		paint(shown[:], got, units*unit)
		if shown != want {
			t.Fatalf("shows %v, want %v", shown, want)
		}
		end := int64(0)
		for i, e := range got {
			if e.Offset < end || e.Length <= 0 {
				t.Fatalf("extent %d, %+v, overlaps or is empty", i, e)
			}
			end = e.End()
			if i > 0 && got[i-1].End() == e.Offset && got[i-1].Crate == e.Crate && got[i-1].CrateOffset+got[i-1].Length == e.CrateOffset {
				t.Fatalf("extents %d and %d could be one", i-1, i)
			}
		}
	})
}

// A limit inside a block cuts the extent there: what a truncation removed must not
// come back when the file grows again.
func TestOverlayCutsAtTheLimit(t *testing.T) {
	c := store.NewCrateID()
	got := Overlay([]Extent{{Offset: 0, Length: 3 * unit, Crate: c}}, nil, unit+5)
	want := []Extent{{Offset: 0, Length: unit + 5, Crate: c}}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v", got)
	}
}

// A list without some ranges shows holes there and elsewhere what it showed, and is as it
// should be.
func TestWithoutMakesHoles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := drawList(t, "list", false)
		var holes []Range
		var want [units]place
		paint(want[:], list, units*unit)
		for _, h := range drawList(t, "holes", true) {
			holes = append(holes, Range{h.Offset, h.Length})
			clear(want[h.Offset/unit : h.End()/unit])
		}
		got := Without(list, holes...)
		var shown [units]place
		paint(shown[:], got, units*unit)
		if shown != want {
			t.Fatalf("shows %v, want %v", shown, want)
		}
		end := int64(0)
		for i, e := range got {
			if e.Offset < end || e.Length <= 0 {
				t.Fatalf("extent %d, %+v, overlaps or is empty", i, e)
			}
			end = e.End()
		}
	})
}

func TestValueRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.Int64Range(0, 1<<40).Draw(t, "offset")
		e := Extent{Offset: off, Length: rapid.Int64Range(1, store.MaxCrate/2).Draw(t, "length"),
			Crate: store.NewCrateID(), CrateOffset: rapid.Int64Range(0, store.MaxCrate/2).Draw(t, "in crate")}
		got, err := Decode(e.End(), e.Value())
		if err != nil || got != e {
			t.Fatalf("got %+v, %v; want %+v", got, err, e)
		}
	})
}

// Bytes of a damaged ledger give an error or a sensible extent, never a panic.
func FuzzDecode(f *testing.F) {
	f.Add(int64(unit), Extent{Length: unit, Crate: store.CrateID{1}}.Value())
	f.Add(int64(0), []byte{})
	f.Add(int64(-1), []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, end int64, value []byte) {
		e, err := Decode(end, value)
		if err == nil && (e.Offset < 0 || e.Length <= 0 || e.CrateOffset < 0 || e.End() != end) {
			t.Fatalf("%+v passed", e)
		}
	})
}
