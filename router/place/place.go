package place

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"stasis/store"
)

// Health is how a node is.
type Health uint8

const (
	// Online: it answers.
	Online Health = iota
	// Silent: it does not answer, and is expected back.
	Silent
	// Gone: silent for longer than the grace.
	Gone
	// Leaving: it is being removed or drained.
	Leaving
	// Barred: it was found lying.
	Barred
)

// AdopterRoom: a node that adopts is preferred for it while at least
// 1/AdopterRoom of its capacity is free.
const AdopterRoom = 16

// Node is one candidate. Sizes are in bytes.
type Node struct {
	ID      store.NodeID
	Name    string
	Zone    string // nodes without one lie together in the zone ""
	Durable bool
	Health  Health
	Free    int64 // what could be drawn there, beside Held
	Total   int64 // capacity, or the size of the device; 0: unknown
	Held    int64 // what this content has drawn there already
	Adopts  bool
	// Refused, unless empty, is what the node answered when it was asked for the space.
	Refused string
}

// Want is what is asked for.
type Want struct {
	Copies  int
	Zones   int   // distinct zones that the copies must lie in; 0: none in particular
	Bytes   int64 // each copy's charge
	Avoid   []string
	Exclude []store.NodeID // have it already; they count for the zones
}

// Choice is the answer. Chosen are indices into the nodes, best first. Short is
// empty, or says in a sentence why there are fewer than wanted.
type Choice struct {
	Chosen []int
	Short  string
}

// Choose picks up to w.Copies distinct durable leaves.
func Choose(nodes []Node, w Want) Choice {
	c := chooser{nodes: nodes, want: w, usable: make([]bool, len(nodes))}
	for i := range nodes {
		c.usable[i] = c.excluded(i) == "" && nodes[i].Refused == ""
		if slices.Contains(w.Exclude, nodes[i].ID) {
			c.cover(nodes[i].Zone)
		}
	}
	var out Choice
	for len(out.Chosen) < w.Copies {
		best := -1
		for i := range nodes {
			if c.usable[i] && (best < 0 || c.better(i, best)) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		out.Chosen = append(out.Chosen, best)
		c.cover(nodes[best].Zone)
		for i := range nodes {
			if nodes[i].ID == nodes[best].ID {
				c.usable[i] = false
			}
		}
	}
	if len(out.Chosen) < w.Copies {
		out.Short = c.explain(len(out.Chosen))
	} else if len(c.zones) < w.Zones {
		out.Short = fmt.Sprintf("the copies should lie in %d zones and the nodes that have room lie in %d", w.Zones, len(c.zones))
	}
	return out
}

type chooser struct {
	nodes  []Node
	want   Want
	usable []bool
	zones  []string // that have a copy
}

func (c *chooser) cover(zone string) {
	if !slices.Contains(c.zones, zone) {
		c.zones = append(c.zones, zone)
	}
}

// excluded says why a node is no candidate whatever its space; empty if it is one.
func (c *chooser) excluded(i int) string {
	n := &c.nodes[i]
	switch {
	case slices.Contains(c.want.Exclude, n.ID):
		return "has it already"
	case !n.Durable:
		return "is not durable"
	case slices.Contains(c.want.Avoid, n.Name):
		return "is to be avoided"
	case n.Health == Gone:
		return "has been away too long"
	case n.Health == Leaving:
		return "is being removed"
	case n.Health == Barred:
		return "is not trusted"
	}
	return ""
}

// better reports whether node i is to be taken before node j, where i > j.
func (c *chooser) better(i, j int) bool {
	a, b := &c.nodes[i], &c.nodes[j]
	newA, newB := !slices.Contains(c.zones, a.Zone), !slices.Contains(c.zones, b.Zone)
	if len(c.zones) < c.want.Zones && newA != newB {
		return newA
	}
	if x, y := c.standing(a), c.standing(b); x != y {
		return x < y
	}
	if x, y := a.Held > 0, b.Held > 0; x != y {
		return x
	}
	if newA != newB {
		return newA
	}
	if x, y := saves(a), saves(b); x != y {
		return x
	}
	return bits.Len64(uint64(max(a.Free, 0))) > bits.Len64(uint64(max(b.Free, 0)))
}

// standing orders by health and fit: online with room, online without, silent. What
// is known of the free space may be old, so that a node without room is still asked
// when there is no other online.
func (c *chooser) standing(n *Node) int {
	switch {
	case n.Health != Online:
		return 2
	case n.Free+n.Held < c.want.Bytes:
		return 1
	}
	return 0
}

func saves(n *Node) bool { return n.Adopts && n.Free >= n.Total/AdopterRoom }

// explain says why only got nodes could be found.
func (c *chooser) explain(got int) string {
	durable := 0
	var refused, excluded []string
	for i := range c.nodes {
		n := &c.nodes[i]
		if !n.Durable {
			continue
		}
		durable++
		switch why := c.excluded(i); {
		case n.Refused != "":
			refused = append(refused, fmt.Sprintf("%q %s", n.Name, n.Refused))
		case why != "" && !slices.Contains(c.want.Exclude, n.ID):
			excluded = append(excluded, fmt.Sprintf("%q %s", n.Name, why))
		}
	}
	have := len(c.want.Exclude)
	wanted := plural(c.want.Copies+have, "copy", "copies") + " wanted"
	if reasons := append(refused, excluded...); len(reasons) > 0 {
		return fmt.Sprintf("%s, room for %d: %s", wanted, got+have, strings.Join(reasons, ", "))
	}
	return fmt.Sprintf("%s, and the vault has %s", wanted, plural(durable, "durable node", "durable nodes"))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
