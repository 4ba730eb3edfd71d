package statedir

import (
	"errors"
	"path/filepath"

	"stasis/peer/identity"
	"stasis/store"
)

// Key loads the key of a state directory.
func Key(dir string) (identity.Identity, error) {
	return identity.Load(filepath.Join(dir, identity.FileName))
}

// NewKey is Key that makes one where there is none.
func NewKey(dir string) (identity.Identity, error) {
	id, err := Key(dir)
	if errors.Is(err, store.NotFound) {
		id = identity.New()
		err = identity.Create(filepath.Join(dir, identity.FileName), id)
	}
	return id, err
}
