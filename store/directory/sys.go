package directory

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// retry repeats a system call that a signal interrupted, as happens on shares and
// because the Go runtime sends itself signals.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// unsupported reports whether a filesystem says that it does not have the call at
// all.
func unsupported(err error) bool {
	for _, e := range []error{unix.EINVAL, unix.ENOTSUP, unix.ENOSYS, unix.ENOTTY, unix.EBADF} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// isFull reports whether err says that there is no room.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// diskError turns an error of the filesystem into one with a kind; one that has a
// kind stays as it is.
func diskError(op, subject string, err error) error {
	if err == nil || errors.As(err, new(*store.Error)) {
		return err
	}
	e := &store.Error{Kind: store.Unavailable, Op: op, Subject: subject, Err: err}
	switch {
	case isFull(err):
		e.Kind = store.NoSpace
		e.Hint = "make room on the filesystem it lies on: remove files, if `df -i` says that there are too many"
	case errors.Is(err, fs.ErrPermission):
		e.Kind = store.Denied
		e.Hint = "see to it that the directory belongs to the user who runs stasis"
	case errors.Is(err, unix.EROFS):
		e.Hint = "the filesystem is read-only: look at its disk, then remount it"
	case errors.Is(err, unix.EIO):
		e.Hint = "look at the disk"
	}
	return e
}

// outcome is what a bounded call gave.
type outcome[T any] struct {
	value T
	err   error
}

// bounded runs call and waits for it, but for no longer than grace after ctx has
// ended. What an abandoned call gives in the end goes to late; nil drops it.
func bounded[T any](ctx context.Context, grace time.Duration, call func() (T, error), late func(T)) (T, error) {
	if ctx.Done() == nil {
		return call()
	}
	done := make(chan outcome[T], 1)
	var decided atomic.Bool // by whoever comes first: the call's end, or the caller's leaving
	go func() {
		v, err := call()
		if decided.CompareAndSwap(false, true) {
			done <- outcome[T]{v, err}
		} else if err == nil && late != nil {
			late(v)
		}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case o := <-done:
		return o.value, o.err
	case <-timer.C:
	}
	if !decided.CompareAndSwap(false, true) {
		o := <-done
		return o.value, o.err
	}
	var none T
	return none, context.Cause(ctx)
}

// syncDir makes a directory's entries durable. Shares on which a directory can't
// be synced write through, or promise nothing that could be asked for.
func syncDir(d *os.File) error {
	err := retry(func() error { return unix.Fsync(int(d.Fd())) })
	if err != nil && !unsupported(err) {
		return &os.PathError{Op: "fsync", Path: d.Name(), Err: err}
	}
	return nil
}

func syncFile(f *os.File) error {
	if err := retry(func() error { return unix.Fdatasync(int(f.Fd())) }); err != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

func syncWhole(d *os.File) error {
	if err := retry(func() error { return unix.Syncfs(int(d.Fd())) }); err != nil {
		return &os.PathError{Op: "syncfs", Path: d.Name(), Err: err}
	}
	return nil
}

// startWriting lets the kernel begin to write a file out, so that the sync of the
// first of many files finds the others under way. It is advice.
func startWriting(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}

// preallocate takes a large file's space at once, so that a full disk shows before
// the data moves and the file lies in one piece. Filesystems without the call go on.
func preallocate(f *os.File, size int64) error {
	if size < preallocateFrom {
		return nil
	}
	err := retry(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
	if err != nil && !unsupported(err) {
		return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
	return nil
}

// dropCache makes the next read of a clean file come from the medium. It is advice:
// where the kernel can't, the read is served from memory.
func dropCache(f *os.File, offset, length int64) {
	_ = unix.Fadvise(int(f.Fd()), offset, length, unix.FADV_DONTNEED)
}

// syncsWhole reports whether one syncfs on d's filesystem is known to wait for all
// its data and to report what went wrong: kernels before 5.8 report nothing, and a
// FUSE filesystem is never asked.
func syncsWhole(d *os.File) bool {
	if !knownKind(d) {
		return false
	}
	var u unix.Utsname
	var major, minor int
	if unix.Uname(&u) != nil {
		return false
	}
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major > 5 || major == 5 && minor >= 8
}

// knownKind reports whether d lies on a filesystem of this machine's kernel that keeps the
// number of an inode as long as the file is there.
func knownKind(d *os.File) bool {
	var st unix.Statfs_t
	if retry(func() error { return unix.Fstatfs(int(d.Fd()), &st) }) != nil {
		return false
	}
	switch uint32(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return true
	}
	return false
}

// dirtyBytes is how much the whole machine has still to write; a large figure if
// that can't be told.
func dirtyBytes() int64 {
	const unknown = int64(1) << 40
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return unknown
	}
	defer f.Close()
	var sum int64
	found := 0
	for s := bufio.NewScanner(f); found < 2 && s.Scan(); {
		var kib int64
		name, rest, _ := strings.Cut(s.Text(), ":")
		if name != "Dirty" && name != "Writeback" {
			continue
		}
		if n, _ := fmt.Sscanf(rest, "%d kB", &kib); n != 1 {
			return unknown
		}
		sum += kib << 10
		found++
	}
	if found < 2 {
		return unknown
	}
	return sum
}

// together calls fn for 0 to n-1, up to width at once, and joins the errors.
func together(n, width int, fn func(i int) error) error {
	if n == 1 {
		return fn(0)
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		next int
		errs []error
	)
	for range min(width, n) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= n {
					return
				}
				if err := fn(i); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
