package body

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"stasis/store"
)

func blocksOf(t *testing.T, b *Body) int64 {
	t.Helper()
	n, err := b.Blocks()
	must(t, err)
	return n * 512
}

// What is written, zeroed, punched, given room and cut in any order reads as a slice of
// bytes would, in a whole body and in a sparse one, and what is not said to be data is zeros.
func TestRoomAndHolesModel(t *testing.T) {
	const most = 3 * store.BlockSize
	for _, whole := range []bool{true, false} {
		d := openDir(t)
		b := mustCreate(t, d, whole)
		var want []byte
		rng := rand.New(rand.NewPCG(5, 6))
		grow := func(end int64) {
			want = append(want, make([]byte, max(0, end-int64(len(want))))...)
		}
		for step := range 100 {
			off := rng.Int64N(most)
			end := min(most, off+1+rng.Int64N(store.BlockSize))
			if !whole || rng.IntN(2) == 0 { // units covered in part are the caller's in a sparse one
				off, end = off/Unit*Unit, (end+Unit-1)/Unit*Unit
			}
			size := int64(len(want))
			switch keep := rng.IntN(2) == 0; rng.IntN(6) {
			case 0, 1:
				p := bytes.Repeat([]byte{byte(1 + rng.IntN(255))}, int(end-off))
				must(t, b.Write(p, off))
				grow(end)
				copy(want[off:], p)
			case 2:
				must(t, b.Punch(off, end))
				clear(want[min(off, size):min(end, size)])
			case 3:
				must(t, b.Zero(off, end, keep))
				if !keep {
					grow(end)
				}
				clear(want[min(off, int64(len(want))):min(end, int64(len(want)))])
			case 4:
				must(t, b.Allocate(off, end, keep))
				if !keep {
					grow(end)
				}
			case 5:
				must(t, b.Truncate(off))
				grow(off)
				want = want[:off:off]
			}
			got := make([]byte, len(want))
			must(t, b.ReadAt(got, 0))
			if n, err := b.Size(); err != nil || n != int64(len(want)) || !bytes.Equal(got, want) {
				t.Fatalf("whole %v, step %d: %d bytes, want %d (%v)", whole, step, n, len(want), err)
			}
			c, err := b.Content(int64(len(want)))
			must(t, err)
			for _, s := range c.Holes {
				if n, held := b.Held(s.Offset, s.Offset+s.Length); n != s.Length || !held {
					t.Fatalf("step %d: of the hole %v %d bytes are held, %v", step, s, n, held)
				}
			}
			touched := Union(Union(c.Data, c.Holes), c.Bare)
			for _, s := range c.Data {
				clear(got[s.Offset : s.Offset+s.Length])
			}
			if rest := bytes.Trim(got, "\x00"); len(rest) > 0 {
				t.Fatalf("whole %v, step %d: %v leave out %d bytes", whole, step, c.Data, len(rest))
			}
			for _, s := range Subtract([]Span{{0, int64(len(want))}}, touched) {
				if n, held := b.Held(s.Offset, s.Offset+s.Length); !whole && (n != s.Length || held) {
					t.Fatalf("step %d: %v is left out, of which something is held", step, s)
				}
			}
		}
	}
}

// A hole gives its room back, zeros and room for later keep it, and Trim takes what is past
// the end.
func TestRoomIsTakenAndGivenBack(t *testing.T) {
	const mib, slack = 1 << 20, 16 << 10 // for where the extents are written
	d := openDir(t)
	b := mustCreate(t, d, true)
	must(t, b.Write(bytes.Repeat([]byte{1}, 8*mib), 0))
	must(t, b.Sync()) // ext4 takes room when it must write
	for _, c := range []struct {
		what string
		do   func() error
		want int64
	}{
		{"a hole", func() error { return b.Punch(mib, 3*mib) }, 6 * mib},
		{"a hole at the end", func() error { return b.Punch(7*mib, 100*mib) }, 5 * mib},
		{"zeros", func() error { return b.Zero(4*mib, 5*mib, true) }, 5 * mib},
		{"zeros in the hole", func() error { return b.Zero(mib, 2*mib, true) }, 6 * mib},
		{"room in the hole", func() error { return b.Allocate(2*mib, 3*mib, true) }, 7 * mib},
		{"room again", func() error { return b.Allocate(0, 7*mib, true) }, 7 * mib},
		{"room past the end", func() error { return b.Allocate(7*mib, 12*mib, true) }, 12 * mib},
		{"trimmed", b.Trim, 8 * mib},
	} {
		must(t, c.do())
		if got := blocksOf(t, b); got < c.want || got > c.want+slack {
			t.Errorf("%s: %d bytes, want %d", c.what, got, c.want)
		}
		if n, err := b.Size(); err != nil || n != 8*mib {
			t.Fatalf("%s: size %d, %v", c.what, n, err)
		}
	}
	c, err := b.Content(8 * mib)
	must(t, err)
	spans := c.Data
	if len(spans) != 3 || spans[0] != (Span{0, mib}) || spans[1] != (Span{3 * mib, mib}) || spans[2] != (Span{5 * mib, 2 * mib}) {
		t.Errorf("data is %v", spans)
	}
}

