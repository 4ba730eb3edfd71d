package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// device gives the device number of what is mounted at a path, as "major:minor". What the
// kernel knows is enough: nothing is asked of a daemon, which may be this process or dead.
func device(point string) (string, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, point, unix.AT_STATX_DONT_SYNC|unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	if err != nil {
		return "", &os.PathError{Op: "statx", Path: point, Err: err}
	}
	return fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor), nil
}

// raiseReadAhead tells the kernel to read further ahead than FUSE may ask for. Only
// root can; without it reads are only slower.
func raiseReadAhead(device string, log logrus.FieldLogger) {
	path := "/sys/class/bdi/" + device + "/read_ahead_kb"
	if err := os.WriteFile(path, []byte(strconv.Itoa(readAhead>>10)), 0); err != nil {
		log.WithError(err).Debug("readahead stays as it is")
	}
}

// takeAway detaches a mount whose session ended while it was mounted, which happens when
// an administrator aborts the connection: what is left would only answer that its
// transport endpoint is not connected. A mount that is gone already is left alone.
func takeAway(point, dev string, log logrus.FieldLogger) {
	if now, err := device(point); err != nil || now != dev || dev == "" {
		return
	}
	err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EPERM) {
		ctx, cancel := context.WithTimeout(context.Background(), fusermountLimit)
		defer cancel()
		err = exec.CommandContext(ctx, "fusermount3", "-u", "-z", "-q", "--", point).Run()
	}
	log = log.WithField("mountpoint", point)
	if err != nil {
		log.WithError(err).Error("the session ended, and the dead mount could not be taken away")
		return
	}
	log.Warn("the session was aborted; the dead mount was taken away")
}
