package directory

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

const opCreate = "make a directory node"

// Create makes an empty store at path, for one owner, of capacity bytes as
// store.Charge counts (0: the device alone bounds it), and gives its id. The
// directory may be absent or empty; the one above it must be there, so that nothing
// is made in place of a disk that is not mounted. Conflict if there is a store
// already, or anything of somebody else's. What an interrupted Create has left is made
// whole.
func Create(path string, owner store.OwnerID, capacity int64, o Options) (store.NodeID, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return store.NodeID{}, diskError(opCreate, path, err)
	}
	bad := func(k store.Kind, detail, hint string) (store.NodeID, error) {
		return store.NodeID{}, &store.Error{Kind: k, Op: opCreate, Subject: path, Detail: detail, Hint: hint}
	}
	switch {
	case owner.IsZero():
		return bad(store.Invalid, "it has no owner", "")
	case capacity < 0:
		return bad(store.Invalid, fmt.Sprintf("capacity of %d bytes", capacity), "give it a capacity such as 500GiB, or none")
	}
	err = os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		return bad(store.Invalid, filepath.Dir(path)+" is not there", "mount its disk, or make that directory first")
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return store.NodeID{}, diskError(opCreate, path, err)
	}
	if err := vacant(path); err != nil {
		return store.NodeID{}, diskError(opCreate, path, err)
	}
	m := Marker{Version: FormatVersion, ID: store.NewNodeID(), Owner: owner}
	if err := furnish(path, m, capacity, o); err != nil {
		return store.NodeID{}, diskError(opCreate, path, err)
	}
	return m.ID, nil
}

// vacant tells whether a store may be made in a directory.
func vacant(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	foreign := func(detail string) error {
		return &store.Error{
			Kind: store.Conflict, Op: opCreate, Subject: path, Detail: detail,
			Hint: "choose an empty directory, such as " + filepath.Join(path, "stasis"),
		}
	}
	for {
		names, err := d.Readdirnames(256)
		if err == io.EOF {
			return nil
		}
		if errors.Is(err, unix.ENOTDIR) {
			return foreign("it is not a directory")
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			switch name {
			case MarkerName:
				return &store.Error{
					Kind: store.Conflict, Op: opCreate, Subject: path, Detail: "there is a directory node already",
					Hint: "choose another directory",
				}
			case "lost+found", tempName, indexName:
				// A new filesystem's own, and what an interrupted Create leaves.
			case cratesName:
				if has, err := hasFiles(filepath.Join(path, cratesName)); err != nil || has {
					return errors.Join(err, foreign("it holds crates, but its marker "+MarkerName+" is gone"))
				}
			default:
				return foreign(fmt.Sprintf("it is not empty, there is %q in it", name))
			}
		}
	}
}

// hasFiles reports whether there is anything but directories below one.
func hasFiles(dir string) (has bool, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			has = true
			return fs.SkipAll
		}
		return err
	})
	return has, err
}

// furnish makes all that a store needs, the marker last.
func furnish(path string, m Marker, capacity int64, o Options) error {
	if err := os.RemoveAll(filepath.Join(path, indexName)); err != nil {
		return err
	}
	t, err := openTree(path)
	if err != nil {
		return err
	}
	defer t.close()
	for i := range shards {
		if err := retry(func() error { return unix.Mkdirat(int(t.crates.Fd()), shardName(i), 0o700) }); err != nil && err != unix.EEXIST {
			return &os.PathError{Op: "mkdir", Path: filepath.Join(path, cratesName, shardName(i)), Err: err}
		}
	}
	if err := syncDir(t.crates); err != nil {
		return err
	}
	if err := makeIndex(filepath.Join(path, indexName), meta{m.ID, capacity}, o); err != nil {
		return err
	}
	if err := syncDir(t.root); err != nil {
		return err
	}
	return t.writeMarker(m)
}

func makeIndex(dir string, m meta, o Options) error {
	x, err := openIndex(dir, o)
	if err != nil {
		return err
	}
	return errors.Join(x.begin(m), x.db.Close())
}

// writeMarker makes the marker where there is none; Conflict if somebody was
// faster.
func (t *tree) writeMarker(m Marker) error {
	f, err := openAt(t.temp, MarkerName, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(m.encode())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, fails where the name is taken.
	err = retry(func() error {
		return unix.Linkat(int(t.temp.Fd()), MarkerName, int(t.root.Fd()), MarkerName, 0)
	})
	switch {
	case err == unix.EEXIST:
		return &store.Error{Kind: store.Conflict, Op: opCreate, Subject: t.path, Detail: "another process is making a node there"}
	case err != nil:
		err = renameAt(t.temp, MarkerName, t.root, MarkerName) // no links there: exFAT, some shares
	default:
		err = removeAt(t.temp, MarkerName)
	}
	if err != nil {
		return err
	}
	if err := syncDir(t.root); err != nil {
		return err
	}
	// The root's own name.
	above, err := os.Open(filepath.Dir(t.path))
	if err != nil {
		return err
	}
	return errors.Join(syncDir(above), above.Close())
}
