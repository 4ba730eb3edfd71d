package vault

import (
	"strings"
	"testing"

	"stasis/fs"
)

// The word that scripts act on and the sentence that people read must say the same.
func TestJudge(t *testing.T) {
	ok := Node{Name: "disk", State: "online", Durable: true}
	away := Node{Name: "usb", State: "missing", Durable: true, PendingCrates: 2}
	memory := Node{Name: "mem", State: "unreachable"}
	for name, c := range map[string]struct {
		status Status
		sum    fs.Summary
		risk   int64
		state  string
		says   string
	}{
		"empty":        {status: Status{Nodes: []Node{ok}}, state: StateSafe, says: "no files yet"},
		"safe":         {status: Status{Files: 1, Bytes: 2048, Nodes: []Node{ok, memory}}, state: StateSafe, says: "1 file, 2.00 KiB"},
		"open":         {status: Status{Files: 2, Open: 1}, state: StatePending, says: "1 file is being written"},
		"sending":      {status: Status{Files: 2, Pending: Pending{Crates: 3, Bytes: 4096}}, state: StatePending, says: "3 crates, 4.00 KiB"},
		"closed":       {status: Status{Files: 2}, sum: fs.Summary{PendingFiles: 1}, state: StatePending, says: "1 file to go"},
		"node away":    {status: Status{Files: 2, Nodes: []Node{ok, away}}, state: StateDegraded, says: `node "usb" is missing, 2 crates wait for it`},
		"short":        {status: Status{Files: 2, Short: Short{2, "one node"}}, state: StateDegraded, says: "2 files have fewer copies than wanted (one node)"},
		"node in need": {status: Status{Nodes: []Node{{Name: "d", State: "online", Durable: true, LastError: "no space"}}}, state: StateDegraded, says: `node "d": no space`},
		"node full":    {status: Status{Files: 1, Nodes: []Node{{Name: "d", State: "full", Durable: true, LastError: "no room"}}}, state: StateSafe, says: "All is safe"},
		"unplaced":     {status: Status{Files: 2, Unplaced: Unplaced{1, 1 << 20}}, sum: fs.Summary{UnplacedReason: "full"}, state: StateAtRisk, says: "1 file (1.00 MiB) in this machine's bodies only: full"},
		"only copy":    {status: Status{Files: 2, Nodes: []Node{away}}, risk: 2, state: StateAtRisk, says: "2 files have their only copies on nodes that are away; node \"usb\" is missing"},
	} {
		state, sentence := judge(&c.status, c.sum, c.risk)
		if state != c.state || !strings.Contains(sentence, c.says) || !strings.HasSuffix(sentence, ".") {
			t.Errorf("%s: %s: %s; want %s with %q", name, state, sentence, c.state, c.says)
		}
	}
}
