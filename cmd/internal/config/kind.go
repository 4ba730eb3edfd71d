package config

import (
	"strings"

	"stasis/peer/identity"
	"stasis/peer/invite"
)

// place is what tells where a node is, by its kind.
type place struct {
	word string // how the kind is called in a sentence
	// needs are keys it must have, lacks those it can't.
	needs, lacks []string
}

var places = map[string]place{
	KindDirectory: {word: "directory", needs: []string{"path"}, lacks: []string{"address", "peer"}},
	KindContainer: {word: "container", needs: []string{"path"}, lacks: []string{"address", "peer"}},
	KindMemory:    {word: "memory", lacks: []string{"address", "peer", "path"}},
	KindGRPC:      {word: "peer", needs: []string{"address", "peer"}, lacks: []string{"path", "capacity"}},
	KindHTTP:      {word: "peer", needs: []string{"address", "peer"}, lacks: []string{"path", "capacity"}},
}

// nodeKind checks what a node's kind asks for.
func (d *document) nodeKind(n *Node, at int, line map[string]int) error {
	p, known := places[n.Kind]
	if !known {
		hint := didYouMean(n.Kind, kinds)
		if hint == "" {
			hint = "it is one of " + strings.Join(kinds, ", ")
		}
		return d.fault(line["kind"], hint, "unknown kind %q", n.Kind)
	}
	for _, key := range p.lacks {
		if line[key] != 0 {
			hint := "remove it"
			if key == "capacity" {
				hint = "remove it: what a vault may use there is what its owner has given"
			}
			return d.fault(line[key], hint, "a %s node has no %s", p.word, key)
		}
	}
	value := map[string]string{"path": n.Path, "address": n.Address, "peer": n.Peer}
	for _, key := range p.needs {
		if value[key] == "" {
			return d.fault(at, "", "node %q has no %s", n.Name, key)
		}
	}
	switch {
	case n.Remote():
		return d.remote(n, line)
	case n.Path != "":
		path, err := absolute(d.path, n.Path)
		if err != nil {
			return d.fault(line["path"], "", "path: %v", err)
		}
		n.Path = path
	}
	if n.Capacity == 0 && n.Kind != KindDirectory {
		return d.fault(at, `add a line like capacity = "64GiB"`, "node %q is a %s and has no capacity", n.Name, n.Kind)
	}
	return nil
}

// remote checks where a peer is, and brings its fingerprint into the one form it has.
func (d *document) remote(n *Node, line map[string]int) error {
	if err := invite.CheckAddress(n.Address); err != nil {
		return d.fault(line["address"], "write it like nas.example:7440", "address: %q is not a host and a port", n.Address)
	}
	sum, err := identity.ParseFingerprint(n.Peer)
	if err != nil {
		return d.fault(line["peer"], "", "peer: %q is not a fingerprint, which has %d letters a-z and digits 2-7", n.Peer, identity.FingerprintSize)
	}
	n.Peer = identity.FormatFingerprint(sum)
	return nil
}