// Room that there isn't is refused with none taken, however much of it the body has.
func TestRoomThatThereIsNot(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) { roomThatThereIsNot(t, kind) })
	}
}

func roomThatThereIsNot(t *testing.T, kind string) {
	const mib = 1 << 20
	d, err := OpenDir(smallDisk(t, kind, map[string]int64{"tmpfs": 8 * mib, "ext4": 10 * mib}[kind]))
	must(t, err)
	t.Cleanup(func() { d.Close() })
	b := mustCreate(t, d, true)
	must(t, b.Write(bytes.Repeat([]byte{1}, 3*mib), 0))
	room, err := d.Room()
	must(t, err)
	for what, try := range map[string]func() error{
		"allocate": func() error { return b.Allocate(mib, 9*mib, false) },
		"keep":     func() error { return b.Allocate(mib, 9*mib, true) },
		"zero":     func() error { return b.Zero(0, 9*mib, false) },
	} {
		if err := try(); !isFull(err) && store.KindOf(err) != store.NoSpace {
			t.Errorf("%s: %v", what, err)
		}
		if now, err := d.Room(); err != nil || now < room-mib/4 {
			t.Errorf("%s: %d bytes of room became %d, %v", what, room, now, err)
		}
	}
	if n, err := b.Size(); err != nil || n != 3*mib {
		t.Errorf("size %d, %v", n, err)
	}
	must(t, b.Allocate(0, 7*mib, false)) // of which it has 3
	must(t, b.Zero(0, 7*mib, false))
	got := make([]byte, 7*mib)
	must(t, b.ReadAt(got, 0))
	if len(bytes.Trim(got, "\x00")) > 0 {
		t.Error("zeroed bytes are still there")
	}
}

// smallDisk mounts a filesystem of its own.
func smallDisk(t *testing.T, kind string, size int64) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a small filesystem")
	}
	point := t.TempDir()
	args := []string{"-t", kind, "-o", fmt.Sprintf("size=%d", size), "none", point}
	if kind != "tmpfs" {
		image := filepath.Join(t.TempDir(), "image")
		must(t, os.WriteFile(image, nil, 0o600))
		must(t, os.Truncate(image, size))
		if out, err := exec.Command("mkfs."+kind, "-q", "-m", "0", image).CombinedOutput(); err != nil {
			t.Skipf("can't make it: %v: %s", err, out)
		}
		args = []string{"-t", kind, "-o", "loop", image, point}
	}
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Skipf("can't mount it: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", point).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return point
}

// Spans are sets of bytes.
func TestSpansAreSets(t *testing.T) {
	const most = 30
	draw := func(t *rapid.T, label string) (spans []Span, set [most]bool) {
		for at := int64(0); at < most; {
			at += rapid.Int64Range(0, 4).Draw(t, label+" gap")
			n := min(rapid.Int64Range(1, 5).Draw(t, label+" length"), most-at)
			if n <= 0 {
				break
			}
			spans = append(spans, Span{at, n})
			for i := at; i < at+n; i++ {
				set[i] = true
			}
			at += n
		}
		return spans, set
	}
	rapid.Check(t, func(t *rapid.T) {
		a, inA := draw(t, "a")
		b, inB := draw(t, "b")
		for name, got := range map[string][]Span{"union": Union(a, b), "difference": Subtract(a, b)} {
			var set [most]bool
			end := int64(-1)
			for _, s := range got {
				if s.Offset < end || s.Offset == end && name == "union" || s.Length <= 0 {
					t.Fatalf("the %s is %v", name, got)
				}
				end = s.Offset + s.Length
				for i := s.Offset; i < end; i++ {
					set[i] = true
				}
			}
			for i := range most {
				if want := inA[i] && !inB[i] || name == "union" && inB[i]; set[i] != want {
					t.Fatalf("the %s is %v", name, got)
				}
			}
		}
	})
}
