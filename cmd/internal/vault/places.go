package vault

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

// marker is what lies at a node's path.
type marker struct {
	there bool
	id    store.NodeID
	owner store.OwnerID
}

// inspect looks for a store at a node's path.
func inspect(n config.Node) (marker, error) {
	if n.Kind == config.KindContainer {
		if _, err := os.Lstat(n.Path); errors.Is(err, fs.ErrNotExist) {
			return marker{}, nil
		}
		c, err := container.Inspect(n.Path)
		if errors.Is(err, store.Unavailable) {
			err = &store.Error{Kind: store.Conflict, Op: fmt.Sprintf("look for node %q", n.Name), Subject: "at " + n.Path,
				Detail: "something else is there", Err: err}
		}
		return marker{err == nil, c.Leaf, c.Owner}, err
	}
	d, err := directory.Inspect(n.Path)
	if errors.Is(err, store.NotFound) {
		return marker{}, nil
	}
	return marker{err == nil, d.ID, d.Owner}, err
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

// heldElsewhere reports whether a store could not be opened because another process has it,
// and not because it is another than the one that is wanted.
func heldElsewhere(n config.Node, want store.NodeID, err error) bool {
	if !errors.Is(err, store.Conflict) || n.Path == "" {
		return false
	}
	m, inspectErr := inspect(n)
	return inspectErr == nil && m.there && (want == store.NodeID{} || m.id == want)
}
