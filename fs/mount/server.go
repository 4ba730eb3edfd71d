package mount

import (
	"context"
	"errors"
	"log"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"stasis/fs"
	"stasis/store"
)

// subtype makes the type of a vault's mount fuse.stasis.
const subtype = "stasis"

// Options of a mount.
type Options struct {
	// Mountpoint is where, absolute and free of symlinks.
	Mountpoint string
	// State is the vault's state directory, absolute: the mount's source, by which
	// commands find the vault.
	State string
	// AllowOther lets other users in, as file modes allow.
	AllowOther bool
	ReadOnly   bool
	// Check has the kernel check permissions even where only root may enter.
	Check bool
	// Dev and Suid let device nodes and set-user-id bits count, NoExec forbids programs,
	// NoAtime is shown in the mount table.
	Dev, Suid, NoExec, NoAtime bool
	Log                        logrus.FieldLogger
}

// Server serves one mount.
type Server struct {
	fuse  *fuse.Server
	raw   *raw
	point string
	dev   string // of the mount, as device gives it
	done  chan struct{}
	// unmounting is held by who unmounts: go-fuse does not lock.
	unmounting sync.Mutex
}

// Mount mounts fsys and serves it. When it returns the mount can be used. Unavailable
// and Denied, with a hint, where the machine does not allow it.
func Mount(fsys *fs.FS, o Options) (*Server, error) {
	if err := MayAllowOther(o.Mountpoint); o.AllowOther && err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := newRaw(ctx, fsys, o.Log)
	direct := os.Geteuid() == 0
	r.atime = !o.NoAtime && !o.ReadOnly
	r.checked = !direct || o.AllowOther || o.Check || !rootEverywhere()
	server, err := newServer(o, r, direct)
	if err != nil {
		cancel()
		return nil, err
	}
	addProcs()
	dev, err := device(o.Mountpoint)
	if err != nil {
		o.Log.WithError(err).Warn("look at the new mount")
	}
	s := &Server{fuse: server, raw: r, point: o.Mountpoint, dev: dev, done: make(chan struct{})}
	go func() {
		server.Serve()
		// All requests are answered; what the kernel did not say any more is done for it.
		r.open.releaseAll()
		takeAway(o.Mountpoint, dev, o.Log)
		cancel()
		close(s.done)
	}()
	raiseReadAhead(dev, o.Log)
	return s, nil
}

// newServer mounts, with mount(2) or through fusermount3.
func newServer(o Options, r *raw, direct bool) (server *fuse.Server, err error) {
	said := ""
	mount := func() (err error) {
		server, err = fuse.NewServer(r, o.Mountpoint, mountOptions(o, r, direct))
		return err
	}
	if direct {
		err = mount()
	} else {
		said, err = overhear(mount)
	}
	switch {
	case err != nil:
		return nil, mountError(o.Mountpoint, err, said)
	case said != "":
		o.Log.Warn(said)
	}
	return server, nil
}

// moreProcs makes addProcs work once a process, not once a mount.
var moreProcs sync.Once

// addProcs gives the scheduler a processor for each of go-fuse's readers on top of those
// for the cores. A reader waits in read(2) and keeps its processor meanwhile, until the
// runtime looks for it and takes it away: with none to spare every answer waits for that.
// Done after the server was made, as that makes as many readers as there are processors.
func addProcs() {
	if os.Getenv("GOMAXPROCS") != "" {
		return // somebody measured
	}
	moreProcs.Do(func() {
		cores := runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(cores + max(2, cores))
	})
}

// mountOptions is how go-fuse is told. Who is root mounts with mount(2), which takes flags;
// others go through fusermount3, which takes words.
func mountOptions(o Options, r *raw, direct bool) *fuse.MountOptions {
	m := &fuse.MountOptions{
		FsName: o.State, Name: subtype, AllowOther: o.AllowOther,
		MaxWrite: maxRequest, MaxBackground: maxBackground, MaxInflightRequestBytes: maxInflight,
		// At maxRequest a splice of a whole READ does not fit into its pipe.
		DisableSplice: true,
		// All changes go through this kernel: it need not drop content when times change.
		ExplicitDataCacheControl: true, EnableSymlinkCaching: true,
		// The umask is left to us, as a directory's default access control list overrules it.
		ExtraCapabilities: fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_DONT_MASK | fuse.CAP_SETXATTR_EXT,
		EnableAcl:         r.checked,
		PanicHandler:      r.panicked,
		Logger:            log.New(logWriter{o.Log}, "", 0),
	}
	if r.checked {
		m.Options = append(m.Options, "default_permissions")
	}
	if direct {
		m.DirectMountStrict, m.DirectMountFlags = true, mountFlags(o)
	} else {
		m.Options = append(m.Options, mountWords(o)...)
	}
	return m
}

