package vault

import (
	"testing"

	"stasis/cmd/internal/config"
	"stasis/store"
)

// What a node on another machine says alone keeps no vault from being mounted; what one on this
// machine says does, and so does what all say.
func TestRefusals(t *testing.T) {
	near, far := config.Node{Name: "near", Path: "/near"}, config.Node{Name: "far", Address: "far:1"}
	no := &store.Error{Kind: store.Conflict, Op: "use the node"}
	down := &store.Error{Kind: store.Unavailable, Op: "use the node"}
	type answer struct {
		n   config.Node
		err error
	}
	for name, c := range map[string]struct {
		answers []answer
		stops   bool
	}{
		"all accept":                  {[]answer{{near, nil}, {far, nil}}, false},
		"the far one refuses":         {[]answer{{far, no}, {near, nil}}, false},
		"of two far ones one refuses": {[]answer{{far, no}, {far, nil}}, false},
		"the near one refuses":        {[]answer{{far, nil}, {near, no}}, true},
		"all refuse":                  {[]answer{{far, no}, {near, no}}, true},
		"the far one refuses, alone":  {[]answer{{far, no}}, true},
		"the other does not answer":   {[]answer{{far, no}, {near, down}}, true},
		"nobody answers":              {[]answer{{far, down}, {near, down}}, false},
	} {
		var r refusals
		for _, a := range c.answers {
			r.note(a.n, a.err)
		}
		if err := r.reason(); (err != nil) != c.stops {
			t.Errorf("%s: %v", name, err)
		}
	}
}
