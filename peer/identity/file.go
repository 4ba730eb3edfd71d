package identity

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// FileName is the name of the key in a state directory.
const FileName = "key"

// Create keeps i at path, readable by its owner alone. When it returns the file
// survives a power cut. Conflict, with the file untouched, if there is one
// already: a key that is overwritten is a vault that is lost.
func Create(path string, i Identity) error {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, ".key-*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("make the key %s: %w", path, err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(i.Text())
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err != nil {
		return fmt.Errorf("write the key %s: %w", path, err)
	}
	// A link, unlike a rename, fails where the name is taken.
	if err := os.Link(temp.Name(), path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return &store.Error{Kind: store.Conflict, Op: "make the key", Subject: path, Detail: "there is one already"}
		}
		// Filesystems without links (exFAT, some shares) get an exclusive create. A crash in
		// the middle leaves a short file, which Load refuses with a sentence.
		if err := createExclusive(path, i.Text()); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

func createExclusive(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make the key %s: %w", path, err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write the key %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// Load reads the key at path. A missing one is NotFound, one that others may read
// is Denied: whoever copied it can read the vault, so the person should know.
func Load(path string) (Identity, error) { return LoadWith(path, openKey) }

// openKey opens a file of its own, not what a link leads to, and waits for nothing.
func openKey(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) { // a link, a socket
		err = notRegular(path)
	}
	return f, err
}

func notRegular(path string) error {
	return &store.Error{Kind: store.Invalid, Op: "read the key", Subject: path, Detail: "it is not a regular file"}
}

// LoadWith is Load for who opens files in a way of his own, which waits for nothing.
func LoadWith(path string, open func(path string) (*os.File, error)) (Identity, error) {
	f, err := open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Identity{}, &store.Error{Kind: store.NotFound, Op: "read the key", Subject: path,
				Hint: "put the text of `stasis key export` there; without its key a vault can't be opened"}
		}
		return Identity{}, fmt.Errorf("read the key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Identity{}, fmt.Errorf("read the key %s: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return Identity{}, notRegular(path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Identity{}, &store.Error{Kind: store.Denied, Op: "read the key", Subject: path,
			Detail: fmt.Sprintf("its mode %04o lets others at it", info.Mode().Perm()), Hint: "chmod 600 " + path}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil {
		return Identity{}, fmt.Errorf("read the key %s: %w", path, err)
	}
	i, err := Parse(text)
	if err != nil {
		var e *store.Error
		if errors.As(err, &e) {
			e.Subject = path
		}
		return Identity{}, err
	}
	return i, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
