package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"stasis/cmd/internal/control"
	"stasis/cmd/internal/mounts"
	"stasis/cmd/internal/statedir"
	"stasis/cmd/internal/vault"
	"stasis/store"
)

const fuseDevice = "/dev/fuse"

// checkFuse says what is missing for any mount at all.
func checkFuse() error {
	if _, err := os.Stat(fuseDevice); err != nil {
		return &store.Error{Kind: store.Unavailable, Op: "mount", Detail: fuseDevice + " is missing",
			Hint: "load it with `modprobe fuse`; a container needs `--device /dev/fuse --cap-add SYS_ADMIN`"}
	}
	if err := unix.Access(fuseDevice, unix.R_OK|unix.W_OK); err != nil {
		return &store.Error{Kind: store.Denied, Op: "mount", Detail: "you may not use " + fuseDevice, Err: err,
			Hint: "root can allow it with `chmod 666 " + fuseDevice + "`, or mount for you"}
	}
	if os.Geteuid() == 0 {
		return nil
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		return &store.Error{Kind: store.Unavailable, Op: "mount", Detail: "fusermount3 is missing", Hint: "install the package fuse3"}
	}
	return nil
}

// resolvePlaces makes the mountpoint and the state directory absolute and free of
// symlinks, without a look at what may be mounted there.
func resolvePlaces(o *options) (mountpoint, state string, err error) {
	table, err := mounts.Read()
	if err != nil {
		return "", "", err
	}
	if mountpoint, _, err = table.Resolve(o.mountpoint); err != nil {
		return "", "", err
	}
	if state = o.state; state == "" {
		if state, err = vault.DefaultState(mountpoint); err != nil {
			return "", "", err
		}
	}
	state, _, err = table.Resolve(state)
	return mountpoint, state, err
}

// checkMountpoint sees to it that the vault can be mounted there: it clears the mount
// that a killed daemon of the same vault left, and says what else is in the way.
func checkMountpoint(ctx context.Context, mountpoint, state string) error {
	table, err := mounts.Read()
	if err != nil {
		return err
	}
	for {
		m, ok := table.At(mountpoint)
		if !ok {
			break
		}
		if err := clearStale(ctx, table, m, state); err != nil {
			return err
		}
		if table, err = mounts.Read(); err != nil {
			return err
		}
	}
	if len(table.Of(state)) > 0 {
		id, err := statedir.Serving(ctx, state)
		switch {
		case err == nil:
			return mountedElsewhere(mountpoint, table, state, id)
		case !errors.Is(err, control.ErrNoDaemon):
			return err
		}
	}
	if covering, _ := table.Covering(mountpoint); covering.IsVault() && !covering.Foreign && covering.Source == state {
		return &store.Error{Kind: store.Invalid, Op: "mount", Subject: mountpoint, Detail: "it lies inside the vault's own mount at " + covering.Point}
	}
	return checkDirectory(mountpoint)
}

// clearStale takes away a mount at the mountpoint whose daemon was killed, or says what it is.
func clearStale(ctx context.Context, table mounts.Table, m mounts.Mount, state string) error {
	e := &store.Error{Kind: store.Conflict, Op: "mount", Subject: m.Point}
	switch {
	case !m.IsVault() || m.Foreign:
		e.Detail = fmt.Sprintf("something else is mounted there already: %s (%s)", m.Source, m.Type)
		e.Hint = "choose another directory"
		if m.Foreign {
			e.Detail = fmt.Sprintf("a filesystem of user %d is mounted there, which is not known to be the vault that it says it is", m.User)
			e.Hint = "take it away with `umount " + m.Point + "`, or choose another directory"
		}
		return e
	case m.Source != state:
		e.Detail = "another vault is mounted there, with the state directory " + m.Source
		e.Hint = "unmount it with `stasis umount " + m.Point + "`, or choose another directory"
		return e
	}
	id, err := statedir.Serving(ctx, state)
	switch {
	case errors.Is(err, control.ErrNoDaemon):
		return detachDead(ctx, m, state)
	case err != nil:
		return err
	case id.Mount != "" && id.Mount != m.Device:
		return mountedElsewhere(m.Point, table, state, id)
	}
	e.Detail = fmt.Sprintf("it is already mounted, by pid %d", id.PID)
	e.Hint = "see it with `stasis status " + m.Point + "`"
	return e
}

// mountedElsewhere says where the daemon of a state directory has its vault.
func mountedElsewhere(point string, table mounts.Table, state string, id control.Identity) error {
	e := &store.Error{Kind: store.Conflict, Op: "mount", Subject: point, Detail: fmt.Sprintf("pid %d serves this vault already", id.PID)}
	for _, m := range table.Of(state) {
		if id.Mount == "" || m.Device == id.Mount {
			e.Detail = fmt.Sprintf("this vault is already mounted at %s, by pid %d", m.Point, id.PID)
			break
		}
	}
	return e
}

// detachDead takes away the mount of a daemon that has ended. Meanwhile nobody else can mount
// the vault: what another start has put in its place stays.
func detachDead(ctx context.Context, m mounts.Mount, state string) error {
	lock, err := statedir.Lock(ctx, state)
	switch {
	case errors.Is(err, fs.ErrNotExist): // the directory is gone, and with it the vault
	case err != nil:
		return err
	default:
		defer lock.Close()
	}
	table, err := mounts.Read()
	if err != nil {
		return err
	}
	if now, ok := table.At(m.Point); !ok || now != m {
		return nil
	}
	return mounts.Detach(ctx, m.Point, true)
}

// checkDirectory wants an empty directory: a mount would hide what is in it.
func checkDirectory(path string) error {
	e := &store.Error{Kind: store.Invalid, Op: "mount", Subject: path}
	d, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Kind, e.Detail, e.Hint = store.NotFound, "there is no such directory", "make it with `mkdir -p "+path+"`"
		return e
	case errors.Is(err, unix.ENOTDIR):
		e.Detail, e.Hint = "it is not a directory", "make one, like "+filepath.Join(filepath.Dir(path), "vault")
		return e
	case err != nil:
		e.Kind, e.Err = store.Denied, err
		return e
	}
	defer d.Close()
	if unix.Access(path, unix.W_OK) != nil && os.Geteuid() != 0 {
		e.Kind, e.Detail = store.Denied, "the directory is not yours to write to"
		e.Hint = "choose one of yours, or have root mount it with --allow-other"
		return e
	}
	names, err := d.Readdirnames(1)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		e.Err = err
		return e
	}
	e.Kind, e.Detail = store.Conflict, fmt.Sprintf("the directory is not empty (there is %q in it), and a mount would hide that", names[0])
	e.Hint = "choose an empty directory; then copy what is here into the vault"
	return e
}
