package fs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
)

// seed is printed, and taken from STASIS_SEED where that is set.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := rand.Uint64()
	if s := os.Getenv("STASIS_SEED"); s != "" {
		var err error
		n, err = strconv.ParseUint(s, 10, 64)
		must(t, err)
	}
	t.Logf("STASIS_SEED=%d", n)
	return n
}

// modelFile is a file as it should be: its bytes, whatever happened to it.
type modelFile struct {
	name string
	want []byte
	h    *Handle
}

type contentModel struct {
	v     *vault
	rng   *rand.Rand
	files []*modelFile
	trace []string
}

const modelSize = 5 * store.BlockSize / 2

// The content of files that are written, cut, sealed, killed and read in any order, with
// nodes away and back, is what a slice of bytes would be.
func TestContentModel(t *testing.T) {
	steps := 400
	if os.Getenv("STASIS_SOAK") != "" {
		steps = 20000
	}
	v := newVault(t, 2, 512*mib, 512*mib, 512*mib)
	m := &contentModel{v: v, rng: rand.New(rand.NewPCG(seed(t), 0))}
	t.Cleanup(func() {
		if t.Failed() {
			for _, line := range m.trace[max(0, len(m.trace)-40):] {
				t.Log(line)
			}
		}
	})
	for i := range 3 {
		m.files = append(m.files, &modelFile{name: fmt.Sprintf("f%d", i)})
		v.put(m.files[i].name, nil)
	}
	for range steps {
		m.step()
	}
	for _, n := range v.nodes {
		n.away.Store(false)
	}
	v.rt.Kick()
	v.eventually("all nodes are back", func() bool {
		for _, n := range v.rt.Status(t.Context()) {
			if n.State != router.Online {
				return false
			}
		}
		return true
	})
	for _, f := range m.files {
		m.release(f)
	}
	v.wait()
	for _, f := range m.files {
		m.compare(f)
	}
	v.sound()
	v.stop()
	must(t, os.RemoveAll(v.dir+"/bodies"))
	v.start()
	for _, f := range m.files {
		m.compare(f)
	}
}

