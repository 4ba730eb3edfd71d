package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"stasis/store"
)

// Every kind of error is the same on the other side, with its sentence.
func TestErrorsKeepTheirKind(t *testing.T) {
	for k := store.Kind(1); k.Error() != "unknown error kind"; k++ {
		err := &store.Error{Kind: k, Op: "put crate", Subject: "7f", Detail: "needs 1", Hint: "add a node"}
		got := FromError(fmt.Errorf("wrapped: %w", err)).Err()
		if !errors.Is(got, k) || got.Error() != err.Error() {
			t.Errorf("%v became %v", err, got)
		}
		if got := FromError(k).Err(); !errors.Is(got, k) {
			t.Errorf("the bare kind %v became %v", k, got)
		}
	}
	if FromError(nil) != nil || (*Error)(nil).Err() != nil {
		t.Error("no error became one")
	}
	if err := (&Error{Kind: "from-the-future"}).Err(); !errors.Is(err, store.Unavailable) {
		t.Errorf("an unknown kind became %v", err)
	}
	if e := FromError(errors.New("open /home/ann/secret: permission denied")); e.Kind != "unavailable" || e.Detail != "" || e.Subject != "" {
		t.Errorf("an error without a kind travels as %+v", e)
	}
}

func TestConversionsRoundTrip(t *testing.T) {
	owner, expect := store.OwnerID{1}, digest(1)
	reserve := store.ReserveRequest{ID: id(1), Holder: owner, Bytes: 7, Lease: time.Minute, Copies: 2, Zones: 1, Exclude: []store.NodeID{id(2)}, Path: []store.NodeID{id(3)}, Hops: 1}
	w := FromReserve(reserve)
	if got, err := w.Request(owner); err != nil || !reflect.DeepEqual(got, reserve) {
		t.Errorf("reserve: %+v, %v", got, err)
	}
	put := store.PutRequest{Reservation: id(1), Crate: id(2), Form: store.Sealed, Size: 9, Expect: &expect}
	p := FromPut(put)
	if got, err := p.Request(); err != nil || !reflect.DeepEqual(got, put) {
		t.Errorf("put: %+v, %v", got, err)
	}
	sums := store.Checksums{Size: store.BlockSize + 1, Blocks: []store.Digest{digest(1), digest(2)}}
	receipts := []store.Receipt{{Leaf: id(1), Sums: sums, Time: time.Unix(5, 6).UTC(), Position: store.Position{Count: 1<<53 + 1, Mark: 1<<64 - 1}, Address: "a", Fingerprint: "f"}}
	if got, err := StoreReceipts(FromReceipts(receipts)); err != nil || !reflect.DeepEqual(got, receipts) {
		t.Errorf("receipts: %+v, %v", got, err)
	}
	status := store.Status{Leaf: id(1), Durable: true, Crates: 3, Position: store.Position{Count: 7, Mark: 1 << 63}}
	st := FromStatus(status)
	if got, err := st.Store(); err != nil || got != status {
		t.Errorf("status: %+v, %v", got, err)
	}
	results := []store.PutResult{{Receipts: receipts}, {Err: &store.Error{Kind: store.NoSpace, Op: "put"}}}
	r := FromResults(results)
	got, err := r.Store(2)
	if err != nil || !reflect.DeepEqual(got[0], results[0]) || !errors.Is(got[1].Err, store.NoSpace) {
		t.Errorf("results: %+v, %v", got, err)
	}
	if _, err := r.Store(3); !errors.Is(err, store.Invalid) {
		t.Errorf("two results for three crates: %v", err)
	}
}

