package nodes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"stasis/cmd/internal/config"
	"stasis/store"
	"stasis/store/container"
	"stasis/store/directory"
)

// Marker is what lies at a node's path.
type Marker struct {
	There bool
	ID    store.NodeID
	Owner store.OwnerID
}

// Inspect looks for a store at a node's path.
func Inspect(n config.Node) (Marker, error) {
	if n.Kind == config.KindContainer {
		if _, err := os.Lstat(n.Path); errors.Is(err, fs.ErrNotExist) {
			return Marker{}, nil
		}
		c, err := container.Inspect(n.Path)
		if errors.Is(err, store.Unavailable) {
			err = &store.Error{Kind: store.Conflict, Op: fmt.Sprintf("look for node %q", n.Name), Subject: "at " + n.Path,
				Detail: "something else is there", Err: err}
		}
		return Marker{err == nil, c.Leaf, c.Owner}, err
	}
	d, err := directory.Inspect(n.Path)
	if errors.Is(err, store.NotFound) {
		return Marker{}, nil
	}
	return Marker{err == nil, d.ID, d.Owner}, err
}

// checkParent wants the directory in which a new store is to lie: where it is missing,
// so may be the disk that should be mounted there.
func checkParent(n config.Node) error {
	parent := filepath.Dir(n.Path)
	info, err := os.Stat(parent)
	e := &store.Error{Kind: store.Invalid, Op: fmt.Sprintf("make node %q", n.Name), Subject: "at " + n.Path}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Kind, e.Detail, e.Hint = store.NotFound, "there is no directory "+parent, "mount the disk that belongs there, or make it with mkdir -p"
	case err != nil:
		e.Kind, e.Err = store.Unavailable, err
	case !info.IsDir():
		e.Detail = parent + " is not a directory"
	default:
		return nil
	}
	return e
}

// HeldElsewhere reports whether a store could not be opened because another process has it,
// and not because it is another than the one that is wanted.
func HeldElsewhere(n config.Node, want store.NodeID, err error) bool {
	if !errors.Is(err, store.Conflict) || n.Path == "" {
		return false
	}
	m, inspectErr := Inspect(n)
	return inspectErr == nil && m.There && (want == store.NodeID{} || m.ID == want)
}
