package host

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/booking"
)

var (
	goldenOwner = store.OwnerID{0: 0xaa, 31: 0x55}
	goldenCrate = store.CrateID{0x01, 0x93, 0, 0, 0, 0, 0x70, 1, 0x80, 2, 3, 4, 5, 6, 7, 0xab}
	goldenRoot  = store.Digest{0: 1, 31: 2}
	goldenTime  = time.Unix(1793836800, 0).UTC()
)

// kinds reads a value of each kind and writes it again.
var kinds = map[string]func([]byte) ([]byte, error){
	"owner":    func(b []byte) ([]byte, error) { r, err := decodeOwner(b); return r.encode(), err },
	"invite":   func(b []byte) ([]byte, error) { r, err := decodeInvite(b); return r.encode(), err },
	"crate":    func(b []byte) ([]byte, error) { r, err := decodeCrate(b); return r.encode(), err },
	"totals":   func(b []byte) ([]byte, error) { t, err := decodeTotals(b); return encodeTotals(t), err },
	"terms":    func(b []byte) ([]byte, error) { r, err := decodeTermsRecord(b); return r.encode(), err },
	"drawn":    func(b []byte) ([]byte, error) { n, err := decodeDrawn(b); return encodeDrawn(n), err },
	"intent":   func(b []byte) ([]byte, error) { r, err := decodeIntent(b); return r.encode(), err },
	"position": func(b []byte) ([]byte, error) { p, err := decodePosition(b); return encodePosition(p), err },
	"partial":  func(b []byte) ([]byte, error) { r, err := decodePartial(b); return r.encode(), err },
}

// What a released version has written stays readable, and is written the same. The
// derived ids are part of it: with others no owner would find its crates.
func TestGolden(t *testing.T) {
	inner := innerCrate(goldenOwner, goldenCrate)
	cases := map[string][]byte{
		"owner":  ownerRecord{number: 7, revoked: true, fingerprint: [32]byte{1, 2}, quota: 1 << 40, since: goldenTime, name: "ann's vault"}.encode(),
		"invite": inviteRecord{quota: 1 << 30, expires: goldenTime, owner: goldenOwner}.encode(),
		"crate":  crateRecord{store.Sealed, 12345, goldenRoot, 1}.encode(),
		"totals": encodeTotals(booking.Totals{Used: 1 << 41, Crates: 17}),
		"terms":  termsRecord{store.ReservationID{9}, booking.Terms{ID: store.ReservationID{8}, Bytes: 4096, Lease: time.Hour, Expires: goldenTime}, 1}.encode(),
		// Those of which the owner has ordered more than one copy.
		"v2-crate":  crateRecord{store.Sealed, 12345, goldenRoot, 2}.encode(),
		"v2-terms":  termsRecord{store.ReservationID{9}, booking.Terms{ID: store.ReservationID{8}, Bytes: 8192, Lease: time.Hour, Expires: goldenTime}, 2}.encode(),
		"v2-intent": intent{store.Plain, 77, store.ReservationID{9}, 3}.encode(),
		"drawn":     encodeDrawn(4096),
		"intent":    intent{store.Plain, 77, store.ReservationID{9}, 1}.encode(),
		"partial":   partialRecord{store.Sealed, 1 << 30, goldenRoot, store.ReservationID{8}, [16]byte{5}}.encode(),
		"position":  encodePosition(store.Position{Count: 1<<63 + 7, Mark: 1<<64 - 2}),
		"inner":     inner[:],
		"secret":    hashOf([]byte("sixteen bytes ab")),
	}
	for name, got := range cases {
		kind, second := strings.CutPrefix(name, "v2-")
		if !second {
			name = "v1-" + name
		}
		path := filepath.Join("testdata", "golden", name+".hex")
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && os.Getenv("STASIS_GOLDEN") != "" {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is %x, the golden file has %x (%v)", name, got, want, err)
		}
		if again := kinds[kind]; again != nil {
			if b, err := again(want); err != nil || !bytes.Equal(b, want) {
				t.Errorf("%s is read and written again as %x, %v", name, b, err)
			}
		}
	}
}

func TestInnerIDsDiffer(t *testing.T) {
	other := goldenOwner
	other[31]++
	a, b := innerCrate(goldenOwner, goldenCrate), innerCrate(other, goldenCrate)
	if a == b || a == goldenCrate || a[6]>>4 != 8 || a[8]>>6 != 2 {
		t.Errorf("inner ids %s and %s", a, b)
	}
}

// A damaged record is an error with a kind, never a panic, and what is accepted is
// written again as it was.
func FuzzRecords(f *testing.F) {
	for name := range kinds {
		text, err := os.ReadFile(filepath.Join("testdata", "golden", "v1-"+name+".hex"))
		if err != nil {
			f.Fatal(err)
		}
		b, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, again := range kinds {
			got, err := again(b)
			if err != nil && !errors.Is(err, store.Corrupt) {
				t.Errorf("%s: %v, want corrupt", name, err)
			}
			if err == nil && !bytes.Equal(got, b) {
				t.Errorf("%s: %x is written again as %x", name, b, got)
			}
		}
	})
}
