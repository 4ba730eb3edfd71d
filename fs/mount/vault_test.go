package mount

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"stasis/fs"
	"stasis/router"
	"stasis/store"
	"stasis/store/directory"
	"stasis/store/ledger"
)

// limit bounds what a test waits for.
const limit = 30 * time.Second

// vault is a whole vault on a real mount: ledger, router with one directory node,
// filesystem. Start and stop may alternate.
type vault struct {
	t     *testing.T
	dir   string // state, node and mountpoint lie in it
	owner store.OwnerID
	log   syncBuffer

	db     *ledger.DB
	router *router.Router
	fsys   *fs.FS
	server *Server
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// newVault mounts an empty vault and sees to it that nothing of it is left after the
// test.
func newVault(t *testing.T, o Options) *vault {
	t.Helper()
	return newVaultOf(t, 0, o)
}

// newVaultOf is newVault with a node of some bytes; 0: as the disk has them.
func newVaultOf(t *testing.T, capacity int64, o Options) *vault {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("there is no /dev/fuse here")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	v := &vault{t: t, dir: dir, owner: store.OwnerID{1}}
	if err := os.Mkdir(v.mnt(), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := directory.Create(v.node(), v.owner, capacity, directory.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		v.stop()
		if t.Failed() {
			t.Log(v.log.String())
		}
	})
	v.start(o)
	return v
}

func (v *vault) mnt() string { return filepath.Join(v.dir, "mnt") }
func (v *vault) path(parts ...string) string {
	return filepath.Join(append([]string{v.mnt()}, parts...)...)
}

func (v *vault) node() string { return filepath.Join(v.dir, "node") }

func (v *vault) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

// start opens the vault and mounts it.
func (v *vault) start(o Options) {
	v.t.Helper()
	log := logrus.New()
	log.SetOutput(&v.log)
	log.SetLevel(logrus.DebugLevel)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var err error
	v.db, err = ledger.Open(filepath.Join(v.dir, "ledger"), ledger.Options{Log: log, Segment: ledger.SmallSegment, Ballast: -1})
	v.must(err)
	bodies := filepath.Join(v.dir, "bodies")
	v.fsys, err = fs.New(fs.Options{Ledger: v.db, Bodies: bodies, Log: log, ReadOnly: o.ReadOnly,
		Policy: func() router.Policy { return router.Policy{Copies: 1, Least: 1} }})
	v.must(err)
	v.router, err = router.New(router.Options{Ledger: v.db, Owner: v.owner, Bodies: v.fsys, BodyDir: bodies, Observer: v.fsys, Log: log, ReadOnly: o.ReadOnly})
	v.must(err)
	v.must(v.router.SetNodes([]router.NodeSpec{{Name: "disk", Kind: "directory", Durable: true,
		Open: func(ctx context.Context, want store.NodeID) (store.Store, error) {
			return directory.Open(ctx, v.node(), want, v.owner, directory.Options{Log: log})
		}}}))
	v.must(v.fsys.Start(ctx, v.router))
	v.must(v.router.Start(ctx))
	o.Mountpoint, o.State, o.Log = v.mnt(), v.dir, log
	v.server, err = Mount(v.fsys, o)
	if errors.Is(err, store.Denied) {
		v.t.Skip("mounting is not allowed here: ", err)
	}
	v.must(err)
	// This process uses its own mount, which only a test does: see go-fuse's poll.go.
	v.must(v.server.fuse.WaitMount())
}

// stop unmounts, by force if it must, and closes.
func (v *vault) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if v.server != nil {
		v.unmount()
		v.server = nil
	}
	if v.fsys != nil {
		if err := v.fsys.Close(ctx); err != nil {
			v.t.Error("close the filesystem:", err)
		}
		v.fsys = nil
	}
	if v.router != nil {
		if err := v.router.Close(ctx); err != nil {
			v.t.Error("close the router:", err)
		}
		v.router = nil
	}
	if v.db != nil {
		if err := v.db.Close(); err != nil {
			v.t.Error("close the ledger:", err)
		}
		v.db = nil
	}
}

// unmount unmounts, by force if it must. Who made a mount namespace meanwhile, as other
// tests do, has the mount too and keeps the session alive: that is ended, and no failure.
func (v *vault) unmount() {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit/3)
	defer cancel()
	err := v.server.Unmount(ctx)
	if err == nil {
		return
	}
	now, lookErr := device(v.mnt())
	if held := lookErr == nil && now != v.server.dev; !held {
		stacks := make([]byte, 1<<20)
		v.t.Errorf("%v\n%s", err, stacks[:runtime.Stack(stacks, true)])
		if err := unix.Unmount(v.mnt(), unix.MNT_DETACH); err != nil {
			v.t.Error(err)
		}
	}
	if err := abort(v.t, v.server.dev); err != nil {
		v.t.Error("end the session: ", err)
		return
	}
	<-v.server.Done()
}

// abort ends a session, as an administrator can.
func abort(t *testing.T, dev string) error {
	control := t.TempDir()
	if err := unix.Mount("none", control, "fusectl", 0, ""); err != nil {
		return err
	}
	_, minor, _ := strings.Cut(dev, ":")
	err := os.WriteFile(filepath.Join(control, minor, "abort"), []byte("1"), 0)
	return errors.Join(err, unix.Unmount(control, 0))
}

// settle waits until the nodes have what a file holds.
func (v *vault) settle(path string) {
	v.t.Helper()
	buf := make([]byte, 100)
	for until := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		n, err := unix.Getxattr(path, "user.stasis.state", buf)
		v.must(err)
		if string(buf[:n]) == "durable" {
			return
		}
		if time.Now().After(until) {
			v.t.Fatalf("%s is still %s", path, buf[:n])
		}
	}
}

func wantErrno(t *testing.T, what string, got error, want syscall.Errno) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
