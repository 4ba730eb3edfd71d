package mount

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Descriptors of one file that append at the same time lose nothing.
func TestAppend(t *testing.T) {
	const writers, lines = 4, 200
	v := newVault(t, Options{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			f, err := os.OpenFile(v.path("log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for i := range lines {
				if _, err := fmt.Fprintf(f, "%d %03d\n", w, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := os.ReadFile(v.path("log"))
	v.must(err)
	if n := strings.Count(string(got), "\n"); n != writers*lines || len(got) != writers*lines*6 {
		t.Errorf("%d lines in %d bytes, want %d", n, len(got), writers*lines)
	}
}

// What is written through a shared mapping is in the file, also after its descriptor was
// closed and whether or not the program syncs it.
func TestMapping(t *testing.T) {
	v := newVault(t, Options{})
	want := bytes.Repeat([]byte("mapped"), 2000)
	v.must(os.WriteFile(v.path("f"), want, 0o644))
	for _, off := range []int{4096, 8191} {
		f, err := os.OpenFile(v.path("f"), os.O_RDWR, 0)
		v.must(err)
		seen, err := storeMapped(f, []byte("through the mapping"), off)
		v.must(errors.Join(err, f.Close()))
		if !bytes.Equal(seen, want) {
			t.Error("the mapping shows other bytes than were written")
		}
		copy(want[off:], "through the mapping")
	}
	for range 2 {
		if got, err := os.ReadFile(v.path("f")); err != nil || !bytes.Equal(got, want) {
			t.Errorf("what was stored through the mapping is not in the file (%v)", err)
		}
		v.stop()
		v.start(Options{})
	}
}

// Holes read as zeros and are found.
func TestHoles(t *testing.T) {
	const size = 64 << 20
	v := newVault(t, Options{})
	f, err := os.Create(v.path("f"))
	v.must(err)
	defer f.Close()
	_, err = f.WriteAt([]byte("data"), size/2)
	v.must(errors.Join(err, f.Truncate(size)))
	data, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	v.must(err)
	hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
	v.must(err)
	if data > size/2 || data < size/2-1<<20 || hole <= size/2 || hole > size/2+1<<20 {
		t.Errorf("data from %d to %d", data, hole)
	}
	var st unix.Stat_t
	v.must(unix.Fstat(int(f.Fd()), &st))
	if st.Blocks*512 > 1<<20 || st.Size != size {
		t.Errorf("%d blocks of a file of %d bytes with 4 in it", st.Blocks, st.Size)
	}
}

// A file that was unlinked while open is a file like any other to who has it open.
func TestOpenUnlinked(t *testing.T) {
	v := newVault(t, Options{})
	f, err := os.Create(v.path("f"))
	v.must(err)
	v.must(os.Remove(v.path("f")))
	_, err = f.WriteString("nobody sees this")
	v.must(err)
	v.must(f.Sync())
	v.must(f.Chmod(0o600))
	info, err := f.Stat()
	v.must(err)
	if info.Size() != 16 || info.Sys().(*syscall.Stat_t).Nlink != 0 {
		t.Errorf("%d bytes, %d links", info.Size(), info.Sys().(*syscall.Stat_t).Nlink)
	}
	v.must(f.Close())
	if left := listRaw(t, v.mnt()); len(left) != 2 {
		t.Errorf("listed: %v", left)
	}
}

// A close reports that there is no room; the content stays readable, and a smaller one
// is taken.
func TestNoSpaceAtClose(t *testing.T) {
	const room = 8 << 20
	v := newVaultOf(t, room, Options{})
	f, err := os.Create(v.path("f"))
	v.must(err)
	content := bytes.Repeat([]byte("too much"), 2*room/8)
	_, err = f.Write(content)
	v.must(err)
	wantErrno(t, "close of what no node has room for", f.Close(), syscall.ENOSPC)
	if got, err := os.ReadFile(v.path("f")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("it does not read back: %d bytes, %v", len(got), err)
	}
	buf := make([]byte, 100)
	n, err := unix.Getxattr(v.path("f"), "user.stasis.state", buf)
	if err != nil || string(buf[:n]) != "unplaced" {
		t.Errorf("state %q, %v", buf[:max(0, n)], err)
	}
	wantErrno(t, "truncate to what there is no room for", os.Truncate(v.path("f"), room+1), syscall.ENOSPC)
	v.must(os.Truncate(v.path("f"), 4096))
	v.settle(v.path("f"))
}

// Content that can't be reached is EIO with the reason in the log: the file exists, and
// must not look as if it did not, or were shorter.
func TestUnreachable(t *testing.T) {
	v := newVault(t, Options{})
	content := bytes.Repeat([]byte("far away"), 1<<20)
	v.must(os.WriteFile(v.path("f"), content, 0o644))
	v.settle(v.path("f"))
	v.stop()
	v.must(os.Rename(v.node(), v.node()+"-away"))
	v.start(Options{})
	begun := time.Now()
	_, err := os.ReadFile(v.path("f"))
	wantErrno(t, "read of what is away", err, syscall.EIO)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if !strings.Contains(v.log.String(), "op=read") {
		t.Error("the log does not say why")
	}
	if info, err := os.Stat(v.path("f")); err != nil || info.Size() != int64(len(content)) {
		t.Errorf("it looks otherwise: %v, %v", info, err)
	}
	v.must(os.Rename(v.node()+"-away", v.node()))
	for until := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		got, err := os.ReadFile(v.path("f"))
		if err == nil && bytes.Equal(got, content) {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("the node is back, and: %d bytes, %v", len(got), err)
		}
	}
}

// O_TRUNC cuts a file whatever it is opened for, as on Linux everywhere.
func TestTruncatingOpen(t *testing.T) {
	v := newVault(t, Options{})
	for _, access := range []int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR} {
		v.must(os.WriteFile(v.path("f"), []byte("content"), 0o644))
		f, err := os.OpenFile(v.path("f"), access|os.O_TRUNC, 0)
		v.must(err)
		info, err := f.Stat()
		v.must(errors.Join(err, f.Close()))
		if info.Size() != 0 {
			t.Errorf("open with %#x: %d bytes are left", access, info.Size())
		}
	}
}

// Who reads a file that others replace finds one content or the other: never nothing,
// never a mixture.
func TestReplaceIsAtomic(t *testing.T) {
	const rounds = 80
	v := newVault(t, Options{})
	fill := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, 1+i*977%70_000) }
	v.must(os.WriteFile(v.path("f"), fill(0), 0o644))
	v.settle(v.path("f")) // what is replaced lies on the nodes
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				got, err := os.ReadFile(v.path("f"))
				if err != nil || len(got) == 0 || len(bytes.TrimRight(got, string(got[:1]))) > 0 {
					t.Errorf("read %d bytes that nobody wrote, %v", len(got), err)
					return
				}
			}
		})
	}
	for i := range rounds {
		v.must(os.WriteFile(v.path("tmp"), fill(i), 0o644))
		v.must(os.Rename(v.path("tmp"), v.path("f")))
		if i%40 == 0 {
			v.settle(v.path("f"))
		}
	}
	close(done)
	readers.Wait()
}
