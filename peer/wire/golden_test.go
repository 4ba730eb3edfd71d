package wire

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"stasis/store"
)

func id(b byte) (v [16]byte) {
	for i := range v {
		v[i] = b + byte(i)
	}
	return v
}

func digest(b byte) (d store.Digest) {
	for i := range d {
		d[i] = b ^ byte(i)
	}
	return d
}

// messages are one of each kind, with every field set.
func messages() map[string]any {
	at := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	crate, leaf, expect := store.CrateID(id(1)), store.NodeID(id(2)), digest(3)
	receipt := Receipt{Leaf: leaf, Sums: Sums{Size: 5, Blocks: expect[:]}, Time: at, Address: "nas:7000", Fingerprint: "f"}
	placed := receipt
	placed.Position = Position{Count: 1<<53 + 1, Mark: 1<<64 - 1} // no float has either
	head := PutHead{Reservation: id(4), Crate: crate, Form: 1, Size: 5, Expect: &expect}
	return map[string]any{
		"reserve": &Reserve{ID: id(4), Bytes: 8192, LeaseMS: 60000, Copies: 2, Zones: 1, Exclude: []store.NodeID{leaf}, Path: []store.NodeID{id(7)}, Hops: 3},
		"shares":  &Shares{Shares: []Share{{Leaf: leaf, Zone: "home", Bytes: 8192, Drawn: 4096, Expires: at}}}, "reservation": &Reservation{ID: id(4)},
		"renewed": &Renewed{Expires: at}, "put-head": &head, "begin": &Begin{Offset: 3 << 20}, "receipts": &Receipts{Receipts: []Receipt{receipt}},
		"batch": &Batch{Crates: []PutHead{head}}, "batch-results": &BatchResults{Results: []BatchResult{{Receipts: []Receipt{receipt}},
			{Error: &Error{Kind: "no-space", Op: "put", Subject: "s", Detail: "d", Hint: "h"}}}},
		"range": &Range{Crate: crate, Offset: 1 << 20, Length: -1, Nonce: &expect}, "proof": &Proof{Digest: expect},
		"range-unverified": &Range{Crate: crate, Offset: 1 << 20, Length: 1 << 20, Unverified: true}, "crate": &Crate{ID: crate},
		"info": &Info{ID: crate, Form: 1, Size: 5, Root: expect}, "discard": &Discard{Crate: crate, Signature: []byte{1, 2, 3}},
		"list": &List{Cursor: []byte("c")}, "page": &Page{Crates: []Info{{ID: crate, Size: 5, Root: expect}}, Next: []byte("n")},
		"status":            &Status{Leaf: leaf, Durable: true, Capacity: 100, Used: 50, Reserved: 20, Free: 30, Crates: 2, Damage: 1, Version: 1},
		"receipts-position": &Receipts{Receipts: []Receipt{placed}}, "batch-results-position": &BatchResults{Results: []BatchResult{{Receipts: []Receipt{placed}}}},
		"status-position": &Status{Leaf: leaf, Durable: true, Capacity: 100, Crates: 2, Position: placed.Position, Version: 1},
		"fence":           &Fence{Known: []store.Token{id(5)}, Next: id(6), TakeOver: true},
		"redeem":          &Redeem{Secret: []byte("secret"), Owner: store.OwnerID(digest(9)), Name: "laptop", Signature: []byte{4, 5}},
		"redeemed":        &Redeemed{Leaf: leaf, Quota: 1 << 30}, "cursor": &Cursor{Incarnation: "i", Sequence: 7},
		"event": &Event{Cursor: Cursor{Incarnation: "i", Sequence: 7}, Kind: EventDamaged, Crate: &crate},
		"error": &Error{Kind: "denied", Op: "open", Subject: "s", Detail: "d", Hint: "h"},
	}
}

// What an earlier release sent is read as it was meant, and sent the same.
func TestGoldenMessages(t *testing.T) {
	for name, m := range messages() {
		path := filepath.Join("testdata", "golden", name+".json")
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		golden, err := os.ReadFile(path)
		if os.IsNotExist(err) && os.Getenv("STASIS_GOLDEN") == "new" {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got := reflect.New(reflect.TypeOf(m).Elem()).Interface()
		if err := json.Unmarshal(golden, got); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: reads as %+v, %v; want %+v", name, got, err, m)
		}
		if !bytes.Equal(bytes.TrimSpace(golden), text) {
			t.Errorf("%s: is sent as %s, want %s", name, text, golden)
		}
	}
}

// A newer side may say more: what is not known is passed over.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	for name, m := range messages() {
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		text = append(bytes.TrimSuffix(text, []byte("}")), []byte(`,"later":{"x":[1,2,null]}}`)...)
		got := reflect.New(reflect.TypeOf(m).Elem()).Interface()
		if err := json.Unmarshal(text, got); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s with an unknown field reads as %+v, %v", name, got, err)
		}
	}
}
