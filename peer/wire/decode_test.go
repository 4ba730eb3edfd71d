package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"

	"stasis/store"
)

// Lists that are too long are refused before they are made: of 256 KiB there would be 50 MiB.
func TestLongListsAreNotMade(t *testing.T) {
	for name, m := range map[string]any{
		"crates": new(Batch), "exclude": new(Reserve), "path": new(Reserve), "known": new(Fence), "shares": new(Shares),
		"receipts": new(Receipts), "results": new(BatchResults), "blocks": new(Receipts), "cursor": new(List), "secret": new(Redeem), "detail": new(Error),
	} {
		for _, element := range []string{"0", "{}", "[]", "null", `"x"`, "[[0,0,0]]"} {
			n := (256 << 10) / (len(element) + 1)
			text := []byte(`{"` + name + `":[` + strings.Repeat(element+",", n) + element + "]}")
			for _, text := range [][]byte{text, bytes.Replace(text, []byte(":["), []byte("\n:\t[ "), 1), []byte(`{"receipts":[{"sums":` + string(text) + `}]}`)} {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				err := Decode(text, m)
				runtime.ReadMemStats(&after)
				if took := after.TotalAlloc - before.TotalAlloc; took > 12<<20 {
					t.Errorf("%d elements %s of %s: %d KiB were taken, %v", n, element, name, took>>10, err)
				}
				if !errors.Is(err, store.Invalid) && name != "results" {
					t.Errorf("%d elements %s of %s: %v", n, element, name, err)
				}
			}
		}
	}
}

// As long as they may be they pass.
func TestListsAtTheirLimits(t *testing.T) {
	page, batch, fence := Page{Crates: make([]Info, store.MaxPage)}, Batch{Crates: make([]PutHead, MaxBatchCrates)}, Fence{Known: make([]store.Token, MaxTokens)}
	reserve := Reserve{Exclude: make([]store.NodeID, MaxIDs), Path: make([]store.NodeID, MaxIDs)}
	shares, receipts := Shares{Shares: make([]Share, MaxShares)}, Receipts{Receipts: make([]Receipt, MaxReceipts)}
	results := BatchResults{Results: make([]BatchResult, MaxBatchCrates)}
	for i := range results.Results {
		results.Results[i].Receipts = make([]Receipt, MaxReceipts)
	}
	for _, m := range []any{&page, &batch, &fence, &reserve, &shares, &receipts, &results, &Error{Detail: "a, [b], {c}, \"d\", \\"}} {
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := Decode(text, m); err != nil {
			t.Errorf("%T: %v", m, err)
		}
	}
}

// All elements are counted, and nothing else.
func TestElements(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "[]": 0, "[ ]": 0, "[1]": 1, "[1,2]": 2, "[[],[]]": 2, "[[1],[2,3]]": 5, `{"a":1,"b":2}`: 0, `{"a":[1,{"b":[2,3]}]}`: 4,
		`["a,b","[c"]`: 2, `["\\","\",]"]`: 2, "[{}]": 1, "]]]": 0, `"`: 0, `"\`: 0,
	} {
		if got := elements([]byte(text), 100); got != want {
			t.Errorf("%s has %d, counted as %d", text, want, got)
		}
	}
	if n := elements([]byte(strings.Repeat("[", 1000)), 100); n != 101 {
		t.Error("no end of lists in lists passed")
	}
}

// What is counted is at least what encoding/json would make.
func FuzzElements(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":[2,"3,"]}],"c":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var v any
		if json.Unmarshal(text, &v) != nil {
			return
		}
		// Of the members of the same name the last one is kept: there may be more than these.
		if n, most := count(v), elements(text, len(text)); n > most {
			t.Errorf("%q has %d, counted as %d", text, n, most)
		}
	})
}

func count(v any) (n int) {
	switch v := v.(type) {
	case []any:
		n = len(v)
		for _, e := range v {
			n += count(e)
		}
	case map[string]any:
		for _, e := range v {
			n += count(e)
		}
	}
	return n
}
