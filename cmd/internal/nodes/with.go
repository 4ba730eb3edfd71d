package nodes

import (
	"errors"
	"fmt"

	"stasis/cmd/internal/config"
	"stasis/store"
)

// FreeName refuses the name of a node that there is.
func FreeName(c *config.Config, name string) error {
	if _, taken := c.Node(name); taken {
		return &store.Error{Kind: store.Conflict, Op: "add node", Subject: fmt.Sprintf("%q", name),
			Detail: "there is a node of that name", Hint: "choose another name"}
	}
	return nil
}

// With is a configuration and one more node, checked as if it stood in the file at path, which
// parse reads.
func With(c *config.Config, n config.Node, path string, parse func(path string, text []byte) (*config.Config, error)) (*config.Config, error) {
	if err := FreeName(c, n.Name); err != nil {
		return nil, err
	}
	for _, o := range c.Nodes {
		if o.Path == n.Path && n.Path != "" {
			return nil, &store.Error{Kind: store.Conflict, Op: "add node", Subject: fmt.Sprintf("%q", n.Name),
				Detail: fmt.Sprintf("node %q is at %s already", o.Name, o.Path), Hint: "a second way to one place is no second copy"}
		}
		if o.Peer == n.Peer && n.Peer != "" {
			return nil, samePeer(n.Name, o)
		}
	}
	// What the file would refuse alone is refused in the same words, without a line.
	text, err := config.AddNode(path, nil, n)
	if err == nil {
		_, err = parse(path, text)
	}
	if err != nil {
		var fault *config.Error
		if errors.As(err, &fault) {
			err = &store.Error{Kind: store.Invalid, Op: "add node", Subject: fmt.Sprintf("%q", n.Name), Detail: fault.Message, Hint: fault.Hint}
		}
		return nil, err
	}
	more := *c
	more.Nodes = append(append([]config.Node{}, c.Nodes...), n)
	if len(more.Nodes) > config.MaxNodes {
		return nil, &store.Error{Kind: store.Invalid, Op: "add node", Detail: fmt.Sprintf("there are at most %d nodes", config.MaxNodes)}
	}
	return &more, nil
}
