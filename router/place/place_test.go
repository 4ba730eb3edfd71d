package place

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"stasis/store"
)

const mib = 1 << 20

func id(b byte) store.NodeID { return store.NodeID{b} }

// TestChoose fixes what the order of the criteria means in the cases people meet.
func TestChoose(t *testing.T) {
	disk := Node{ID: id(1), Name: "disk", Durable: true, Free: 100 * mib, Total: 200 * mib, Adopts: true}
	usb := Node{ID: id(2), Name: "usb", Durable: true, Free: 900 * mib, Total: 1000 * mib}
	nas := Node{ID: id(3), Name: "nas", Zone: "cellar", Durable: true, Free: 100 * mib, Total: 200 * mib}
	ram := Node{ID: id(4), Name: "ram", Free: 100 * mib}
	with := func(n Node, f func(*Node)) Node { f(&n); return n }
	silent := func(n *Node) { n.Health = Silent }

	for _, c := range []struct {
		name  string
		nodes []Node
		want  Want
		names string
		short string // part of
	}{
		{"the adopter comes before the emptier one", []Node{usb, disk}, Want{Copies: 1, Bytes: mib}, "disk", ""},
		{"unless it is nearly full", []Node{usb, with(disk, func(n *Node) { n.Free = 10 * mib })}, Want{Copies: 1, Bytes: mib}, "usb", ""},
		{"another zone comes before more space", []Node{disk, usb, nas}, Want{Copies: 2, Bytes: mib}, "disk nas", ""},
		{"an online node comes before a silent one", []Node{with(disk, silent), usb}, Want{Copies: 1, Bytes: mib}, "usb", ""},
		{"a silent node is still a place", []Node{with(disk, silent), usb}, Want{Copies: 2, Bytes: mib}, "usb disk", ""},
		{"a zone that is required comes before health", []Node{disk, usb, with(nas, silent)}, Want{Copies: 2, Zones: 2, Bytes: mib}, "disk nas", ""},
		{"what has the space already keeps it", []Node{disk, usb, with(nas, func(n *Node) { n.Held = mib })}, Want{Copies: 1, Bytes: mib}, "nas", ""},
		{"held space counts as room", []Node{with(usb, func(n *Node) { n.Free, n.Held = mib, 9*mib }), nas}, Want{Copies: 1, Bytes: 10 * mib}, "usb", ""},
		{"memory never counts", []Node{disk, ram}, Want{Copies: 2, Bytes: mib}, "disk", "2 copies wanted, and the vault has 1 durable node"},
		{"a refusal is told", []Node{disk, with(usb, func(n *Node) { n.Refused = "has 1.0 MiB free" })}, Want{Copies: 2, Bytes: mib}, "disk", `2 copies wanted, room for 1: "usb" has 1.0 MiB free`},
		{"what is to be avoided is told", []Node{disk, usb}, Want{Copies: 2, Bytes: mib, Avoid: []string{"usb"}}, "disk", `"usb" is to be avoided`},
		{"one away past the grace is no place", []Node{disk, with(usb, func(n *Node) { n.Health = Gone })}, Want{Copies: 2, Bytes: mib}, "disk", "away too long"},
		{"a full one is asked before none", []Node{with(disk, func(n *Node) { n.Free = 0 })}, Want{Copies: 1, Bytes: mib}, "disk", ""},
		{"two ways to one leaf are one place", []Node{disk, with(disk, func(n *Node) { n.Name = "again" })}, Want{Copies: 2, Bytes: mib}, "disk", "2 copies wanted"},
		{"who has it gets no second copy and covers its zone", []Node{disk, usb, nas}, Want{Copies: 1, Bytes: mib, Exclude: []store.NodeID{id(3)}}, "disk", ""},
		{"too few zones is told", []Node{disk, usb}, Want{Copies: 2, Zones: 2, Bytes: mib}, "disk usb", "2 zones"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Choose(c.nodes, c.want)
			var names []string
			for _, i := range got.Chosen {
				names = append(names, c.nodes[i].Name)
			}
			if strings.Join(names, " ") != c.names {
				t.Errorf("chose %q, want %q", names, c.names)
			}
			if (c.short == "") != (got.Short == "") || !strings.Contains(got.Short, c.short) {
				t.Errorf("short is %q, want %q in it", got.Short, c.short)
			}
		})
	}
}

func genNode(t *rapid.T) Node {
	return Node{
		ID:      id(byte(rapid.IntRange(1, 6).Draw(t, "id"))),
		Name:    rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name"),
		Zone:    rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "zone"),
		Durable: rapid.IntRange(0, 4).Draw(t, "durable") > 0,
		Health:  Health(rapid.IntRange(0, 3).Draw(t, "health")),
		Free:    rapid.Int64Range(0, 1<<30).Draw(t, "free"),
		Total:   rapid.Int64Range(0, 1<<31).Draw(t, "total"),
		Held:    rapid.SampledFrom([]int64{0, 0, mib}).Draw(t, "held"),
		Adopts:  rapid.Bool().Draw(t, "adopts"),
		Refused: rapid.SampledFrom([]string{"", "", "", "is full"}).Draw(t, "refused"),
	}
}

// TestChooseAlways checks what must hold of every choice, whatever the nodes.
func TestChooseAlways(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := rapid.SliceOfN(rapid.Custom(genNode), 0, 8).Draw(t, "nodes")
		w := Want{
			Copies: rapid.IntRange(1, 5).Draw(t, "copies"),
			Zones:  rapid.IntRange(0, 3).Draw(t, "zones"),
			Bytes:  rapid.Int64Range(1, 1<<30).Draw(t, "bytes"),
			Avoid:  rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b"}), 0, 2).Draw(t, "avoid"),
		}
		if rapid.Bool().Draw(t, "exclude") {
			w.Exclude = []store.NodeID{id(1)}
		}
		got := Choose(nodes, w)
		if again := Choose(nodes, w); !reflect.DeepEqual(got, again) {
			t.Fatalf("not a function of its input: %v, then %v", got, again)
		}
		if len(got.Chosen) > w.Copies {
			t.Fatalf("chose %d of %d", len(got.Chosen), w.Copies)
		}
		eligible := func(n Node) bool {
			return n.Durable && n.Health <= Silent && n.Refused == "" &&
				!slices.Contains(w.Avoid, n.Name) && !slices.Contains(w.Exclude, n.ID)
		}
		leaves := map[store.NodeID]bool{}
		for _, i := range got.Chosen {
			n := nodes[i]
			if leaves[n.ID] || !eligible(n) {
				t.Fatalf("chose %+v", n)
			}
			leaves[n.ID] = true
		}
		possible := map[store.NodeID]bool{}
		for _, n := range nodes {
			if eligible(n) {
				possible[n.ID] = true
			}
		}
		if want := min(w.Copies, len(possible)); len(got.Chosen) != want {
			t.Fatalf("chose %d nodes where %d were possible", len(got.Chosen), want)
		}
		if len(got.Chosen) < w.Copies && got.Short == "" {
			t.Fatal("short, and no reason given")
		}
	})
}
