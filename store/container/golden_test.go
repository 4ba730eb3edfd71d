package container

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/booking"
	"stasis/store/storetest"
)

// update writes golden files that are missing. One that is there is never
// replaced: old containers stay readable.
var update = os.Getenv("STASIS_GOLDEN") != ""

// golden gives the file's content, made by build if it is missing and may be.
func golden(t *testing.T, name string, build func() []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	p, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && update {
		p = build()
		if err := os.WriteFile(path, p, 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var (
	goldenReservation = store.ReservationID{1, 2, 3}
	goldenToken       = store.Token{4, 5, 6}
	goldenHolder      = store.OwnerID{9}
)

const goldenSeed = 20260101

// goldenCrates are in the golden container; the third was discarded.
func goldenCrates() []storetest.Crate {
	g := storetest.NewGen(goldenSeed)
	cs := []storetest.Crate{g.Crate(1), g.Crate(5000), g.Crate(4096), g.Crate(20001)}
	cs[3].Form = store.Sealed
	return cs
}

// buildGolden makes the golden container, as the version of the day writes it.
func buildGolden(t *testing.T) []byte {
	path, s := newContainer(t, MinCapacity, Options{})
	ctx := context.Background()
	if err := s.Fence(ctx, nil, goldenToken, false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reserve(ctx, store.ReserveRequest{ID: goldenReservation, Holder: goldenHolder, Bytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	for _, c := range goldenCrates() {
		if _, err := s.Put(ctx, c.Put(goldenReservation)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Discard(ctx, store.DiscardRequest{Crate: goldenCrates()[2].ID}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err = z.Write(raw)
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A container that version 1 wrote is read, and works on, for ever.
func TestGoldenContainer(t *testing.T) {
	z, err := gzip.NewReader(bytes.NewReader(golden(t, "v1.container.gz", func() []byte { return buildGolden(t) })))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	sb, _, st, _ := layout(t, newLossy(raw))
	var drawn int64
	for _, c := range goldenCrates() {
		drawn += c.Charge()
	}
	r, ok := st.reservations[goldenReservation]
	if !ok || r.Holder != goldenHolder || r.Bytes != 1<<20 || r.Drawn != drawn || r.Lease != store.DefaultLease {
		t.Errorf("the reservation is %+v", r)
	}
	if sb.token != goldenToken || sb.capacity != MinCapacity || sb.owner != testOwner {
		t.Errorf("the superblock is %+v", sb)
	}
	path := filepath.Join(t.TempDir(), "c")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(context.Background(), path, sb.node, testOwner, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, c := range goldenCrates() {
		p, err := contents(s, c.ID)
		if i == 2 {
			if !errors.Is(err, store.NotFound) {
				t.Errorf("a discarded crate: %v", err)
			}
		} else if err != nil || !bytes.Equal(p, c.Data) {
			t.Errorf("crate %d: %v", i, err)
		}
	}
	if info, err := s.Stat(context.Background(), goldenCrates()[3].ID); err != nil || info.Form != store.Sealed {
		t.Errorf("%+v, %v", info, err)
	}
	if err := s.Fence(context.Background(), []store.Token{goldenToken}, store.NewToken(), false); err != nil {
		t.Fatal(err)
	}
	store1(t, s, storetest.NewGen(1).Crate(5000))
	if n := s.damage.count(); n != 0 {
		t.Errorf("%d damages", n)
	}
}

// Every kind of page and record, byte by byte.
func TestGoldenPages(t *testing.T) {
	var out strings.Builder
	show := func(what string, raw []byte) {
		fmt.Fprintf(&out, "%s\n%s\n", what, hex.EncodeToString(bytes.TrimRight(raw, "\x00")))
	}
	raw := make([]byte, PageSize)
	sb := superblock{
		version: 1, node: store.NodeID{1}, owner: store.OwnerID{2}, capacity: MinCapacity, salt: [16]byte{3}, token: store.Token{4},
		created: time.Unix(1700000000, 0), generation: 5, logHead: 6, logNonce: sum{7}, logPages: 8,
	}
	sb.encode(raw, 1)
	show("superblock", raw)
	k := newKeyer(sb.pageKey())
	m := mark{nonce: sum{7}, index: 9, sum: sum{10}}
	m.encode(k, raw, 2, 5)
	show("mark", raw)
	placed := mark{nonce: sum{7}, index: 9, sum: sum{10}, position: store.Position{Count: 1<<63 + 7, Mark: 1<<64 - 2}}
	placed.encode(k, raw, 3, 5)
	text := hex.EncodeToString(bytes.TrimRight(raw, "\x00")) + "\n"
	if old := golden(t, "v1.position", func() []byte { return []byte(text) }); string(old) != text {
		t.Errorf("a mark with a position is\n%s\nand was\n%s", text, old)
	}
	if m, err := decodeMark(k, raw, 3); err != nil || m.position != placed.position {
		t.Errorf("its position is read as %v, %v", m.position, err)
	}
	k.encode(&page{kind: logPage, commit: true, self: 6, number: tag(sum{7}, 3), link: sum{11}, next: 12, payload: []byte("records")}, raw)
	show("log", raw)
	c := &crate{id: store.CrateID{13}, form: store.Sealed, size: 5000, seq: 14, root: store.Digest{15}}
	c.extents = []extent{{16, 2}, {20, 1}}
	numbers, pages := encodeHeader(k, c, []store.Digest{{17}})
	show(fmt.Sprint("header in ", numbers), pages[0])
	for _, r := range encodeCrate(c) {
		show("crate", r)
	}
	many := *c
	for i := range int64(60) {
		many.extents = append(many.extents, extent{100 + 2*i, 1})
	}
	for _, r := range encodeCrate(&many) {
		show("crate in many extents", r)
	}
	terms := booking.Terms{
		ID: store.ReservationID{18}, Holder: store.OwnerID{19}, Bytes: 20, Lease: 21, Expires: time.Unix(0, 22), Boot: [16]byte{23}, Deadline: 24,
	}
	show("draw", encodeDraw(terms.ID, 25))
	show("discard", encodeDiscard(c.id, 26))
	show("terms", encodeTerms(terms))
	show("reservation", encodeReservation(booking.Record{Terms: terms, Drawn: 27}))
	show("end", encodeEnd(terms.ID))
	show("state", encodeState(28))
	want := golden(t, "v1.pages", func() []byte { return []byte(out.String()) })
	got, old := strings.Split(out.String(), "\n"), strings.Split(string(want), "\n")
	if !slices.Equal(got, old) {
		for i := range min(len(got), len(old)) {
			if got[i] != old[i] {
				t.Errorf("line %d is\n%s\nand was\n%s", i+1, got[i], old[i])
			}
		}
		t.Fatalf("the format has changed: %d lines, had %d", len(got), len(old))
	}
}
