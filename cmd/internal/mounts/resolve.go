package mounts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symlinks a path may lead through, as in the kernel.
const maxLinks = 40

// Abs makes a path absolute and clean. It asks the kernel for the working
// directory and, unlike os.Getwd, never looks at it: it may lie in a mount that
// hangs.
func Abs(path string) (string, error) {
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Getcwd(buf)
	if err != nil {
		return "", fmt.Errorf("find the working directory: %w", err)
	}
	dir := string(buf[:n-1])
	if !filepath.IsAbs(dir) {
		return "", errors.New("the working directory can't be named from here; write the path in full")
	}
	return filepath.Join(dir, path), nil
}

// Resolve follows the symlinks of a path, component by component, and stops at the
// first vault mount on its way: the rest is then text. What does not exist is text
// too. The mount it gives is the one the outcome lies in, as far as vaults go.
func (t Table) Resolve(path string) (string, Mount, error) {
	abs, err := Abs(path)
	if err != nil {
		return "", Mount{}, err
	}
	done, rest := "/", strings.TrimPrefix(abs, "/")
	for links := 0; rest != ""; {
		m, _ := t.Covering(done)
		if m.IsVault() {
			done = filepath.Join(done, rest)
			// A vault may be mounted inside another.
			if inner, _ := t.Covering(done); inner.IsVault() {
				m = inner
			}
			return done, m, nil
		}
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		next := filepath.Join(done, name)
		if at, _ := t.Covering(next); at.IsVault() {
			done = next
			continue
		}
		info, err := os.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
			done = filepath.Join(next, rest)
			m, _ := t.Covering(done)
			return done, m, nil
		case errors.Is(err, unix.ENOTCONN):
			return "", Mount{}, fmt.Errorf("a mount at %s is left of a program that has ended; take it away with `umount %s`", next, next)
		case err != nil:
			return "", Mount{}, fmt.Errorf("follow %s: %w", path, err)
		case info.Mode()&fs.ModeSymlink == 0:
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", Mount{}, fmt.Errorf("follow %s: %w", path, unix.ELOOP)
		}
		target, err := os.Readlink(next)
		if err != nil {
			return "", Mount{}, fmt.Errorf("follow %s: %w", path, err)
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(done, target)
		}
		done, rest = "/", strings.TrimPrefix(filepath.Join(target, rest), "/")
	}
	m, _ := t.Covering(done)
	return done, m, nil
}
