package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// netDir is where named network namespaces lie.
const netDir = "/run/netns"

// Net is a network namespace: a machine of its own, as far as connections go.
type Net struct {
	t    testing.TB
	name string
}

var nets atomic.Int32

// NewNet makes a network namespace. Make it before what lives in it: what is made last is
// cleared first.
func NewNet(t testing.TB) *Net {
	t.Helper()
	NeedRoot(t)
	Binary(t, "stasis") // so that there is a run directory
	n := &Net{t: t, name: fmt.Sprintf("%s-%d", filepath.Base(runDir), nets.Add(1))}
	Must(t, "ip", "netns", "add", n.name)
	t.Cleanup(n.end)
	Must(t, "ip", "-n", n.name, "link", "set", "lo", "up")
	return n
}

// enter is what goes before a command for it to run in the namespace. No mount namespace
// is made, as `ip netns exec` does: it would keep copies of mounts alive.
func (n *Net) enter() []string {
	if n == nil {
		return nil
	}
	return []string{"nsenter", "--net=" + filepath.Join(netDir, n.name)}
}

// Enter is a command as it runs in the namespace.
func (n *Net) Enter(c Command) Command {
	c.Args = append(n.enter(), c.Args...)
	return c
}

func (n *Net) end() {
	if r, err := (Command{Args: []string{"ip", "netns", "pids", n.name}}).run(); err == nil && strings.TrimSpace(r.Stdout) != "" {
		n.t.Errorf("processes are left in network namespace %s: %s", n.name, strings.Fields(r.Stdout))
	}
	if r, err := (Command{Args: []string{"ip", "netns", "del", n.name}}).run(); err != nil || r.Code != 0 {
		n.t.Errorf("remove a network namespace: %v %v", err, r)
	}
}

// netsOf are the network namespaces of a run directory.
func netsOf(dir string) []string {
	entries, err := os.ReadDir(netDir)
	if err != nil {
		return nil // there never was one
	}
	var found []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(dir)+"-") {
			found = append(found, e.Name())
		}
	}
	return found
}

// Link is a cable between two network namespaces. It goes away with either.
type Link struct {
	t         testing.TB
	near, far *Net
	device    string
	// Near and Far are the addresses of the ends.
	Near, Far string
}

var links atomic.Int32

// NewLink joins two network namespaces by a veth pair.
func NewLink(t testing.TB, near, far *Net) *Link {
	t.Helper()
	// Namespaces of other tests may have the same addresses: they never meet.
	number := int(links.Add(1))
	subnet := fmt.Sprintf("10.%d.%d", 64+number>>8&63, number&255)
	l := &Link{t: t, near: near, far: far, device: fmt.Sprintf("link%d", number), Near: subnet + ".1", Far: subnet + ".2"}
	Must(t, "ip", "-n", near.name, "link", "add", l.device, "type", "veth", "peer", "name", l.device, "netns", far.name)
	for _, end := range []struct {
		net     *Net
		address string
	}{{near, l.Near}, {far, l.Far}} {
		Must(t, "ip", "-n", end.net.name, "address", "add", end.address+"/24", "dev", l.device)
		Must(t, "ip", "-n", end.net.name, "link", "set", l.device, "up")
	}
	return l
}

// Cut takes the far end down: nothing passes, and nobody is told.
func (l *Link) Cut() {
	l.t.Helper()
	Must(l.t, "ip", "-n", l.far.name, "link", "set", l.device, "down")
}

// Mend takes it up again.
func (l *Link) Mend() { l.t.Helper(); Must(l.t, "ip", "-n", l.far.name, "link", "set", l.device, "up") }

// Slow lets so many bytes a second pass each way.
func (l *Link) Slow(rate int) {
	l.t.Helper()
	for _, n := range []*Net{l.near, l.far} {
		Must(l.t, "tc", "-n", n.name, "qdisc", "replace", "dev", l.device, "root", "tbf",
			"rate", strconv.Itoa(rate*8)+"bit", "burst", strconv.Itoa(slowBurst), "limit", strconv.Itoa(slowQueue))
	}
}

// Fast undoes Slow.
func (l *Link) Fast() {
	l.t.Helper()
	for _, n := range []*Net{l.near, l.far} {
		Must(l.t, "tc", "-n", n.name, "qdisc", "del", "dev", l.device, "root")
	}
}

// Traffic is the bytes that have crossed a link, as the interface of the near end counts
// them: with every header, and whatever was sent again.
type Traffic struct{ Out, In int64 }

// Since is what crossed since an earlier count.
func (a Traffic) Since(b Traffic) Traffic { return Traffic{a.Out - b.Out, a.In - b.In} }

// All is both ways.
func (a Traffic) All() int64 { return a.Out + a.In }

// Traffic reads the counters.
func (l *Link) Traffic() Traffic {
	l.t.Helper()
	text := Must(l.t, append(l.near.enter(), "cat", "/proc/net/dev")...)
	for line := range strings.Lines(text) {
		name, figures, _ := strings.Cut(strings.TrimSpace(line), ":")
		fields := strings.Fields(figures)
		if name != l.device || len(fields) < 9 {
			continue
		}
		in, inErr := strconv.ParseInt(fields[0], 10, 64)
		out, outErr := strconv.ParseInt(fields[8], 10, 64)
		if inErr == nil && outErr == nil {
			return Traffic{Out: out, In: in}
		}
	}
	l.t.Fatalf("no figures of %s in %s", l.device, text)
	return Traffic{}
}
