package vault

import (
	"strings"
	"testing"

	"stasis/cmd/internal/api"
	"stasis/fs"
)

// The word that scripts act on and the sentence that people read must say the same.
func TestJudge(t *testing.T) {
	ok := api.Node{Name: "disk", State: "online", Durable: true}
	away := api.Node{Name: "usb", State: "missing", Durable: true, PendingCrates: 2}
	back := "its copies are counted anew: it was put back"
	memory := api.Node{Name: "mem", State: "unreachable"}
	for name, c := range map[string]struct {
		status api.Status
		sum    fs.Summary
		risk   int64
		state  string
		says   string
	}{
		"empty":        {status: api.Status{Nodes: []api.Node{ok}}, state: api.StateSafe, says: "no files yet"},
		"safe":         {status: api.Status{Files: 1, Bytes: 2048, Nodes: []api.Node{ok, memory}}, state: api.StateSafe, says: "1 file, 2.00 KiB"},
		"open":         {status: api.Status{Files: 2, Open: 1}, state: api.StatePending, says: "1 file is being written"},
		"sending":      {status: api.Status{Files: 2, Pending: api.Pending{Crates: 3, Bytes: 4096}}, state: api.StatePending, says: "3 crates, 4.00 KiB"},
		"closed":       {status: api.Status{Files: 2}, sum: fs.Summary{PendingFiles: 1}, state: api.StatePending, says: "1 file to go"},
		"node away":    {status: api.Status{Files: 2, Nodes: []api.Node{ok, away}}, state: api.StateDegraded, says: `node "usb" is missing, 2 crates wait for it`},
		"short":        {status: api.Status{Files: 2, Short: api.Short{Files: 2, Reason: "one node"}}, state: api.StateDegraded, says: "2 files have fewer copies than wanted (one node)"},
		"node in need": {status: api.Status{Nodes: []api.Node{{Name: "d", State: "online", Durable: true, LastError: "no space"}}}, state: api.StateDegraded, says: `node "d": no space`},
		"node full":    {status: api.Status{Files: 1, Nodes: []api.Node{{Name: "d", State: "full", Durable: true, LastError: "no room"}}}, state: api.StateSafe, says: "All is safe"},
		"put back":     {status: api.Status{Files: 1, Nodes: []api.Node{{Name: "d", State: "online", Durable: true, LastError: back, Unknown: back}}}, state: api.StateDegraded, says: `Degraded: node "d": ` + back + "."},
		"full and put back": {status: api.Status{Files: 1, Nodes: []api.Node{ok, {Name: "d", State: "full", Durable: true, LastError: "no room", Unknown: back}}},
			state: api.StateDegraded, says: `node "d": ` + back},
		"paused and put back": {status: api.Status{Files: 1, Nodes: []api.Node{ok, {Name: "d", State: "online", Durable: true, Paused: true, LastError: "paused", Unknown: back}}},
			state: api.StateDegraded, says: `node "d": paused; node "d": ` + back},
		"new": {status: api.Status{Files: 1, Nodes: []api.Node{ok, {Name: "d", State: "online", Durable: true, Unknown: "first", Uncounted: true}}},
			state: api.StatePending, says: `The copies on node "d" are being counted`},
		"unplaced":  {status: api.Status{Files: 2, Unplaced: api.Unplaced{Files: 1, Bytes: 1 << 20}}, sum: fs.Summary{UnplacedReason: "full"}, state: api.StateAtRisk, says: "1 file (1.00 MiB) in this machine's bodies only: full"},
		"only copy": {status: api.Status{Files: 2, Nodes: []api.Node{away}}, risk: 2, state: api.StateAtRisk, says: "2 files have their only copies on nodes that are away; node \"usb\" is missing"},
	} {
		state, sentence := judge(&c.status, c.sum, c.risk)
		if state != c.state || !strings.Contains(sentence, c.says) || !strings.HasSuffix(sentence, ".") {
			t.Errorf("%s: %s: %s; want %s with %q", name, state, sentence, c.state, c.says)
		}
	}
}
