package mounts

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

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
// too. The mount it gives is the one the outcome lies in, as far as vaults go. Root is led
// nowhere by what other users have made: that is store.Denied.
func (t Table) Resolve(path string) (string, Mount, error) {
	abs, err := Abs(path)
	if err != nil {
		return "", Mount{}, err
	}
	r, err := walk{table: t, wary: asRoot()}.to(abs)
	if err != nil {
		return "", Mount{}, err
	}
	r.close()
	return r.path, r.mount, nil
}
