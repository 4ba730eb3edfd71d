package fs

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"stasis/router"
	"stasis/store"
)

// goldenRecords are the records whose bytes lie in testdata/golden.
func goldenRecords() map[string]struct {
	value  any
	encode func() []byte
	decode func([]byte) (any, error)
} {
	id := func(b byte) (c store.CrateID) {
		for i := range c {
			c[i] = b + byte(i)
		}
		return c
	}
	body := bodyRecord{Body: id(1), Whole: true, Settled: true, Unplaced: true, Planned: true, Limit: 4096, Size: 123456789, Mtime: 1700000000000000001, List: 77,
		Places: places{Part: 1 << 30, Runs: []run{{Pieces: 3, Plan: router.Plan{
			Targets: []router.Target{{Node: store.NodeID(id(9)), Bytes: 4608, Resident: 4608, Reserved: true}}, Wanted: 2, Short: "one node", Waiting: "nas"}}}},
		Reason: "no space"}
	cutting := bodyRecord{Body: id(3), Cutting: true, Limit: 4096, Size: 4000}
	lying := lyingRecord{Body: id(2), Offset: 1 << 20, Length: 3 << 20, Ino: 42, Shared: true}
	teardown := teardownRecord{Copies: 2}
	attention := attentionRecord{State: Short, Bytes: 1000, Since: 1700000000000000000, Reason: "too few nodes"}
	policy := ownPolicy{Copies: 3, Least: 2}
	type entry = struct {
		value  any
		encode func() []byte
		decode func([]byte) (any, error)
	}
	return map[string]entry{
		"body":      {body, body.encode, func(b []byte) (any, error) { return decodeBody(b) }},
		"cutting":   {cutting, cutting.encode, func(b []byte) (any, error) { return decodeBody(b) }},
		"lying":     {lying, lying.encode, func(b []byte) (any, error) { return decodeLying(b) }},
		"teardown":  {teardown, teardown.encode, func(b []byte) (any, error) { return decodeTeardown(b) }},
		"attention": {attention, attention.encode, func(b []byte) (any, error) { return decodeAttention(b) }},
		"policy":    {policy, policy.encode, func(b []byte) (any, error) { return decodePolicy(b) }},
	}
}

// What an earlier release wrote is read as it was meant, and written the same.
func TestGoldenRecords(t *testing.T) {
	for name, r := range goldenRecords() {
		path := filepath.Join("testdata", "golden", name+".hex")
		text, err := os.ReadFile(path)
		if os.IsNotExist(err) && os.Getenv("STASIS_GOLDEN") == "new" {
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, []byte(hex.EncodeToString(r.encode())+"\n"), 0o644))
			continue
		}
		must(t, err)
		golden, err := hex.DecodeString(strings.TrimSpace(string(text)))
		must(t, err)
		got, err := r.decode(golden)
		if err != nil || !reflect.DeepEqual(got, r.value) {
			t.Errorf("%s: reads as %+v, %v; want %+v", name, got, err, r.value)
		}
		if string(r.encode()) != string(golden) {
			t.Errorf("%s: writes %x, want %x", name, r.encode(), golden)
		}
	}
}

// Damaged values are refused: no panic, and nothing cut short passes.
func TestDamagedRecordsAreRefused(t *testing.T) {
	for name, r := range goldenRecords() {
		whole := r.encode()
		for n := range whole {
			if _, err := r.decode(whole[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes pass", name, n, len(whole))
			}
		}
		if _, err := r.decode(append(append([]byte(nil), whole...), 0)); err == nil {
			t.Errorf("%s: a byte too many passes", name)
		}
		other := append([]byte(nil), whole...)
		other[0]++
		if _, err := r.decode(other); store.KindOf(err) != store.Corrupt {
			t.Errorf("%s: another version gives %v", name, err)
		}
	}
}

func FuzzDecodeRecords(f *testing.F) {
	for _, r := range goldenRecords() {
		f.Add(r.encode())
	}
	records := goldenRecords()
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, r := range records {
			if _, err := r.decode(b); err != nil && store.KindOf(err) != store.Corrupt {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
