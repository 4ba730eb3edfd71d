package fs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/router"
	"stasis/store"
)

// failSync has the next sync of a body's file fail, as a disk does: once.
func (v *vault) failSync() {
	failed := false
	v.bodies.SyncFile = func(fd int) error {
		if !failed {
			failed = true
			return unix.EIO
		}
		return unix.Fdatasync(fd)
	}
}

// A sync that has failed once has failed for good: each later one says so, nothing is copied or
// called safe, after a start too, until the file is written anew.
func TestFailedSyncIsForEver(t *testing.T) {
	for name, first := range map[string]func(v *vault, h *Handle) error{
		"by a program":      func(v *vault, h *Handle) error { return h.Fsync(v.t.Context()) },
		"in the background": func(v *vault, h *Handle) error { return v.seal(v.t.Context(), h.f) },
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, 1, 64*mib)
			h := v.create("f")
			v.write(h, pattern(5000, 1), 0)
			v.failSync()
			if err := first(v, h); !errors.Is(err, store.Corrupt) {
				t.Fatalf("the sync that failed: %v", err)
			}
			for _, again := range []func() error{
				func() error { return h.Fsync(t.Context()) },
				func() error { return v.seal(t.Context(), h.f) },
				func() error { return h.Fsync(t.Context()) },
			} {
				if err := again(); !errors.Is(err, store.Corrupt) {
					t.Fatalf("a later one: %v", err)
				}
			}
			v.close(h)
			time.Sleep(2 * sealDelay)
			lost := func() {
				t.Helper()
				if s := v.safety("f"); s.State != Unplaced || s.Copies != 0 || !strings.Contains(s.Reason, "may be lost") {
					t.Fatalf("it is %+v", s)
				}
				out, err := v.Wait(t.Context(), WaitRequest{Paths: []string{"/"}})
				if err != nil || out.Outcome != Impossible || !strings.Contains(out.Detail, "may be lost") {
					t.Fatalf("a wait: %+v, %v", out, err)
				}
			}
			lost()
			v.restart()
			lost()
			h = v.open("f", unix.O_RDWR)
			if err := h.Fsync(t.Context()); !errors.Is(err, store.Corrupt) {
				t.Fatalf("after a start: %v", err)
			}
			v.close(h)
			p := pattern(7000, 2)
			v.overwrite("f", p)
			v.wait()
			v.expect("f", p)
			v.restart()
			v.expect("f", p)
			v.sound()
		})
	}
}

// Whoever looks at a file does not wait for the disk that another one's sync waits for.
func TestLookingAtAFileThatIsSynced(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	h := v.create("f")
	v.write(h, pattern(5000, 1), 0)
	begun, end := make(chan struct{}), make(chan struct{})
	v.bodies.SyncFile = func(fd int) error {
		select {
		case begun <- struct{}{}:
			<-end
		default:
		}
		return unix.Fdatasync(fd)
	}
	synced := make(chan error, 1)
	go func() { synced <- h.Fsync(t.Context()) }()
	<-begun
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		if _, err := v.GetAttr(h.Ino()); err != nil {
			t.Error(err)
		}
		v.safety("f")
		v.expect("f", pattern(5000, 1))
		v.write(h, pattern(100, 2), 0)
	}()
	select {
	case <-looked:
	case <-time.After(10 * time.Second):
		t.Error("a look and a write wait for a sync")
	}
	close(end)
	must(t, <-synced)
	v.close(h)
	v.wait()
}

// A file is emptied though a node that has the rest of it is away.
func TestEmptiedWhileItsNodeIsAway(t *testing.T) {
	for name, empty := range map[string]func(v *vault){
		"opened":    func(v *vault) { v.open("f", unix.O_RDWR|unix.O_TRUNC).Release() },
		"truncated": func(v *vault) { must(v.t, v.truncateTo("f", 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, 1, 64*mib)
			v.put("f", pattern(3*mib, 1))
			v.wait()
			h := v.open("f", unix.O_RDWR)
			v.write(h, pattern(5000, 2), 100)
			must(t, h.Fsync(t.Context()))
			v.close(h)
			v.nodes[0].away.Store(true)
			v.eventually("the node is away", func() bool { return v.rt.Status(t.Context())[0].State != "online" })
			empty(v)
			v.expect("f", nil)
			v.nodes[0].away.Store(false)
			v.wait()
			v.expect("f", nil)
		})
	}
}

func (v *vault) truncateTo(name string, size int64) error {
	v.t.Helper()
	in, err := v.find(name)
	must(v.t, err)
	_, err = v.SetAttr(v.t.Context(), in.Ino, nil, Change{Size: &size})
	return err
}

// Of a write for which the disk had no room nothing comes into view, however the file grows.
func TestPartOfAFailedWrite(t *testing.T) {
	dir := t.TempDir()
	bodies := filepath.Join(dir, "bodies")
	must(t, os.Mkdir(bodies, 0o700))
	if err := unix.Mount("tmpfs", bodies, "tmpfs", 0, "size=2m"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(bodies, unix.MNT_DETACH)) })
	v := &vault{t: t, dir: dir, policy: router.Policy{Copies: 1, Least: 1}}
	v.addNode("a", 64*mib)
	v.start()
	defer v.kill()
	h := v.create("f")
	p := pattern(100_000, 1)
	v.write(h, p, 0)
	if n, err := h.WriteAt(t.Context(), pattern(4*mib, 2), int64(len(p)), false); err == nil {
		t.Fatalf("4 MiB were written to 2: %d", n)
	}
	v.expect("f", p)
	size := int64(3 * mib)
	_, err := v.SetAttr(t.Context(), h.Ino(), h, Change{Size: &size})
	must(t, err)
	v.expect("f", append(p, make([]byte, 3*mib-len(p))...))
	h.Release()
}

// What a program syncs after the background has synced it and could not cut it into crates is there
// after a power cut, as long as it was.
func TestSyncedBehindTheBackground(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	h := v.create("f")
	p := pattern(9000, 1)
	v.write(h, p[:5000], 0)
	must(t, h.Fsync(t.Context()))
	v.write(h, p[5000:], 5000)
	must(t, h.Flush(t.Context()))
	must(t, v.syncApart(h.f)) // as the sealer does first
	must(t, h.Fsync(t.Context()))
	v.cutPower()
	v.expect("f", p)
}