// Numbers from outside that make no sense are Invalid before anything is done with
// them.
func TestLimits(t *testing.T) {
	many := make([]PutHead, MaxBatchCrates+1)
	for i := range many {
		many[i] = PutHead{Crate: id(byte(i)), Size: 1}
	}
	large := []PutHead{{Crate: id(1), Size: MaxBatchCrate + 1}}
	heavy := make([]PutHead, MaxBatchBytes/MaxBatchCrate+1)
	for i := range heavy {
		heavy[i] = PutHead{Crate: id(byte(i)), Size: MaxBatchCrate}
	}
	for name, err := range map[string]error{
		"negative bytes":     second((&Reserve{Bytes: -1}).Request(store.OwnerID{})),
		"many copies":        second((&Reserve{Copies: MaxShares + 1}).Request(store.OwnerID{})),
		"an endless lease":   second((&Reserve{LeaseMS: 1 << 62}).Request(store.OwnerID{})),
		"an empty crate":     second((&PutHead{Crate: id(1)}).Request()),
		"a huge crate":       second((&PutHead{Crate: id(1), Size: store.MaxCrate + 1}).Request()),
		"no id":              second((&PutHead{Size: 1}).Request()),
		"an empty batch":     second((&Batch{}).Check()),
		"many crates":        second((&Batch{Crates: many}).Check()),
		"a large crate":      second((&Batch{Crates: large}).Check()),
		"a heavy batch":      second((&Batch{Crates: heavy}).Check()),
		"a range before":     (&Range{Offset: -1}).Check(),
		"missing checksums":  second(StoreReceipts([]Receipt{{Sums: Sums{Size: store.BlockSize + 1, Blocks: make([]byte, 32)}}})),
		"broken checksums":   second(StoreReceipts([]Receipt{{Sums: Sums{Size: 1, Blocks: make([]byte, 31)}}})),
		"a long page":        second((&Page{Crates: make([]Info, store.MaxPage+1)}).Store()),
		"an empty info":      second((&Info{}).Store()),
		"a status of nobody": second((&Status{}).Store()),
	} {
		if !errors.Is(err, store.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A peer of before says nothing of a position: it is zero, and zero is not sent. A number that
// is none is refused, not rounded.
func TestPositions(t *testing.T) {
	var s Status
	if err := json.Unmarshal([]byte(`{"position":{"count":9007199254740993,"mark":18446744073709551615}}`), &s); err != nil || s.Position != (Position{1<<53 + 1, 1<<64 - 1}) {
		t.Errorf("read as %+v, %v", s.Position, err)
	}
	text, err := json.Marshal(Receipt{})
	if err != nil || strings.Contains(string(text), "position") {
		t.Errorf("a position of none is sent: %s, %v", text, err)
	}
	for _, bad := range []string{"-1", "1.5", "1e3", "18446744073709551616", `"7"`} {
		if err := json.Unmarshal([]byte(`{"position":{"count":`+bad+`}}`), &s); err == nil {
			t.Errorf("a count of %s is read as %d", bad, s.Position.Count)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Bytes from outside never panic, and what passes is within the limits.
func FuzzMessages(f *testing.F) {
	for _, m := range messages() {
		text, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, m := range messages() {
			m := reflect.New(reflect.TypeOf(m).Elem()).Interface()
			if json.Unmarshal(text, m) != nil {
				continue
			}
			switch m := m.(type) {
			case *Reserve:
				if r, err := m.Request(store.OwnerID{}); err == nil && (r.Bytes < 0 || r.Lease < 0) {
					t.Errorf("%+v passed", r)
				}
			case *PutHead:
				if r, err := m.Request(); err == nil && (r.Size <= 0 || r.Size > store.MaxCrate) {
					t.Errorf("%+v passed", r)
				}
			case *Batch:
				if n, err := m.Check(); err == nil && (n <= 0 || n > MaxBatchBytes) {
					t.Errorf("a batch of %d bytes passed", n)
				}
			case *Receipts:
				if rs, err := StoreReceipts(m.Receipts); err == nil {
					for _, r := range rs {
						if !r.Sums.Valid() {
							t.Errorf("%+v passed", r)
						}
					}
				}
			case *BatchResults:
				_, _ = m.Store(len(m.Results)) // must not panic
			case *Page:
				_, _ = m.Store()
			case *Status:
				_, _ = m.Store()
			case *Shares:
				_, _ = m.Store()
			case *Error:
				if err := m.Err(); store.KindOf(err) == 0 {
					t.Errorf("%+v has no kind", m)
				}
			}
		}
	})
}

// A receipt is for the bytes that were sent, or it is an error that says so.
func TestAgree(t *testing.T) {
	var h, other store.Hasher
	_, _ = h.Write([]byte("a"))
	_, _ = other.Write([]byte("b"))
	right, wrong := h.Sums(), other.Sums()
	root := right.Root()
	r := store.PutRequest{Size: 1, Expect: &root}
	if err := Agree(r, []store.Receipt{{Sums: right}, {Sums: right}}); err != nil {
		t.Error(err)
	}
	for _, rcs := range [][]store.Receipt{{{Sums: wrong}}, {{Sums: right}, {Sums: wrong}}, {{Sums: store.Checksums{Size: 2, Blocks: right.Blocks}}}} {
		if err := Agree(r, rcs); !errors.Is(err, store.ErrWrongReceipt) {
			t.Errorf("%v: %v", rcs, err)
		}
	}
}
