package extent

import (
	"reflect"
	"testing"

	"stasis/store"
)

func TestWithoutAndShift(t *testing.T) {
	a, b := store.NewCrateID(), store.NewCrateID()
	list := []Extent{{0, 10, a, 0}, {10, 10, b, 5}, {30, 10, a, 100}}
	for _, c := range []struct {
		from, to int64
		want     []Extent
	}{
		{0, 40, []Extent{}},
		{0, 0, list},
		{20, 30, list},
		{5, 15, []Extent{{0, 5, a, 0}, {15, 5, b, 10}, {30, 10, a, 100}}},
		{33, 35, []Extent{{0, 10, a, 0}, {10, 10, b, 5}, {30, 3, a, 100}, {35, 5, a, 105}}},
		{40, 50, list},
	} {
		if got := Without(list, Range{c.from, c.to - c.from}); !reflect.DeepEqual(got, c.want) {
			t.Errorf("without %d to %d: %v, want %v", c.from, c.to, got, c.want)
		}
	}
	for _, c := range []struct {
		from, to, there int64
		want            []Extent
	}{
		{0, 40, 100, []Extent{{100, 10, a, 0}, {110, 10, b, 5}, {130, 10, a, 100}}},
		{5, 12, 0, []Extent{{0, 5, a, 5}, {5, 2, b, 5}}},
		{20, 30, 0, nil},
		{35, 99, 7, []Extent{{7, 5, a, 105}}},
	} {
		if got := Shift(list, c.from, c.to, c.there); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%d to %d at %d: %v, want %v", c.from, c.to, c.there, got, c.want)
		}
	}
}