func (m *contentModel) say(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

func (m *contentModel) step() {
	f := m.files[m.rng.IntN(len(m.files))]
	switch k := m.rng.IntN(100); {
	case k < 34:
		m.write(f)
	case k < 40:
		m.allocate(f)
	case k < 50:
		m.truncate(f)
	case k < 65:
		m.compare(f)
	case k < 75:
		m.say("close %s", f.name)
		m.release(f)
	case k < 80:
		m.say("fsync %s", f.name)
		must(m.v.t, m.handle(f).Fsync(m.v.t.Context()))
	case k < 86:
		m.seal(f)
	case k < 90:
		m.rename(f)
	case k < 94:
		m.toggle()
	case k < 97:
		m.say("kill")
		for _, f := range m.files {
			f.h = nil
		}
		m.v.restart()
	default:
		m.say("stop and start")
		for _, f := range m.files {
			m.release(f)
		}
		m.v.stop()
		m.v.start()
	}
}

func (m *contentModel) handle(f *modelFile) *Handle {
	if f.h == nil {
		f.h = m.v.open(f.name, unix.O_RDWR)
	}
	return f.h
}

func (m *contentModel) release(f *modelFile) {
	if f.h != nil {
		m.v.close(f.h)
		f.h = nil
	}
}

func (m *contentModel) write(f *modelFile) {
	off := m.rng.IntN(modelSize)
	n := 1 + m.rng.IntN([]int{10, 5000, store.BlockSize}[m.rng.IntN(3)])
	if m.rng.IntN(3) == 0 {
		off = off / 4096 * 4096
	}
	p := pattern(n, byte(m.rng.Uint32()))
	m.say("write %s %d+%d", f.name, off, n)
	if _, err := m.handle(f).WriteAt(m.v.t.Context(), p, int64(off), false); store.KindOf(err) == store.Unavailable {
		return // the rest of a unit lies on the node that is away alone
	} else if err != nil {
		m.v.t.Fatalf("write: %v", err)
	}
	if end := off + n; end > len(f.want) {
		f.want = append(f.want, make([]byte, end-len(f.want))...)
	}
	copy(f.want[off:], p)
}

func (m *contentModel) truncate(f *modelFile) {
	size := m.rng.IntN(modelSize)
	if m.rng.IntN(4) == 0 {
		size = 0
	}
	m.say("truncate %s %d", f.name, size)
	s := int64(size)
	_, err := m.v.SetAttr(m.v.t.Context(), m.ino(f), f.h, Change{Size: &s})
	must(m.v.t, err)
	if size <= len(f.want) {
		f.want = f.want[:size:size]
	} else {
		f.want = append(f.want, make([]byte, size-len(f.want))...)
	}
}

// allocate makes room, zeros or a hole.
func (m *contentModel) allocate(f *modelFile) {
	off := m.rng.IntN(modelSize)
	n := 1 + m.rng.IntN([]int{5000, store.BlockSize, modelSize}[m.rng.IntN(3)])
	if m.rng.IntN(2) == 0 {
		off = off / 4096 * 4096
	}
	mode := []uint32{0, unix.FALLOC_FL_KEEP_SIZE, holeMode, holeMode, unix.FALLOC_FL_ZERO_RANGE, zeroMode}[m.rng.IntN(6)]
	m.say("fallocate %s %#x %d+%d", f.name, mode, off, n)
	if err := m.handle(f).Allocate(m.v.t.Context(), mode, int64(off), int64(n), false); store.KindOf(err) == store.Unavailable {
		return // as for a write
	} else if err != nil {
		m.v.t.Fatalf("fallocate: %v", err)
	}
	if end := off + n; mode&unix.FALLOC_FL_KEEP_SIZE == 0 && end > len(f.want) {
		f.want = append(f.want, make([]byte, end-len(f.want))...)
	}
	if mode&^unix.FALLOC_FL_KEEP_SIZE != 0 {
		clear(f.want[min(off, len(f.want)):min(off+n, len(f.want))])
	}
}

func (m *contentModel) ino(f *modelFile) names.Ino {
	m.v.t.Helper()
	in, err := m.v.find(f.name)
	must(m.v.t, err)
	return in.Ino
}

// seal cuts what there is into crates, whoever writes.
func (m *contentModel) seal(f *modelFile) {
	m.say("seal %s", f.name)
	p := m.v.pin(m.ino(f))
	defer m.v.unpin(p)
	// With nodes away the settled content under a change may be out of reach.
	if err := m.v.seal(m.v.t.Context(), p); err != nil && store.KindOf(err) != store.Unavailable {
		m.v.t.Fatalf("seal: %v", err)
	}
}

// rename puts a file under the name of another, which goes, and makes that one anew.
func (m *contentModel) rename(f *modelFile) {
	other := m.files[m.rng.IntN(len(m.files))]
	if other == f {
		return
	}
	m.say("rename %s over %s", f.name, other.name)
	m.release(other)
	must(m.v.t, m.v.Rename(names.Root, f.name, names.Root, other.name, 0))
	m.v.put(f.name, nil)
	f.want, other.want = nil, f.want
	f.h, other.h = nil, f.h
}

// toggle takes a node away or brings it back; at most one is away, so that everything
// can be read.
func (m *contentModel) toggle() {
	n := m.v.nodes[m.rng.IntN(len(m.v.nodes))]
	for _, other := range m.v.nodes {
		if other != n {
			other.away.Store(false)
		}
	}
	n.away.Store(!n.away.Load())
	m.say("node %s away: %v", n.name, n.away.Load())
	m.v.rt.Kick()
}

func (m *contentModel) compare(f *modelFile) {
	m.v.t.Helper()
	m.say("read %s", f.name)
	a, err := m.v.GetAttr(m.ino(f))
	must(m.v.t, err)
	if a.Size != int64(len(f.want)) {
		m.v.t.Fatalf("%s has %d bytes, want %d", f.name, a.Size, len(f.want))
	}
	h := f.h
	if h == nil {
		h = m.v.open(f.name, unix.O_RDONLY)
		defer h.Release()
	}
	got := make([]byte, len(f.want)+1)
	n, err := h.ReadAt(m.v.t.Context(), got, 0)
	if store.KindOf(err) == store.Unavailable {
		// A copy may be on the node that is away alone: then it is an error, never wrong bytes.
		return
	}
	must(m.v.t, err)
	if !bytes.Equal(got[:n], f.want) {
		m.v.t.Fatalf("%s: %d bytes, want %d, first difference at %d", f.name, n, len(f.want), difference(got[:n], f.want))
	}
}
