package ledger

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"stasis/store"
)

// written is a segment as a test writes it: words "start:P", "mark:P/S" or "P/S", where
// P is a position and S how far the record says that the journal was durable; "torn" is
// bytes that are no record. An update writes its position and the segment's number.
func written(number uint64, words string) *memNode {
	h := segmentHeader{version: FormatVersion, number: number, salt: number * 77, size: minSegment}
	b := make([]byte, segmentStart)
	copy(b, h.encode())
	copy(b[headerCopy:], h.encode())
	s := newSeal(h.salt)
	for _, w := range strings.Fields(words) {
		var p, synced Position
		if w == "torn" {
			b = append(b, []byte(strings.Repeat("torn", 10))...)
		} else if n, _ := fmt.Sscanf(w, "start:%d", &p); n == 1 {
			b = s.appendRecord(b, record{kind: kindStart, position: p}, nil)
		} else if n, _ := fmt.Sscanf(w, "mark:%d/%d", &p, &synced); n == 2 {
			b = s.appendRecord(b, record{kind: kindMark, position: p, synced: synced}, nil)
		} else if n, _ := fmt.Sscanf(w, "%d/%d", &p, &synced); n == 2 {
			b = s.appendRecord(b, record{kind: kindUpdate, space: Shared, position: p, synced: synced},
				[]change{{key: fmt.Append(nil, p), value: fmt.Append(nil, number)}})
		} else {
			panic(w)
		}
	}
	return &memNode{data: b, durable: clone(b)}
}

// TestReplay goes through what journals can look like.
func TestReplay(t *testing.T) {
	for name, c := range map[string]struct {
		segments []string
		folded   Position
		want     string // the updates as position:segment; "corrupt" for a refusal
	}{
		"nothing":                        {nil, 0, ""},
		"one segment":                    {[]string{"start:0 1/0 2/1 3/1"}, 0, "1:1 2:1 3:1"},
		"what the table has is skipped":  {[]string{"start:0 1/0 2/1 3/1"}, 2, "3:1"},
		"two segments":                   {[]string{"start:0 1/0 2/0", "start:2 3/2 4/2"}, 0, "1:1 2:1 3:2 4:2"},
		"a spare":                        {[]string{"start:0 1/0", ""}, 0, "1:1"},
		"torn tail":                      {[]string{"start:0 1/0 2/1 torn"}, 0, "1:1 2:1"},
		"torn before what came to disk":  {[]string{"start:0 1/0 torn 3/1 4/1"}, 0, "1:1"},
		"lost before a sync":             {[]string{"start:0 1/0 torn 3/2"}, 0, "corrupt"},
		"lost, said by a mark":           {[]string{"start:0 1/0 torn mark:2/2"}, 0, "corrupt"},
		"lost, said by the next segment": {[]string{"start:0 1/0 torn", "start:2 3/2"}, 0, "corrupt"},
		"lost, but the table has it":     {[]string{"start:0 1/0 torn 3/2"}, 2, "3:1"},
		"a segment is missing, synced":   {[]string{"start:0 1/0", "start:3 4/3"}, 0, "corrupt"},
		"a segment's tail never came":    {[]string{"start:0 1/0", "start:2 3/1"}, 0, "1:1"},
		"cut, then written anew":         {[]string{"start:0 1/0 torn 3/1 4/1", "start:1 2/1 3/1"}, 0, "1:1 2:2 3:2"},
		"cut twice":                      {[]string{"start:0 1/0 torn 3/1", "start:1 2/1 torn 4/1", "start:2 3/2"}, 0, "1:1 2:2 3:3"},
		"a refused update is overruled":  {[]string{"start:0 1/0 2/0", "start:1 2/1"}, 0, "1:1 2:2"},
		"overruled behind a later one":   {[]string{"start:0 1/0 2/0 3/0", "start:3 4/0", "start:1 2/1"}, 0, "1:1 2:3"},
		// The update that overrules is lost with the start: what follows it is not to be
		// put behind the one that was refused.
		"a start is torn": {[]string{"start:0 1/0 2/0", "torn 3/1"}, 0, "1:1 2:1"},
	} {
		t.Run(name, func(t *testing.T) {
			files := newMemFiles()
			for i, words := range c.segments {
				files.names[segmentName(uint64(i+1))] = written(uint64(i+1), words)
			}
			o, err := Options{files: files, Segment: minSegment}.filled("ledger")
			if err != nil {
				t.Fatal(err)
			}
			g := newGeneration()
			_, err = openJournal(o, tableMeta{version: FormatVersion, position: c.folded}, g)
			var got []string
			if errors.Is(err, store.Corrupt) {
				got = []string{"corrupt"}
			} else if err != nil {
				t.Fatal(err)
			} else {
				g.trees[Shared-1].Scan(func(c change) bool { got = append(got, fmt.Sprintf("%s:%s", c.key, c.value)); return true })
			}
			if strings.Join(got, " ") != c.want {
				t.Fatalf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// A scan whose view of the table is older than a fold must look again: what was
// folded since is in neither.
func TestOverlayNoticesAFold(t *testing.T) {
	db := openTest(t, t.TempDir(), Options{})
	put(t, db.Space(Shared), "a", "1")
	before := db.folded.Load()
	if _, ok := db.overlay(Shared, before); !ok {
		t.Fatal("nothing was folded")
	}
	if err := db.foldUpTo(1); err != nil {
		t.Fatal(err)
	}
	if _, ok := db.overlay(Shared, before); ok {
		t.Fatal("the fold went unnoticed")
	}
}
