package directory

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stasis/store"
)

// goldenID and the rest are what the golden files of version 1 hold.
var (
	goldenID       = store.CrateID{0x01, 0x93, 0, 0, 0, 0, 0x70, 1, 0x80, 2, 3, 4, 5, 6, 7, 0xab}
	goldenOwner    = store.OwnerID{0: 0xaa, 31: 0x55}
	goldenRoot     = store.Digest{0: 1, 31: 2}
	goldenPosition = store.Position{Count: 1<<63 + 7, Mark: 1<<64 - 2}
)

func goldenRecord(size int64) record {
	r := record{id: goldenID, form: store.Sealed, size: size, root: goldenRoot}
	if n := store.Blocks(size); n <= inlineBlocks {
		for i := range n {
			r.inline = append(r.inline, store.Digest{0: byte(i + 1)})
		}
	}
	return r
}

// TestGolden keeps every byte that a released version has written readable, and
// written the same.
func TestGolden(t *testing.T) {
	small, large := goldenRecord(store.BlockSize+1), goldenRecord(inlineBlocks*store.BlockSize+1)
	cases := map[string][]byte{
		"marker":    Marker{Version: 1, ID: store.NodeID(goldenID), Owner: goldenOwner}.encode(),
		"crate":     small.encode(),
		"large":     large.encode(),
		"intent":    encodeIntent([]named{{goldenID, store.Plain}, {goldenID, store.Sealed}}),
		"adoption":  adoption{store.ReservationID{9}, "/a/body", small}.encode(),
		"mark":      mark{7, store.Sealed}.encode(),
		"tombstone": tombstone{store.Sealed, goldenRoot}.encode(),
		"totals":    totals{1 << 40, 3, 2}.encode(),
		"meta":      meta{store.NodeID(goldenID), 1 << 30}.encode(),
		"standing":  standing{goldenPosition, store.Token(goldenID)}.encode(),
		"sign":      encodeSign(goldenPosition),
	}
	for name, got := range cases {
		path := filepath.Join("testdata", "golden", "v1-"+name+".hex")
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
		if err := reencodes(name, want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// reencodes reads bytes of a kind and checks that they are written the same again.
func reencodes(kind string, b []byte) error {
	var again []byte
	var err error
	switch kind {
	case "marker":
		var m Marker
		m, err = parseMarker(b)
		again = m.encode()
	case "crate", "large":
		var r record
		r, err = parseRecord(goldenID, b)
		again = r.encode()
	case "intent":
		var fs []named
		fs, err = parseIntent(b)
		again = encodeIntent(fs)
	case "adoption":
		var a adoption
		a, err = parseAdoption(goldenID, b)
		again = a.encode()
	case "mark":
		var m mark
		m, err = parseMark(b)
		again = m.encode()
	case "tombstone":
		var t tombstone
		t, err = parseTombstone(b)
		again = t.encode()
	case "totals":
		var t totals
		t, err = parseTotals(b)
		again = t.encode()
	case "meta":
		var m meta
		m, err = parseMeta(b)
		again = m.encode()
	case "standing":
		var p standing
		p, err = parseStanding(b)
		again = p.encode()
	case "sign":
		p := parseSign(b)
		if p == (store.Position{}) {
			err = store.Corrupt
		}
		again = encodeSign(p)
	}
	if err == nil && !bytes.Equal(again, b) {
		err = errors.New("it is written differently")
	}
	return err
}

// FuzzFormat: hostile or damaged bytes give an error, or something that is written
// as the same bytes again.
func FuzzFormat(f *testing.F) {
	kinds := []string{"marker", "crate", "intent", "adoption", "mark", "tombstone", "totals", "meta", "standing", "sign"}
	names, err := filepath.Glob("testdata/golden/*.hex")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		b, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			f.Fatal(err)
		}
		for i := range kinds {
			f.Add(byte(i), b)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		name := kinds[int(kind)%len(kinds)]
		if err := reencodes(name, b); err != nil && store.KindOf(err) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	})
}
