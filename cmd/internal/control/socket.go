package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"stasis/cmd/internal/mounts"
)

// A socket's address holds 108 bytes, a state directory's path may be longer. So
// the directory is opened and the socket named through /proc/self/fd.

func withDir[T any](dir string, fn func(name string) (T, error)) (T, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		var zero T
		return zero, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return fn(fmt.Sprintf("/proc/self/fd/%d/%s", fd, SocketName))
}

// listen makes the socket in dir. The caller holds the lock of the state directory:
// a socket that is there is a dead daemon's.
func listen(dir string) (*net.UnixListener, error) {
	path := filepath.Join(dir, SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("make the control socket: %w", err)
	}
	l, err := withDir(dir, func(name string) (*net.UnixListener, error) {
		return net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	})
	if err != nil {
		return nil, fmt.Errorf("make the control socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("make the control socket: %w", err), l.Close())
	}
	return l, nil
}

// dial connects to the socket of dir, which may be another user's: not to what a link there leads
// to. A file that is no socket is like one at which nobody listens.
func dial(ctx context.Context, dir string) (*net.UnixConn, error) {
	held, stat, err := mounts.Hold(filepath.Join(dir, SocketName))
	if err != nil {
		return nil, err
	}
	defer held.Close()
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, unix.ECONNREFUSED
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", mounts.Name(held))
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// peer gives the credentials of the other end.
func peer(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return cred, credErr
}
