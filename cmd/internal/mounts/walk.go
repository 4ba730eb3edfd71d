package mounts

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// maxLinks is how many symlinks a path may lead through, as in the kernel.
const maxLinks = 40

// walk goes down a path, a component at a time. It holds each by a descriptor of which the
// program behind a mount is not told (O_PATH), so that what was looked at is what is entered.
type walk struct {
	table Table
	// wary: it follows no link and enters no FUSE mount but root's and those of this process's
	// user, so that nobody else can lead it where it waits.
	wary bool
	// vaults: it goes into vaults too. Else the rest of the path is text from there on.
	vaults bool
	// keepLast: a link that is the last component is not followed.
	keepLast bool
}

// reached is where a walk ended.
type reached struct {
	path  string // without the links
	mount Mount  // that it lies in, as far as vaults go
	// file holds what is there. Nil if nothing is, or it lies in a vault that was not entered.
	file *os.File
	stat unix.Stat_t
}

// asRoot reports whether this process is root's, who is wary of what other users have made:
// everybody else is led no further than the kernel lets him.
func asRoot() bool { return os.Geteuid() == 0 }

// trusted reports whether what a user made can't lead this process astray.
func trusted(uid int) bool { return uid == 0 || uid == os.Geteuid() }

// to walks to an absolute, clean path. The caller closes the file that it gives.
func (w walk) to(abs string) (_ reached, err error) {
	at, err := w.root()
	if err != nil {
		return reached{}, err
	}
	defer func() {
		if err != nil {
			at.close()
		}
	}()
	rest := strings.TrimPrefix(abs, "/")
	for links := 0; rest != ""; {
		if m, _ := w.table.Covering(at.path); m.IsVault() && !w.vaults {
			// A vault may be mounted inside another.
			return w.text(at, filepath.Join(at.path, rest), m), nil
		}
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		next := filepath.Join(at.path, name)
		if m, _ := w.table.Covering(next); m.IsVault() && !w.vaults {
			return w.text(at, filepath.Join(next, rest), m), nil
		}
		below, err := w.down(at, name)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
			end := filepath.Join(next, rest)
			m, _ := w.table.Covering(end)
			return w.text(at, end, m), nil
		case errors.Is(err, unix.ENOTCONN):
			return reached{}, fmt.Errorf("a mount at %s is left of a program that has ended; take it away with `umount %s`", next, next)
		case err != nil:
			return reached{}, fmt.Errorf("follow %s: %w", abs, err)
		case below.stat.Mode&unix.S_IFMT != unix.S_IFLNK || rest == "" && w.keepLast:
			at.close()
			at = below
			continue
		}
		target, err := w.link(below)
		below.close()
		if links++; err == nil && links > maxLinks {
			err = unix.ELOOP
		}
		if err != nil {
			return reached{}, fmt.Errorf("follow %s: %w", abs, err)
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(at.path, target)
		}
		at.close()
		if at, err = w.root(); err != nil {
			return reached{}, err
		}
		rest = strings.TrimPrefix(filepath.Join(target, rest), "/")
	}
	at.mount, _ = w.table.Covering(at.path)
	if at.mount.IsVault() && !w.vaults {
		return w.text(at, at.path, at.mount), nil
	}
	return at, nil
}

// text is a path that the walk went no further on.
func (w walk) text(at reached, path string, m Mount) reached {
	at.close()
	if inner, _ := w.table.Covering(path); inner.IsVault() {
		m = inner
	}
	return reached{path: path, mount: m}
}

func (w walk) root() (reached, error) {
	return w.hold(unix.AT_FDCWD, "/", "/")
}

func (w walk) down(at reached, name string) (reached, error) {
	return w.hold(int(at.file.Fd()), name, filepath.Join(at.path, name))
}

// hold opens a component, which is path, and looks at it if that is not for another user's
// program to answer.
func (w walk) hold(dir int, name, path string) (reached, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	for err == unix.EINTR {
		fd, err = unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return reached{}, err
	}
	r := reached{path: path, file: os.NewFile(uintptr(fd), path)}
	if w.wary {
		err = w.enter(fd, path)
	}
	if err == nil {
		for err = unix.Fstat(fd, &r.stat); err == unix.EINTR; {
			err = unix.Fstat(fd, &r.stat)
		}
	}
	if err != nil {
		r.close()
		return reached{}, err
	}
	return r, nil
}

// enter refuses what lies in a mount of another user's. Which mount that is the kernel says of
// the descriptor, whatever has been mounted or renamed since the table was read.
func (w walk) enter(fd int, path string) error {
	m, err := w.table.holding(fd)
	switch {
	case err != nil:
		return err
	case m.isFUSE() && !trusted(m.User):
		return &store.Error{Kind: store.Denied, Op: "look into", Subject: path, Detail: fmt.Sprintf("%s has mounted a program there, which may answer nothing", userName(m.User))}
	case m.IsVault() && !w.vaults:
		return &store.Error{Kind: store.Unavailable, Op: "look at", Subject: path, Detail: "a vault is being mounted there at this moment", Hint: "try again"}
	}
	return nil
}

