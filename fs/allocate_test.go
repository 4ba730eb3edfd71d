package fs

import (
	"errors"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/fs/names"
	"stasis/store"
)

const (
	holeMode = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	zeroMode = unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE
)

func (v *vault) allocate(h *Handle, mode uint32, off, n int64) {
	v.t.Helper()
	if err := h.Allocate(v.t.Context(), mode, off, n, false); err != nil {
		v.t.Fatalf("fallocate(%#x, %d, %d): %v", mode, off, n, err)
	}
}

// What can't be done says so as on ext4, and changes nothing, the times included.
func TestAllocateRefusals(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	h := v.create("f")
	v.write(h, pattern(5000, 1), 0)
	before, err := v.GetAttr(h.Ino())
	must(t, err)
	for _, c := range []struct {
		mode   uint32
		off, n int64
		want   error
	}{
		{0, -1, 1, syscall.EINVAL},
		{0, 0, 0, syscall.EINVAL},
		{holeMode, 0, -1, syscall.EINVAL},
		{0, MaxFileSize, 1, syscall.EFBIG},
		{holeMode, 1, MaxFileSize, syscall.EFBIG},
		{zeroMode, 1<<63 - 1, 1<<63 - 1, syscall.EFBIG},
		{unix.FALLOC_FL_PUNCH_HOLE, 0, 1, syscall.EOPNOTSUPP},
		{unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096, syscall.EOPNOTSUPP},
		{unix.FALLOC_FL_INSERT_RANGE, 0, 4096, syscall.EOPNOTSUPP},
		{unix.FALLOC_FL_UNSHARE_RANGE, 0, 4096, syscall.EOPNOTSUPP},
		{unix.FALLOC_FL_ZERO_RANGE | holeMode, 0, 4096, syscall.EOPNOTSUPP},
		{1 << 31, 0, 4096, syscall.EOPNOTSUPP},
		{0, 0, 1 << 43, store.NoSpace},
		{zeroMode, 0, 1 << 43, store.NoSpace},
	} {
		if err := h.Allocate(t.Context(), c.mode, c.off, c.n, true); !errors.Is(err, c.want) {
			t.Errorf("fallocate(%#x, %d, %d) gives %v, want %v", c.mode, c.off, c.n, err, c.want)
		}
	}
	if after, err := v.GetAttr(h.Ino()); err != nil || after != before {
		t.Errorf("%+v became %+v (%v)", before, after, err)
	}
	v.close(h)
	r := v.open("f", unix.O_RDONLY)
	defer r.Release()
	if err := r.Allocate(t.Context(), 0, 0, 1, false); !errors.Is(err, syscall.EBADF) {
		t.Errorf("through a handle for reading: %v", err)
	}
	v.expect("f", pattern(5000, 1))
}

// Whatever is done changes the times and takes set-user-id, also where there is nothing to do.
func TestAllocateTellsTheTime(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	v.put("f", pattern(5000, 1))
	in, err := v.find("f")
	must(t, err)
	for _, mode := range []uint32{0, unix.FALLOC_FL_KEEP_SIZE, holeMode, unix.FALLOC_FL_ZERO_RANGE, zeroMode} {
		h := v.open("f", unix.O_RDWR)
		long, suid := int64(1e18), uint32(0o4755)
		_, err := v.SetAttr(t.Context(), in.Ino, nil, Change{Mode: &suid, Mtime: &long, Ctime: &long})
		must(t, err)
		off := int64(0)
		if mode&unix.FALLOC_FL_KEEP_SIZE != 0 {
			off = 1 << 20 // past the end
		}
		must(t, h.Allocate(t.Context(), mode, off, 100, true))
		v.close(h)
		if a, err := v.GetAttr(in.Ino); err != nil || a.Mtime <= long || a.Ctime <= long || a.Mode&unix.S_ISUID != 0 || a.Size != 5000 {
			t.Errorf("mode %#x: %+v, %v", mode, a, err)
		}
	}
}

// A file that was given room has it, and none is taken on the nodes: they keep no zeros, and
// what was made past the end goes when the file is cut into crates.
func TestRoomIsNotContent(t *testing.T) {
	v := newVault(t, 1, 4*mib) // less than the room
	h := v.create("f")
	v.allocate(h, 0, 0, 16*mib)
	v.allocate(h, unix.FALLOC_FL_KEEP_SIZE, 16*mib, 8*mib)
	want := make([]byte, 16*mib)
	copy(want[5*mib:], pattern(9000, 2))
	v.write(h, want[5*mib:5*mib+9000], 5*mib)
	a, err := v.GetAttr(h.Ino())
	must(t, err)
	if a.Size != 16*mib || a.Blocks < 24*mib/512 || a.Blocks > 25*mib/512 {
		t.Errorf("%d bytes in %d blocks", a.Size, a.Blocks)
	}
	if data, err := h.Seek(t.Context(), 0, unix.SEEK_DATA); err != nil || data/mib != 5 {
		t.Errorf("data at %d, %v", data, err)
	}
	path := v.files[h.Ino()].body.Path()
	v.nodes[0].away.Store(true) // so that the body stays
	v.close(h)
	v.eventually("it is sealed", v.sealer.idle)
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	if st.Blocks*512 > 17*mib {
		t.Errorf("the body takes %d bytes", st.Blocks*512)
	}
	v.nodes[0].away.Store(false)
	v.wait()
	v.expect("f", want)
	if a, err = v.GetAttr(h.Ino()); err != nil || a.Blocks != mib/512 {
		t.Errorf("%d blocks when it is settled, %v", a.Blocks, err)
	}
	v.sound()
}

// Holes punched into what was written are none of it any more: no crate holds their zeros.
func TestHolesOfNewContent(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	want := pattern(8*mib+100, 3)
	h := v.create("f")
	v.write(h, want, 0)
	for _, r := range [][2]int64{{mib, 2 * mib}, {4*mib + 17, 2 * mib}, {8 * mib, mib}} {
		v.allocate(h, holeMode, r[0], r[1])
		clear(want[r[0]:min(r[0]+r[1], int64(len(want)))])
	}
	v.close(h)
	v.expect("f", want)
	v.wait()
	v.expect("f", want)
	a, err := v.GetAttr(h.Ino())
	must(t, err)
	if a.Blocks != 5*mib/512 { // of blocks 0, 3, 4, 6 and 7
		t.Errorf("%d blocks", a.Blocks)
	}
	v.sound()
}

// An unlinked file that is open can be given room like any other.
func TestAllocateUnlinked(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	h := v.create("f")
	must(t, v.Unlink(names.Root, "f"))
	v.allocate(h, 0, 0, 10000)
	v.close(h)
}
