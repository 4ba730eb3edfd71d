package container

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/booking"
)

const opCreate = "create"

// Create makes an empty container at path, where nothing may be, and gives the id
// that it minted. The file may grow to capacity bytes; crates may take what Status
// says, the rest is for the log.
func Create(path string, owner store.OwnerID, capacity int64, o Options) (store.NodeID, error) {
	o = o.filled()
	fail := func(kind store.Kind, detail, hint string, err error) (store.NodeID, error) {
		if err != nil && kind == store.Unavailable && isFull(err) {
			kind = store.NoSpace
		}
		return store.NodeID{}, &store.Error{Kind: kind, Op: opCreate, Subject: subjectOf(path), Detail: detail, Hint: hint, Err: err}
	}
	capacity -= capacity % PageSize
	if capacity < MinCapacity || capacity > MaxCapacity {
		return fail(store.Invalid, fmt.Sprintf("a capacity of %s", booking.Size(capacity)),
			fmt.Sprintf("give it a capacity from %s to %s", booking.Size(MinCapacity), booking.Size(MaxCapacity)), nil)
	}
	if _, err := os.Lstat(path); err == nil {
		return fail(store.Conflict, "something is there already", "choose another path, or add the container that is there", nil)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".stasis-container-*")
	if err != nil {
		return fail(store.Unavailable, "", "create the directory, or mount the disk that it lies on", err)
	}
	defer os.Remove(tmp.Name()) // fails after the rename, as it should
	f := &osFile{File: tmp, path: tmp.Name()}
	sb, err := format(f, owner, capacity, o.Clock.Wall())
	if err = errors.Join(err, f.Close()); err != nil {
		return fail(store.Unavailable, "", "", err)
	}
	if err := renameNew(tmp.Name(), path); err != nil {
		if errors.Is(err, os.ErrExist) {
			return fail(store.Conflict, "something is there already", "choose another path, or add the container that is there", nil)
		}
		return fail(store.Unavailable, "", "", err)
	}
	if err := syncDir(path); err != nil {
		return fail(store.Unavailable, "", "", err)
	}
	return sb.node, nil
}

// renameNew renames and replaces nothing. A filesystem that can't promise that is
// asked first, and then there is a moment in which two could do it at once.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		if _, err := os.Lstat(to); err == nil {
			return os.ErrExist
		}
		err = os.Rename(from, to)
	}
	return err
}

// format writes an empty container to an empty file and syncs it.
func format(f file, owner store.OwnerID, capacity int64, now time.Time) (superblock, error) {
	sb := superblock{
		version: FormatVersion, node: store.NewNodeID(), owner: owner, capacity: capacity, created: now, generation: 1,
	}
	if _, err := rand.Read(sb.salt[:]); err != nil {
		return sb, err
	}
	v := &volume{f: f, key: newKeyer(sb.pageKey()), limit: capacity / PageSize}
	pool := &logWriter{v: v, pool: []int64{firstPage, firstPage + 1}}
	log, err := pool.rewrite(newState())
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return sb, err
	}
	sb.logHead, sb.logNonce, sb.logPages = log.pages[0], log.nonce, log.checkpoint
	return sb, writeSupers(v, &sb, f.Sync)
}

// Info is what a container says of itself before anybody has shown that it is
// theirs.
type Info struct {
	Leaf     store.NodeID
	Owner    store.OwnerID
	Capacity int64 // bytes that the file may have
	Created  time.Time
}

// Inspect reads whose container lies at path. It takes no lock and changes
// nothing. Unavailable if there is none.
func Inspect(path string) (Info, error) {
	const op = "inspect"
	f, err := openFile(path, false)
	if err != nil {
		return Info{}, openError(op, path, err)
	}
	sb, _, _, err := readSupers(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return Info{}, openError(op, path, err)
	}
	return Info{Leaf: sb.node, Owner: sb.owner, Capacity: sb.capacity, Created: sb.created}, nil
}

// openError says what keeps a container from being read at all.
func openError(op, path string, err error) error {
	e := &store.Error{Kind: store.Unavailable, Op: op, Subject: subjectOf(path), Err: err}
	var version versionError
	switch {
	case errors.Is(err, os.ErrNotExist):
		e.Detail, e.Hint = "there is no such file", "mount the disk that it lies on"
	case errors.Is(err, unix.EWOULDBLOCK):
		e.Kind, e.Err = store.Conflict, nil
		e.Detail, e.Hint = "another process has it open", "stop that one, or wait until it has ended"
	case errors.As(err, &version):
		e.Kind, e.Hint = store.Invalid, "use a newer stasis"
	case errors.Is(err, errSupers):
		e.Kind = store.Corrupt
		e.Hint = "discard the file and let the other nodes fill a new one"
	case errors.Is(err, errNotContainer), errors.Is(err, errNotRegular), errors.Is(err, unix.EISDIR):
		e.Hint = "look whether the right disk is mounted, and the path is right"
	}
	return e
}