// holding gives the mount that a descriptor lies in. It asks the kernel alone.
func (t Table) holding(fd int) (Mount, error) {
	text, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return Mount{}, err
	}
	_, value, _ := strings.Cut("\n"+string(text), "\nmnt_id:")
	value, _, _ = strings.Cut(value, "\n")
	id, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil {
		return Mount{}, fmt.Errorf("find the mount of a descriptor: %w", err)
	}
	for _, table := range []func() (Table, error){func() (Table, error) { return t, nil }, readLines} {
		table, err := table()
		if err != nil {
			return Mount{}, err
		}
		for _, m := range table {
			if m.ID == id {
				return m, nil
			}
		}
	}
	return Mount{}, errors.New("the mounts are changing; try again")
}

// link gives where a link leads that may be followed.
func (w walk) link(l reached) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(l.file.Fd()), "", buf)
	if err != nil {
		return "", err
	}
	target := string(buf[:n])
	if w.wary && !trusted(int(l.stat.Uid)) {
		return "", &store.Error{Kind: store.Denied, Op: "follow the link", Subject: l.path, Detail: userName(int(l.stat.Uid)) + " has made it",
			Hint: "it leads to " + store.Printable(target, maxShown) + "; say so if that is what you mean"}
	}
	return target, nil
}

func userName(uid int) string {
	if uid < 0 {
		return "a user who is not known"
	}
	return fmt.Sprintf("user %d", uid)
}

func (r *reached) close() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

// hold walks to a path for what is there. Where nothing is, the error is fs.ErrNotExist.
func hold(path string, keepLast bool) (reached, error) {
	abs, err := Abs(path)
	if err != nil {
		return reached{}, err
	}
	table, err := readLines()
	if err != nil {
		return reached{}, err
	}
	r, err := walk{table: table, wary: asRoot(), vaults: true, keepLast: keepLast}.to(abs)
	if err == nil && r.file == nil {
		err = &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return r, err
}

// Hold gives a descriptor of what is at a path, which is good for its name below /proc/self/fd
// and for calls that look at it, and what it is. A link at the end is not followed. Root is led
// nowhere by what other users have made: that is store.Denied.
func Hold(path string) (*os.File, unix.Stat_t, error) {
	r, err := hold(path, true)
	return r.file, r.stat, err
}

// IsFile reports whether there is a regular file at a path, or a link to one, which root
// follows only if it is his.
func IsFile(path string) bool {
	r, err := hold(path, false)
	if err != nil {
		return false
	}
	defer r.close()
	return r.stat.Mode&unix.S_IFMT == unix.S_IFREG
}

// OpenFile opens a regular file: not what a link at the end leads to, and nothing whose opening
// waits. With O_CREATE it is made, with the mode 0600, where there is nothing. Another kind of
// file is store.Invalid.
func OpenFile(path string, flags int) (*os.File, error) {
	held, stat, err := Hold(path)
	if errors.Is(err, fs.ErrNotExist) && flags&os.O_CREATE != 0 {
		if f, err := create(path, flags); !errors.Is(err, fs.ErrExist) {
			return f, err
		}
		held, stat, err = Hold(path) // somebody was faster
	}
	if err != nil {
		return nil, err
	}
	defer held.Close()
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &store.Error{Kind: store.Invalid, Op: "open", Subject: store.Printable(path, maxShown), Detail: "it is no regular file"}
	}
	f, err := os.OpenFile(Name(held), flags&^(os.O_CREATE|os.O_EXCL)|unix.O_NONBLOCK, 0)
	var e *fs.PathError
	if errors.As(err, &e) {
		e.Path = path
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// ReadFile reads a file as OpenFile opens it, of most bytes at most: a longer one is
// store.Invalid.
func ReadFile(path string, most int64) ([]byte, error) {
	f, err := OpenFile(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = &store.Error{Kind: store.Invalid, Op: "read", Subject: store.Printable(path, maxShown), Detail: fmt.Sprintf("it has more than %d bytes", most)}
	}
	return text, err
}

func create(path string, flags int) (*os.File, error) {
	dir, err := hold(filepath.Dir(path), false)
	if err != nil {
		return nil, err
	}
	defer dir.close()
	fd, err := unix.Openat(int(dir.file.Fd()), filepath.Base(path), flags|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Name is the path by which the kernel finds what a descriptor holds, without a look at what
// is on the way to it.
func Name(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }
