package statedir

import (
	"errors"
	"os"
	"path/filepath"

	"stasis/cmd/internal/mounts"
	"stasis/peer/identity"
	"stasis/store"
)

// Key loads the key of a state directory, which may be another user's.
func Key(dir string) (identity.Identity, error) {
	return identity.LoadWith(filepath.Join(dir, identity.FileName), func(path string) (*os.File, error) {
		return mounts.OpenFile(path, os.O_RDONLY)
	})
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
