package nodes

import (
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"

	"stasis/cmd/internal/config"
	"stasis/peer/identity"
	"stasis/store"
	"stasis/store/container"
	"stasis/store/directory"
	"stasis/store/memory"
)

// Open opens the store of a node in the name of an identity; want is the leaf that should
// be there, zero takes any. It never initialises one.
func Open(ctx context.Context, n config.Node, want store.NodeID, own identity.Identity, log logrus.FieldLogger) (store.Store, error) {
	owner := own.Owner()
	switch n.Kind {
	case config.KindDirectory:
		capacity := n.Capacity
		if capacity == 0 {
			capacity = -1 // not what it was made with: the settings count
		}
		return openDirectory(ctx, n, want, owner, directory.Options{Capacity: capacity, Log: log})
	case config.KindContainer:
		s, err := container.Open(ctx, n.Path, want, owner, container.Options{Log: log})
		if err != nil {
			return nil, err
		}
		return s, nil
	case config.KindMemory:
		return memory.New(n.Capacity, memory.Options{Leaf: want})
	case config.KindGRPC, config.KindHTTP:
		p, err := openPeer(ctx, n, want, own, log)
		if err != nil {
			return nil, err
		}
		return p, nil
	}
	return nil, &store.Error{Kind: store.Invalid, Op: "open node", Subject: fmt.Sprintf("%q", n.Name), Detail: "its kind " + n.Kind + " is not known"}
}

// openDirectory opens a directory store, and makes its index anew from the crates where that
// is lost: it holds nothing that a vault could not tell it again.
func openDirectory(ctx context.Context, n config.Node, want store.NodeID, owner store.OwnerID, o directory.Options) (store.Store, error) {
	s, err := directory.Open(ctx, n.Path, want, owner, o)
	if errors.Is(err, store.Corrupt) {
		o.Log.WithField("node", n.Name).WithError(err).Warn("the index of a node is made anew from its crates, which are read for that")
		if _, again := directory.Rebuild(ctx, n.Path, owner, o, nil); again != nil {
			// What Open said is the better reason, as the index may be in order and something else not.
			o.Log.WithField("node", n.Name).WithError(again).Warn("the index of a node could not be made anew")
			return nil, err
		}
		s, err = directory.Open(ctx, n.Path, want, owner, o)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Initialise makes the store of a node, in a place that is empty or not there. Where
// there is a store of this owner, it is known and stays as it is. Denied if it is another
// owner's.
func Initialise(n config.Node, owner store.OwnerID) (id store.NodeID, known bool, err error) {
	var m Marker
	if m, err = Inspect(n); err != nil {
		return id, false, err
	}
	switch {
	case m.There && m.Owner != owner:
		return id, false, &store.Error{Kind: store.Denied, Op: fmt.Sprintf("use node %q", n.Name), Subject: "at " + n.Path,
			Detail: "it keeps the crates of another vault", Hint: "choose another place for this one's"}
	case m.There:
		return m.ID, true, nil
	}
	if err := checkParent(n); err != nil {
		return id, false, err
	}
	if n.Kind == config.KindContainer {
		id, err = container.Create(n.Path, owner, n.Capacity, container.Options{})
	} else {
		id, err = directory.Create(n.Path, owner, n.Capacity, directory.Options{})
	}
	return id, false, err
}
