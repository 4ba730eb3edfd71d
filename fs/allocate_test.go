package fs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/fs/names"
	"stasis/store"
	"stasis/store/ledger"
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
	v.expect("f", want) // which makes no data of the room that it reads
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

// spread writes a block of content at each offset and gives the pieces.
func (v *vault) spread(name string, size int64, at ...int64) map[int64][]byte {
	v.t.Helper()
	h := v.create(name)
	must(v.t, v.truncate(v.t.Context(), h.f, size, false))
	pieces := make(map[int64][]byte)
	for i, off := range at {
		pieces[off] = pattern(mib, byte(i))
		v.write(h, pieces[off], off)
	}
	v.close(h)
	v.wait()
	return pieces
}

// showing checks that the pieces of a file read as they should, nil as zeros, that
// everything between them is a hole.
func (v *vault) showing(name string, size int64, pieces map[int64][]byte) {
	v.t.Helper()
	h := v.open(name, unix.O_RDONLY)
	defer h.Release()
	a, err := v.GetAttr(h.Ino())
	must(v.t, err)
	if a.Size != size {
		v.t.Fatalf("%s has %d bytes, want %d", name, a.Size, size)
	}
	found := 0
	for at := int64(0); ; {
		at, err = h.Seek(v.t.Context(), at, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) {
			break
		}
		must(v.t, err)
		if pieces[at] == nil {
			v.t.Fatalf("%s has data at %d", name, at)
		}
		found++
		at, err = h.Seek(v.t.Context(), at, unix.SEEK_HOLE)
		must(v.t, err)
	}
	want := 0
	for off, p := range pieces {
		if p == nil {
			p = make([]byte, mib)
		} else {
			want++
		}
		got := make([]byte, len(p))
		n, err := h.ReadAt(v.t.Context(), got, off)
		if err != nil || !bytes.Equal(got[:n], p) {
			v.t.Fatalf("%s: other bytes at %d (%v)", name, off, err)
		}
	}
	if found != want {
		v.t.Fatalf("%s has %d pieces, want %d", name, found, want)
	}
}

// A hole of any length in a file of any size costs nothing: no memory, no room, no crate.
// It is one at once, after a kill, after a power cut once it was synced, and when it is sealed.
func TestHugeHole(t *testing.T) {
	for _, crash := range []string{"none", "kill", "power cut"} {
		t.Run(crash, func(t *testing.T) {
			t.Parallel() // each waits for what rests
			hugeHole(t, crash)
		})
	}
}

func hugeHole(t *testing.T, crash string) {
	const gib, size = int64(1) << 30, int64(8) << 40 // what ext4 takes as one file
	v := newVault(t, 2, 64*mib, 64*mib)
	pieces := v.spread("f", size, 0, gib, 50*gib, 4000*gib, size-mib)
	crates := v.crates()
	h := v.open("f", unix.O_RDWR)
	v.allocate(h, holeMode, gib, 100*gib)
	v.allocate(h, holeMode, 3000*gib+mib, 2000*gib)
	pieces[gib], pieces[50*gib], pieces[4000*gib] = nil, nil, nil
	v.showing("f", size, pieces)
	a, err := v.GetAttr(h.Ino())
	must(t, err)
	if a.Blocks != 2*mib/512 {
		t.Errorf("%d blocks", a.Blocks)
	}
	must(t, h.Fsync(t.Context()))
	taken := int64(0)
	for _, suffix := range []string{"", ".live", ".synced"} {
		var st unix.Stat_t
		must(t, unix.Stat(v.files[h.Ino()].body.Path()+suffix, &st))
		taken += st.Blocks * 512
	}
	if taken > 64<<10 {
		t.Errorf("the body takes %d bytes", taken)
	}
	switch crash {
	case "none":
		v.close(h)
	case "kill":
		v.restart()
	default:
		v.cutPower()
	}
	v.showing("f", size, pieces)
	v.wait()
	v.showing("f", size, pieces)
	v.sound()
	v.eventually("the crates under the hole are gone", func() bool { return v.crates() == crates*2/5 })
	v.stop()
	must(t, os.RemoveAll(filepath.Join(v.dir, "bodies")))
	v.start()
	v.showing("f", size, pieces)
}

