package mounts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// detachTimeout bounds how long fusermount3 may take.
const detachTimeout = 20 * time.Second

// ErrBusy says that a mount is in use and was left as it is.
var ErrBusy = errors.New("the mount is in use")

// Detach unmounts what is mounted at point. With lazy it goes away at once and
// its last users end it; without, a mount in use is ErrBusy.
func Detach(ctx context.Context, point string, lazy bool) error {
	if os.Geteuid() == 0 {
		flags := unix.UMOUNT_NOFOLLOW
		if lazy {
			flags |= unix.MNT_DETACH
		}
		// Its parent is held, as a user may have put a link, or a mount, on the way to it.
		parent, err := hold(filepath.Dir(point), false)
		if err != nil {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
		defer parent.close()
		err = unix.Unmount(filepath.Join(Name(parent.file), filepath.Base(point)), flags)
		switch {
		case errors.Is(err, unix.EBUSY):
			return ErrBusy
		case err != nil:
			return fmt.Errorf("unmount %s: %w", point, err)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, detachTimeout)
	defer cancel()
	args := []string{"-u", "-q"}
	if lazy {
		args = append(args, "-z")
	}
	cmd := exec.CommandContext(ctx, "fusermount3", append(args, "--", point)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	text := store.Printable(strings.TrimSpace(string(out)), maxShown)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("unmount %s: fusermount3 is missing; install the package fuse3", point)
	case strings.Contains(text, "busy"):
		return ErrBusy
	case text == "":
		return fmt.Errorf("unmount %s: fusermount3: %w", point, err)
	}
	return fmt.Errorf("unmount %s: %s", point, text)
}
