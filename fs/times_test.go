package fs

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/fs/names"
	"stasis/store"
)

// What is done to a body for its own sake, before it is cut into crates and at a start, is no
// write: a time that was set stays through one kill and the next.
func TestSetTimeSurvivesKills(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	v.put("f", pattern(3*mib, 8))
	v.wait()
	h := v.open("f", unix.O_RDWR)
	v.write(h, pattern(100, 9), 5000)
	path := h.f.body.Path()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(pattern(4096, 10), 2*mib) // as by a write that a crash cut off
	must(t, errors.Join(err, f.Close()))
	set := int64(1_200_000_000_000_000_000)
	_, err = v.SetAttr(t.Context(), h.Ino(), nil, Change{Mtime: &set})
	must(t, err)
	time.Sleep(2 * time.Duration(stampSlack)) // so that what follows is later by any clock
	must(t, v.complete(t.Context(), h.f))
	for range 2 {
		v.restart()
		if a, err := v.GetAttr(h.Ino()); err != nil || a.Mtime != set {
			t.Errorf("mtime %d, want %d (%v)", a.Mtime, set, err)
		}
	}
}

// Whatever came before a kill, the time of the last write is after it what a program saw.
func TestTimesThroughKills(t *testing.T) {
	past := int64(1_200_000_000_999_999_999)
	far := int64(-5_000_000_000_999_999_999) // before what some filesystems keep
	set := func(v *vault, h *Handle, at int64) {
		_, err := v.SetAttr(v.t.Context(), h.Ino(), nil, Change{Mtime: &at})
		must(v.t, err)
	}
	pause := func() { time.Sleep(2 * time.Duration(stampSlack)) } // until any clock is past it
	for _, c := range []struct {
		name string
		do   func(v *vault, h *Handle) // to a new file that was written
	}{
		{"written", func(v *vault, h *Handle) {}},
		{"closed and read", func(v *vault, h *Handle) {
			v.close(h)
			pause()
			v.expect("f", pattern(mib+103, 1))
		}},
		{"set before the space is promised again", func(v *vault, h *Handle) {
			v.close(h)
			v.restart()
			set(v, h, past)
		}},
		{"set far away", func(v *vault, h *Handle) { set(v, h, far) }},
		{"set far away and closed", func(v *vault, h *Handle) {
			set(v, h, far)
			v.close(h)
		}},
		{"closed and set", func(v *vault, h *Handle) {
			v.close(h)
			set(v, h, past)
		}},
		{"a close after the mode", func(v *vault, h *Handle) {
			mode := uint32(0o700)
			_, err := v.SetAttr(v.t.Context(), h.Ino(), nil, Change{Mode: &mode})
			must(v.t, err)
			v.close(h)
		}},
		{"written in place, and the mode changed", func(v *vault, h *Handle) {
			v.close(h)
			v.wait()
			set(v, h, past)
			h = v.open("f", unix.O_RDWR)
			v.write(h, pattern(100, 2), 5000)
			must(v.t, h.Flush(v.t.Context()))
			pause()
			v.write(h, pattern(100, 3), 6000)
			pause()
			mode := uint32(0o700)
			_, err := v.SetAttr(v.t.Context(), h.Ino(), nil, Change{Mode: &mode})
			must(v.t, err)
		}},
		{"a body that nothing was written to", func(v *vault, h *Handle) {
			v.close(h)
			v.wait()
			set(v, h, past)
			pause()
			f := v.open("f", unix.O_RDWR).f
			f.mu.Lock()
			defer f.mu.Unlock()
			must(v.t, v.needBody(f, false))
		}},
		{"written, and given another name", func(v *vault, h *Handle) {
			pause()
			must(v.t, v.Rename(names.Root, "f", names.Root, "g", 0))
		}},
		{"written after a commit, a set time and before a change of the names", func(v *vault, h *Handle) {
			must(v.t, h.Fsync(v.t.Context()))
			set(v, h, past)
			pause()
			v.write(h, pattern(100, 2), 5000)
			pause()
			_, err := v.Link(h.Ino(), names.Root, "g")
			must(v.t, err)
		}},
		{"a power cut", func(v *vault, h *Handle) {
			must(v.t, h.Fsync(v.t.Context()))
			pause()
			v.write(h, pattern(100, 2), 2*mib) // which the cut takes away
			pause()
			v.cutPower()
		}},
		{"a hole past the end", func(v *vault, h *Handle) {
			set(v, h, past)
			pause()
			must(v.t, h.Allocate(v.t.Context(), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 8*mib, 4096, false))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newVault(t, 1, 64*mib)
			h := v.create("f")
			v.write(h, pattern(mib+103, 1), 0)
			ino := h.Ino()
			c.do(v, h)
			want, err := v.GetAttr(ino)
			must(t, err)
			for range 2 {
				v.restart()
				// The last writes before a kill have the filesystem's stamp, which is coarser.
				if a, err := v.GetAttr(ino); err != nil || max(a.Mtime-want.Mtime, want.Mtime-a.Mtime) > int64(stampSlack) {
					t.Errorf("mtime %d, was %d before (%v)", a.Mtime, want.Mtime, err)
				}
			}
		})
	}
}

// The time of the last write is kept through kills, renames and the sealing, unless a
// program sets another.
func TestTimesSurvive(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	h := v.create("a")
	v.write(h, pattern(100, 1), 0)
	v.close(h)
	a, err := v.GetAttr(h.Ino())
	must(t, err)
	time.Sleep(20 * time.Millisecond) // so that the rename is later by any clock
	must(t, v.Rename(names.Root, "a", names.Root, "b", 0))
	same := func(when string, want int64) {
		t.Helper()
		in, err := v.find("b")
		must(t, err)
		if got, err := v.GetAttr(in.Ino); err != nil || got.Mtime != want {
			t.Errorf("%s: mtime %d, want %d (%v)", when, got.Mtime, want, err)
		}
	}
	same("renamed", a.Mtime)
	v.restart()
	same("killed", a.Mtime)
	set := int64(1234567890)
	in, err := v.find("b")
	must(t, err)
	_, err = v.SetAttr(t.Context(), in.Ino, nil, Change{Mtime: &set})
	must(t, err)
	v.restart()
	same("set and killed", set)
	v.wait()
	same("sealed", set)
	v.restart()
	same("sealed and killed", set)
}

// A crate that is made anew is no write: the time of the last one stays.
func TestRenewedContentKeepsItsTime(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	p := pattern(mib+103, 1)
	v.put("f", p)
	v.wait()
	in, err := v.find("f")
	must(t, err)
	set := int64(1_200_000_000_999_999_999)
	_, err = v.SetAttr(t.Context(), in.Ino, nil, Change{Mtime: &set})
	must(t, err)
	in, err = v.find("f")
	must(t, err)
	must(t, v.eachCrate(in.List, func(c store.CrateID) error { return v.renew(t.Context(), in.Ino, c) }))
	if now, err := v.find("f"); err != nil || now.List == 0 {
		t.Fatalf("%+v, %v", now, err)
	}
	for _, when := range []string{"copied", "killed", "sealed"} {
		if a, err := v.GetAttr(in.Ino); err != nil || a.Mtime != set {
			t.Errorf("%s: mtime %d, want %d (%v)", when, a.Mtime, set, err)
		}
		switch when {
		case "copied":
			v.restart()
		case "killed":
			v.wait()
		}
	}
	if now, err := v.find("f"); err != nil || now.List == in.List {
		t.Errorf("it was not sealed anew (%v)", err)
	}
	v.expect("f", p)
	v.sound()
}
