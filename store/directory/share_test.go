package directory

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/storetest"
)

// TestPlain runs the suite as on a share: nothing that one of them may lack is relied
// on, neither a syncfs that waits nor stable inode numbers.
func TestPlain(t *testing.T) {
	if !storetest.Soak() {
		t.Skip("the suite once more; STASIS_SOAK=1 runs it")
	}
	f := factory("")
	inner := f.New
	f.New = func(t testing.TB, o storetest.Options) *storetest.Instance {
		in := inner(t, o)
		in.Store.(*Store).tree.whole = false
		return in
	}
	storetest.Run(t, f)
}

// TestFilesystems runs the suite on filesystems of other kinds: vfat has no links, no
// modes, no stable inode numbers; overlay has its own ideas of devices.
func TestFilesystems(t *testing.T) {
	if !storetest.Soak() {
		t.Skip("the suite many times more; STASIS_SOAK=1 runs it")
	}
	for _, kind := range []string{"xfs", "ext4", "btrfs", "vfat"} {
		t.Run(kind, func(t *testing.T) { storetest.Run(t, factory(newLoop(t, kind, 400<<20).dir)) })
	}
	t.Run("tmpfs", func(t *testing.T) {
		storetest.Run(t, factory(mountAt(t, t.TempDir(), "tmpfs", "size=300m")))
	})
	t.Run("overlay", func(t *testing.T) {
		base := mountAt(t, t.TempDir(), "tmpfs", "size=300m")
		for _, d := range []string{"low", "up", "work", "merged"} {
			if err := os.Mkdir(filepath.Join(base, d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		options := "lowerdir=" + base + "/low,upperdir=" + base + "/up,workdir=" + base + "/work"
		storetest.Run(t, factory(mountAt(t, filepath.Join(base, "merged"), "overlay", options)))
	})
}

// mountAt mounts something for the length of the test, or skips it.
func mountAt(t *testing.T, dir, kind, options string) string {
	t.Helper()
	if err := unix.Mount(kind, dir, kind, 0, options); err != nil {
		t.Skipf("can't mount %s: %v", kind, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestHung: a share whose server is gone holds every call that touches it. Callers
// get their answer all the same, soon after their context ends, and when the share comes
// back nothing is left of what they gave up.
func TestHung(t *testing.T) {
	root := filepath.Join(t.TempDir(), "node")
	s := admitted(t, makeStore(t, root, 1<<20, Options{}))
	there, r := put(t, s, 5000)
	was := status(t, s)
	back := make(chan struct{})
	hang := func(string) error { <-back; return nil }
	s.tree.probe, s.index.probe = hang, hang

	c := newCrate(100)
	calls := map[string]func(ctx context.Context) error{
		"put": func(ctx context.Context) error { _, err := s.Put(ctx, c.Put(r)); return err },
		"batch": func(ctx context.Context) error {
			return s.PutBatch(ctx, []store.PutRequest{newCrate(5).Put(r)})[0].Err
		},
		"discard": func(ctx context.Context) error {
			return s.Discard(ctx, store.DiscardRequest{Crate: newCrate(1).ID})
		},
		"reserve": func(ctx context.Context) error {
			_, err := s.Reserve(ctx, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 1})
			return err
		},
	}
	type answer struct {
		name string
		err  error
	}
	answers := make(chan answer, len(calls))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	for name, call := range calls {
		go func() { answers <- answer{name, call(ctx)} }()
	}
	for range calls {
		select {
		case a := <-answers:
			if !errors.Is(a.err, store.Unavailable) {
				t.Errorf("%s on a hung share: %v", a.name, a.err)
			}
		case <-time.After(abandonAfter + 20*time.Second):
			t.Fatal("a call on a hung share does not return")
		}
	}
	has(t, s, there) // reads that need nothing of what hangs go on
	close(back)
	if err := s.Close(); err != nil { // waits for what was abandoned
		t.Fatal(err)
	}
	s = admitted(t, openStore(t, root, Options{}))
	defer func() { _ = s.Close() }()
	now := status(t, s)
	if now.Position.Count < was.Position.Count {
		t.Errorf("its position goes from %v to %v", was.Position, now.Position)
	}
	now.Position = was.Position                     // admitting a mount has moved it
	now.Reserved, now.Free = was.Reserved, was.Free // a reservation may have been made for nobody
	if now != was {
		t.Errorf("status %+v, was %+v", now, was)
	}
	if _, err := s.Stat(context.Background(), c.ID); !errors.Is(err, store.NotFound) {
		t.Errorf("an abandoned put has left something: %v", err)
	}
}
