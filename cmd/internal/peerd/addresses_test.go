package peerd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stasis/peer/invite"
)

// An invite whose address leads nowhere costs two persons an evening.
func TestAddresses(t *testing.T) {
	both := []Served{{"grpc", "[::]:7440"}, {"http", "0.0.0.0:7441"}}
	here := []Served{{"grpc", "127.0.0.1:7440"}, {"http", "127.0.0.1:7441"}}
	for name, c := range map[string]struct {
		given      []string
		served     []Served
		grpc, http string
		refused    string
	}{
		"as it listens":      {served: here, grpc: "127.0.0.1:7440", http: "127.0.0.1:7441"},
		"wildcard":           {served: both, refused: "--address HOST:7440"},
		"never ran":          {refused: "not known where it listens"},
		"host":               {given: []string{"nas"}, served: both, grpc: "nas:7440", http: "nas:7441"},
		"IPv6":               {given: []string{"[fd00::1]"}, served: both, grpc: "[fd00::1]:7440", http: "[fd00::1]:7441"},
		"host, never ran":    {given: []string{"nas"}, refused: "has no port"},
		"by port":            {given: []string{"nas:7441"}, served: both, http: "nas:7441"},
		"another port":       {given: []string{"nas:99"}, served: both, grpc: "nas:99"},
		"another port, http": {given: []string{"nas:99"}, served: both[1:], http: "nas:99"},
		"https":              {given: []string{"https://nas:99/"}, served: both, http: "nas:99"},
		"https, no port":     {given: []string{"https://nas"}, served: both, http: "nas:7441"},
		"never ran, told":    {given: []string{"nas:99"}, grpc: "nas:99"},
		"several":            {given: []string{"nas:7440", "10.0.0.9:7440", "nas:7441"}, served: both, grpc: "nas:7440 10.0.0.9:7440", http: "nas:7441"},
		"wildcard given":     {given: []string{"0.0.0.0:7440"}, served: both, refused: "which machine"},
		"no host":            {given: []string{":7440"}, served: both, refused: "which machine"},
		"nothing":            {given: []string{""}, served: both, refused: "which machine"},
		"port of words":      {given: []string{"nas:grpc"}, served: both, refused: "port is not a number"},
		"too many":           {given: make([]string, MaxAddresses+1), served: both, refused: "are the most"},
	} {
		var in invite.Invite
		err := addresses(&in, c.given, c.served)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: %v, want %q", name, err, c.refused)
			}
			continue
		}
		if err != nil || strings.Join(in.GRPC, " ") != c.grpc || strings.Join(in.HTTP, " ") != c.http {
			t.Errorf("%s: grpc %v, http %v, %v", name, in.GRPC, in.HTTP, err)
		}
	}
}

func TestOnlyHere(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1:1": true, "localhost:1": true, "[::1]:1": true, "nas:1": false, "10.0.0.1:1": false} {
		if got := onlyHere(invite.Invite{GRPC: []string{address}}); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

// What an earlier release wrote down, and what nobody wrote, is read for ever.
func TestServedFile(t *testing.T) {
	for text, want := range map[string]int{
		"grpc [::]:7440\nhttp 127.0.0.1:7441\n": 2,
		"grpc [::]:7440":                        1,
		"quic [::]:7440\nhttp nas:7441\n":       1,
		"":                                      0,
		"\x00\n\n grpc\ngrpc 7440\n":            0,
	} {
		state := t.TempDir()
		if err := os.WriteFile(filepath.Join(state, servedName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := &Peer{o: Options{State: state}}
		if got := p.served(); len(got) != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
