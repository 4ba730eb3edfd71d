package router

import (
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"stasis/store"
)

var writeGolden = flag.Bool("write-golden", false, "write golden files that do not exist yet")

var (
	goldenCrate = store.CrateID{1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, 16}
	goldenNode  = store.NodeID{15: 7}
	goldenTime  = time.Unix(1_700_000_000, 123)
	goldenSums  = []store.Digest{{1}, {2, 31: 2}}
)

// goldenRecords is one record of each kind, with how it is read back.
func goldenRecords() map[string]struct {
	bytes []byte
	value any
	read  func([]byte) (any, error)
} {
	type record = struct {
		bytes []byte
		value any
		read  func([]byte) (any, error)
	}
	out := make(map[string]record)
	manifest := func(b []byte) (any, error) { return decodeManifest(goldenCrate, b) }
	one := Manifest{Crate: goldenCrate, Size: 4096, Origin: 9, Source: "/a", Created: goldenTime, Wanted: 2,
		Forms:        []FormInfo{{Size: 4096, Root: store.Digest{1}, Block: store.Digest{2}}},
		Destinations: []Destination{{Node: goldenNode, State: Verified, Durable: true, Time: goldenTime, Address: "h:1", Fingerprint: "f"}, {Node: store.NodeID{1}}}}
	many := Manifest{Crate: goldenCrate, Size: 3 << 20, Created: goldenTime, Retired: true, Forms: []FormInfo{{Form: store.Sealed, Size: 3<<20 + 64, Root: store.Digest{3}}}}
	out["v1-manifest-one-block"] = record{one.encode(), one, manifest}
	out["v1-manifest-many-blocks"] = record{many.encode(), many, manifest}
	behind := Manifest{Crate: goldenCrate, Size: 3 << 20, Created: goldenTime, Wanted: 2, Forms: []FormInfo{{Size: 3 << 20, Root: store.Digest{3}}},
		Destinations: []Destination{{Node: store.NodeID{1}}, {Node: goldenNode, State: Verified, Durable: true, Time: goldenTime, Address: "h:1", Fingerprint: "f",
			Leaves: []Leaf{{ID: store.NodeID{2}, Time: goldenTime, Address: "h:1", Fingerprint: "f"}, {ID: store.NodeID{3}, Time: goldenTime}}}}, Barred: []store.NodeID{{4}, {5}}}
	out["v2-manifest-leaves"] = record{behind.encode(), behind, manifest}
	refused := behind
	refused.Barred = nil
	refused.Destinations = append([]Destination{{Node: store.NodeID{9}, State: Refused, Durable: true}}, behind.Destinations...)
	out["v3-manifest-refused"] = record{refused.encode(), refused, manifest}
	e := entry{size: 70000, charge: store.Charge(70000), queued: goldenTime, reserved: true, repair: true}
	out["v1-entry"] = record{e.encode(), e, func(b []byte) (any, error) { return decodeEntry(b) }}
	g := grantRecord{id: store.ReservationID{1, 2}, bytes: 1 << 40}
	out["v1-grant"] = record{g.encode(), g, func(b []byte) (any, error) { return decodeGrant(b) }}
	n := nodeRecord{id: goldenNode, kind: "directory", zone: "home", durable: true, seen: goldenTime, crates: 1, used: 2, cap: 3, free: 4}
	out["v1-node"] = record{n.encode(), n, func(b []byte) (any, error) { return decodeNode(b) }}
	out["v1-sums"] = record{encodeSums(goldenSums), goldenSums, func(b []byte) (any, error) { return decodeSums(b) }}
	h := hold{until: goldenTime}
	out["v1-pause"] = record{h.encode(), h, func(b []byte) (any, error) { return decodeHold(b) }}
	at := store.Position{Count: 1 << 40, Mark: 1<<63 + 5}
	out["v1-position"] = record{encodePosition(at), at, func(b []byte) (any, error) { return decodePosition(b) }}
	bar := hold{why: "it lied"}
	out["v2-bar"] = record{bar.encode(), bar, func(b []byte) (any, error) { return decodeHold(b) }}
	p := Plan{Wanted: 3, Short: "s", Waiting: "w", Targets: []Target{{Node: goldenNode, Bytes: 8192, Resident: 4096, Reserved: true}, {Bytes: 1}}}
	b, _ := p.MarshalBinary()
	out["v1-plan"] = record{b, p, func(b []byte) (any, error) {
		var p Plan
		err := p.UnmarshalBinary(b)
		return p, err
	}}
	return out
}

// What was written once is read for ever, and written the same way.
func TestGolden(t *testing.T) {
	for name, r := range goldenRecords() {
		path := filepath.Join("testdata", "golden", name+".hex")
		text, err := os.ReadFile(path)
		if os.IsNotExist(err) && *writeGolden {
			text = []byte(hex.EncodeToString(r.bytes) + "\n")
			err = os.WriteFile(path, text, 0o644)
		}
		if err != nil {
			t.Error(err)
			continue
		}
		b, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Error(err)
			continue
		}
		if string(b) != string(r.bytes) {
			t.Errorf("%s is written as %x, in the golden file it is %x", name, r.bytes, b)
		}
		got, err := r.read(b)
		if err != nil || !reflect.DeepEqual(got, r.value) {
			t.Errorf("%s is read as %+v, %v; it was %+v", name, got, err, r.value)
		}
		for i := range b {
			if v, err := r.read(b[:i]); err == nil && name != "v1-sums" {
				t.Errorf("%s cut at %d is read as %+v", name, i, v)
			}
		}
		if _, err := r.read(append([]byte{b[0] + 64}, b[1:]...)); store.KindOf(err) != store.Corrupt {
			t.Errorf("%s of another version: %v", name, err)
		}
	}
}

// Whatever lies in the ledger, reading it gives a record or an error.
func FuzzRecords(f *testing.F) {
	for _, r := range goldenRecords() {
		f.Add(r.bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, r := range goldenRecords() {
			if v, err := r.read(b); err != nil && store.KindOf(err) != store.Corrupt {
				t.Errorf("%s: %+v, %v", name, v, err)
			}
		}
	})
}
