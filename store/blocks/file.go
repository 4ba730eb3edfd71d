package blocks

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// File is the source that gives the bytes of the file at a path, which is no symbolic link.
type File string

// OpenAt is store.Source's.
func (p File) OpenAt(_ context.Context, offset int64) (io.ReadCloser, error) {
	f, err := os.OpenFile(string(p), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