// A hole in a part of a block leaves the rest, which makes a crate with it, and where nothing
// else is in the block it makes none.
func TestHolesInBlocks(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	size := int64(100 * mib)
	pieces := v.spread("f", size, 0, 10*mib)
	in, err := v.find("f")
	must(t, err)
	h := v.open("f", unix.O_RDWR)
	v.allocate(h, holeMode, 4096, 8192)
	clear(pieces[0][4096 : 4096+8192])
	v.allocate(h, holeMode, 10*mib+100, 5)
	clear(pieces[10*mib][100:105])
	for off := 20 * int64(mib); off < 40*mib; off += 64 << 10 {
		v.allocate(h, holeMode, off, 8192)
	}
	v.allocate(h, holeMode, size-4096, 4096)
	v.close(h)
	check := func(when string) {
		t.Helper()
		a, err := v.GetAttr(in.Ino)
		if err != nil || a.Blocks != 2*mib/512 {
			t.Errorf("%s: %d blocks, %v", when, a.Blocks, err)
		}
		r := v.open("f", unix.O_RDONLY)
		defer r.Release()
		for off, want := range pieces {
			got := make([]byte, mib)
			if _, err := r.ReadAt(t.Context(), got, off); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: other bytes from %d on (%v)", when, off+int64(difference(got, want)), err)
			}
		}
	}
	v.wait()
	check("sealed")
	if n := v.records(ledger.Shared, tableExtent); n != 2 {
		t.Errorf("%d extents", n)
	}
	v.sound()
	v.restart()
	check("killed")
}

// Room for settled content changes nothing of it, and what is written there reads back.
func TestRoomOverSettledContent(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	want := pattern(3*mib+5, 7)
	v.put("f", want)
	v.wait()
	in, err := v.find("f")
	must(t, err)
	h := v.open("f", unix.O_RDWR)
	v.allocate(h, unix.FALLOC_FL_KEEP_SIZE, 0, 2*mib)
	v.expect("f", want)
	v.restart()
	v.expect("f", want)
	h = v.open("f", unix.O_RDWR)
	v.allocate(h, 0, mib, 4*mib)
	want = append(want, make([]byte, 5*mib-len(want))...)
	v.expect("f", want)
	v.write(h, pattern(100, 1), 2*mib+50)
	copy(want[2*mib+50:], pattern(100, 1))
	v.allocate(h, zeroMode, 100, mib)
	clear(want[100 : 100+mib])
	v.close(h)
	v.expect("f", want)
	v.wait()
	v.expect("f", want)
	if a, err := v.GetAttr(in.Ino); err != nil || a.Blocks != (3*mib+4096)/512 { // what is left of the last block is as it was
		t.Errorf("%d blocks, %v", a.Blocks, err)
	}
	v.sound()
}

// A power cut takes what was not synced: the file has what was settled where it was punched
// since, or zeros, and what was synced before stays.
func TestPowerCutBeforeAHoleIsSynced(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	want := pattern(4*mib, 9)
	v.put("f", want)
	v.wait()
	h := v.open("f", unix.O_RDWR)
	v.allocate(h, holeMode, 0, mib)
	v.cutPower()
	v.expect("f", want) // nothing was synced: the body is set aside
	h = v.open("f", unix.O_RDWR)
	v.allocate(h, holeMode, mib, mib)
	must(t, h.Fsync(t.Context()))
	clear(want[mib : 2*mib])
	v.allocate(h, holeMode, 2*mib, 2*mib)
	v.cutPower()
	v.expect("f", want)
	v.wait()
	v.expect("f", want)
	v.sound()
}

// What is written between the completion of blocks and the switch is in the next round: its
// block lacks what the settled content has of it.
func TestSwitchWaitsForWholeBlocks(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	want := pattern(3*mib, 4)
	v.put("f", want)
	v.wait()
	h := v.open("f", unix.O_RDWR)
	v.write(h, want[100:200], 0)
	copy(want, want[100:200])
	must(t, v.complete(t.Context(), h.f))
	v.write(h, want[100:200], 2*mib)
	copy(want[2*mib:], want[100:200])
	must(t, v.syncContent(h.f))
	h.f.sealing.Lock()
	if _, err := v.switchOver(t.Context(), h.f, 0); !errors.Is(err, errBusy) {
		t.Errorf("a block that is not whole was taken: %v", err)
	}
	h.f.sealing.Unlock()
	v.expect("f", want)
	v.close(h)
	v.wait()
	v.expect("f", want)
}
