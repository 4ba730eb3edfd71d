package nodes

import (
	"fmt"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/router"
)

// Settings tells one configuration of a node from another: when it changes, its store is
// opened anew.
func Settings(n config.Node) string {
	return fmt.Sprintf("%s %d %s%s %s", n.Kind, n.Capacity, n.Path, n.Address, n.Peer)
}

// Tell is what a router knows of a node, as the commands tell it. file is the name of the
// settings, in which the node should be.
func Tell(n router.NodeStatus, c *config.Config, file string) api.Node {
	out := api.Node{
		Name: n.Name, Kind: n.Kind, Zone: n.Zone, State: string(n.State), Durable: n.Durable,
		Crates: n.Crates, Bytes: n.Bytes, Capacity: n.Capacity, Free: n.Free, Reserved: n.Reserved,
		PendingCrates: n.PendingCrates, PendingBytes: n.PendingBytes, LastError: n.LastError, Warning: n.Warning,
		Refuses: n.Refuses, Barred: n.Barred, Paused: n.Paused, PausedUntil: n.PausedUntil,
		Unknown: n.Unknown, Uncounted: n.Uncounted,
	}
	if !n.ID.IsZero() {
		out.ID = n.ID.String()
	}
	if s, ok := c.Node(n.Name); ok {
		out.Path, out.Address, out.Peer = s.Path, s.Address, s.Peer
	} else {
		out.Warning = "not in " + file + " any more; `stasis node remove` forgets it"
	}
	if n.Damage > 0 && out.LastError == "" {
		// Mended or not: a disk that rots is one to look at.
		places := "places were"
		if n.Damage == 1 {
			places = "place was"
		}
		out.LastError = fmt.Sprintf("%d %s found damaged since it was opened; see `stasis check --read`, and look at the disk", n.Damage, places)
	}
	return out
}