// rootEverywhere reports whether root here is root of the machine, whom permissions do not
// stop, and not of a user namespace.
func rootEverywhere() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return true // a kernel without user namespaces
	}
	return slices.Equal(strings.Fields(string(text)), []string{"0", "0", "4294967295"})
}

// mountFlags are those of mount(2). None at all would mean go-fuse's own choice.
func mountFlags(o Options) uintptr {
	flags := uintptr(unix.MS_MGC_VAL)
	for flag, on := range map[uintptr]bool{
		unix.MS_NODEV: !o.Dev, unix.MS_NOSUID: !o.Suid, unix.MS_NOEXEC: o.NoExec, unix.MS_NOATIME: o.NoAtime, unix.MS_RDONLY: o.ReadOnly,
	} {
		if on {
			flags |= flag
		}
	}
	return flags
}

// mountWords are those of fusermount3, which adds nodev and nosuid itself and gives the
// reverse to root only.
func mountWords(o Options) (words []string) {
	for _, w := range []struct {
		word string
		on   bool
	}{{"dev", o.Dev}, {"suid", o.Suid}, {"noexec", o.NoExec}, {"noatime", o.NoAtime}, {"ro", o.ReadOnly}} {
		if w.on {
			words = append(words, w.word)
		}
	}
	return words
}

// fuseConf is where the administrator says whether users may let others in.
const fuseConf = "/etc/fuse.conf"

// MayAllowOther is Denied where this user may not let others into a mount. It says so before
// fusermount3 does, in more words.
func MayAllowOther(point string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	text, err := os.ReadFile(fuseConf)
	if err == nil {
		for line := range strings.Lines(string(text)) {
			if strings.TrimSpace(line) == "user_allow_other" {
				return nil
			}
		}
	}
	return &store.Error{Kind: store.Denied, Op: "mount", Subject: point, Detail: "only root may let other users in",
		Hint: "add the line user_allow_other to " + fuseConf + ", or leave --allow-other out"}
}

// mountError says why there is no mount; said is what fusermount3 had to say.
func mountError(point string, err error, said string) error {
	e := &store.Error{Kind: store.Unavailable, Op: "mount", Subject: point, Err: err}
	switch causeOf(err) {
	case syscall.EPERM, syscall.EACCES:
		e.Kind = store.Denied
		e.Hint = "a container needs `--device /dev/fuse --cap-add SYS_ADMIN`"
	case syscall.ENODEV:
		e.Hint = "load the kernel module with `modprobe fuse`"
	case 0:
		if said == "" {
			said = strings.TrimSpace(err.Error())
		}
		e.Err = errors.New(said)
	}
	return e
}

// Done is closed when the mount has ended, whoever ended it, and every request is
// answered and every handle released.
func (s *Server) Done() <-chan struct{} { return s.done }

// Unmount ends the mount and waits until Done. A mount in use is Conflict and stays as it
// is; Unavailable says that ctx ended first.
func (s *Server) Unmount(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { // ends with the session, or at once
		s.unmounting.Lock()
		defer s.unmounting.Unlock()
		select {
		case <-s.done:
		default:
			if err := s.fuse.Unmount(); err != nil {
				failed <- err
			}
		}
	}()
	e := &store.Error{Kind: store.Unavailable, Op: "unmount", Subject: s.point}
	select {
	case <-s.done:
		return nil
	case e.Err = <-failed:
	case <-ctx.Done():
		e.Err, e.Detail = ctx.Err(), "operations are still under way"
		if now, err := device(s.point); err == nil && now != s.dev {
			e.Detail = "it is gone from here, but another mount namespace still has it: a container, or a service with mounts of its own"
		}
		return e
	}
	if causeOf(e.Err) == syscall.EBUSY || strings.Contains(e.Err.Error(), "busy") {
		e.Kind, e.Err, e.Detail = store.Conflict, nil, "it is in use"
		e.Hint = "close what is open there and leave its directories"
		return e
	}
	// Somebody else may have unmounted it first.
	select {
	case <-s.done:
		return nil
	case <-time.After(unmountSettle):
	case <-ctx.Done():
	}
	return e
}
