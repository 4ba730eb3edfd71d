package mount

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// modelFiles is how many names the model test uses, modelSize how large their files
	// get, in bytes.
	modelFiles = 4
	modelSize  = 5 << 20
)

// seed is $STASIS_SEED, or a new one; it is printed, so that a failure can be repeated.
func seed(t *testing.T) uint64 {
	s := uint64(time.Now().UnixNano())
	if env := os.Getenv("STASIS_SEED"); env != "" {
		var err error
		if s, err = strconv.ParseUint(env, 10, 64); err != nil {
			t.Fatal("STASIS_SEED: ", err)
		}
	}
	t.Logf("STASIS_SEED=%d", s)
	return s
}

// content is what a file should hold; several names and descriptors may share it.
type content struct{ b []byte }

func (c *content) write(p []byte, off int) {
	if end := off + len(p); end > len(c.b) {
		c.b = append(c.b, make([]byte, end-len(c.b))...)
	}
	copy(c.b[off:], p)
}

func (c *content) resize(size int) {
	if size <= len(c.b) {
		c.b = c.b[:size:size] // so that growing again gives zeros
		return
	}
	c.b = append(c.b, make([]byte, size-len(c.b))...)
}

type openFile struct {
	*os.File
	c *content
}

// model is a vault and what should be in it.
type model struct {
	*vault
	rnd   *rand.Rand
	names map[string]*content
	open  []openFile
	trace []string
}

// What programs do to the content of files, at random, reads back as it would anywhere,
// whether it comes from the kernel, from a body or from crates, across seals and
// remounts.
func TestModel(t *testing.T) {
	steps := 600
	if os.Getenv("STASIS_SOAK") != "" {
		steps = 50_000
	}
	s := seed(t)
	m := &model{vault: newVault(t, Options{}), rnd: rand.New(rand.NewPCG(s, 0)), names: make(map[string]*content)}
	defer m.closeAll()
	ops := []struct {
		name   string
		weight int
		do     func() string
	}{
		{"open", 15, m.opOpen}, {"close", 12, m.opClose}, {"write", 30, m.opWrite}, {"append", 5, m.opAppend}, {"read", 25, m.opRead},
		{"resize", 8, m.opResize}, {"rename", 3, m.opRename}, {"link", 2, m.opLink}, {"unlink", 2, m.opUnlink}, {"fsync", 3, m.opFsync},
		{"map", 4, m.opMap}, {"holes", 4, m.opHoles}, {"settle", 1, m.opSettle}, {"remount", 1, m.opRemount},
	}
	total := 0
	for _, o := range ops {
		total += o.weight
	}
	for step := range steps {
		n := m.rnd.IntN(total)
		for _, o := range ops {
			if n -= o.weight; n < 0 {
				m.trace = append(m.trace, fmt.Sprintf("%d %s %s", step, o.name, o.do()))
				break
			}
		}
		if t.Failed() {
			t.Fatalf("after %q", m.trace[max(0, len(m.trace)-60):])
		}
	}
	m.opRemount()
}

func (m *model) closeAll() {
	for _, f := range m.open {
		if err := f.Close(); err != nil {
			m.t.Error(err)
		}
	}
	m.open = nil
}

func (m *model) name() string { return strconv.Itoa(m.rnd.IntN(modelFiles)) }

// existing gives a name that exists, or "".
func (m *model) existing() string {
	var all []string
	for n := range m.names {
		all = append(all, n)
	}
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return all[m.rnd.IntN(len(all))]
}

func (m *model) file() *openFile {
	if len(m.open) == 0 {
		m.opOpen()
	}
	return &m.open[m.rnd.IntN(len(m.open))]
}

// offset is likely to lie at an edge: of the file, of a unit of a body, of a crate's block.
func (m *model) offset(size int) int {
	off := m.rnd.IntN(modelSize)
	switch m.rnd.IntN(5) {
	case 0:
		off = size
	case 1:
		off = off / 4096 * 4096
	case 2:
		off = off / (1 << 20) * (1 << 20)
	case 3:
		off = m.rnd.IntN(size + 1)
	}
	return max(0, min(modelSize-1, off+m.rnd.IntN(3)-1))
}

func (m *model) length(off int) int {
	n := 1 + m.rnd.IntN(1<<uint(1+m.rnd.IntN(20)))
	return min(n, modelSize-off)
}

func (m *model) bytes(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(m.rnd.Uint32())
	}
	return p
}

func (m *model) opOpen() string {
	if len(m.open) > 6 {
		return m.opClose()
	}
	name, flags := m.name(), os.O_RDWR|os.O_CREATE
	if m.rnd.IntN(4) == 0 {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(m.path(name), flags, 0o644)
	m.must(err)
	c := m.names[name]
	if c == nil {
		c = &content{}
		m.names[name] = c
	}
	if flags&os.O_TRUNC != 0 {
		c.resize(0)
	}
	m.open = append(m.open, openFile{f, c})
	return fmt.Sprintf("%s %#x", name, flags)
}

func (m *model) opClose() string {
	if len(m.open) == 0 {
		return ""
	}
	i := m.rnd.IntN(len(m.open))
	m.must(m.open[i].Close())
	m.open = slices.Delete(m.open, i, i+1)
	return strconv.Itoa(i)
}

func (m *model) opWrite() string {
	f := m.file()
	off := m.offset(len(f.c.b))
	p := m.bytes(m.length(off))
	_, err := f.WriteAt(p, int64(off))
	m.must(err)
	f.c.write(p, off)
	return fmt.Sprintf("%s [%d +%d)", f.Name(), off, len(p))
}

func (m *model) opAppend() string {
	name := m.existing()
	c := m.names[name]
	if c == nil || len(c.b) >= modelSize {
		return ""
	}
	f, err := os.OpenFile(m.path(name), os.O_WRONLY|os.O_APPEND, 0)
	m.must(err)
	p := m.bytes(m.length(len(c.b)))
	_, err = f.Write(p)
	m.must(errors.Join(err, f.Close()))
	c.write(p, len(c.b))
	return fmt.Sprintf("%s +%d", name, len(p))
}

func (m *model) opRead() string {
	f := m.file()
	if m.rnd.IntN(2) == 0 {
		// Without the kernel's copy, so that the vault is asked.
		m.must(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	}
	off := m.offset(len(f.c.b))
	p := make([]byte, m.length(off))
	n, err := f.ReadAt(p, int64(off))
	if err != nil && err != io.EOF {
		m.t.Error(err)
	}
	m.compare(f.Name(), p[:n], f.c.b[min(off, len(f.c.b)):min(off+len(p), len(f.c.b))], off)
	return fmt.Sprintf("%s [%d +%d)", f.Name(), off, len(p))
}

func (m *model) compare(name string, got, want []byte, off int) {
	m.t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	m.t.Errorf("%s: read %d bytes at %d, want %d; they differ from %d on", name, len(got), off, len(want), off+i)
}

func (m *model) opResize() string {
	f := m.file()
	size := m.offset(len(f.c.b))
	if m.rnd.IntN(4) == 0 {
		size = 0
	}
	m.must(f.Truncate(int64(size)))
	f.c.resize(size)
	info, err := f.Stat()
	m.must(err)
	if info.Size() != int64(size) {
		m.t.Errorf("%s: %d bytes after a truncation to %d", f.Name(), info.Size(), size)
	}
	return fmt.Sprintf("%s %d", f.Name(), size)
}

func (m *model) opRename() string {
	from, to := m.existing(), m.name()
	if from == "" {
		return ""
	}
	m.must(os.Rename(m.path(from), m.path(to)))
	if m.names[from] != m.names[to] {
		m.names[to] = m.names[from]
		delete(m.names, from)
	}
	return from + " " + to
}

func (m *model) opLink() string {
	from, to := m.existing(), m.name()
	if from == "" || m.names[to] != nil {
		return ""
	}
	m.must(os.Link(m.path(from), m.path(to)))
	m.names[to] = m.names[from]
	return from + " " + to
}

func (m *model) opUnlink() string {
	name := m.existing()
	if name == "" {
		return ""
	}
	m.must(os.Remove(m.path(name)))
	delete(m.names, name)
	return name
}

func (m *model) opFsync() string {
	f := m.file()
	m.must(f.Sync())
	return f.Name()
}

func (m *model) opMap() string {
	f := m.file()
	if len(f.c.b) == 0 {
		return ""
	}
	off := m.rnd.IntN(len(f.c.b))
	b := m.bytes(min(m.length(off), len(f.c.b)-off))
	seen, err := storeMapped(f.File, b, off)
	m.must(err)
	m.compare(f.Name()+" mapped", seen, f.c.b, 0)
	f.c.write(b, off)
	return fmt.Sprintf("%s [%d +%d)", f.Name(), off, len(b))
}

// opHoles looks where data and holes are said to be: holes must be zeros.
func (m *model) opHoles() string {
	f := m.file()
	fd := int(f.Fd())
	for at := int64(0); ; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			data = int64(len(f.c.b))
		} else {
			m.must(err)
		}
		hole := f.c.b[min(at, int64(len(f.c.b))):min(data, int64(len(f.c.b)))]
		if len(bytes.Trim(hole, "\x00")) > 0 {
			m.t.Errorf("%s: there is data in the hole from %d to %d", f.Name(), at, data)
			p := make([]byte, len(hole))
			n, err := f.ReadAt(p, at)
			m.compare(fmt.Sprint(f.Name(), " ", err), p[:n], hole, int(at))
		}
		if data >= int64(len(f.c.b)) {
			return f.Name()
		}
		at, err = unix.Seek(fd, data, unix.SEEK_HOLE)
		m.must(err)
		if at <= data {
			m.t.Fatalf("%s: the data at %d ends at %d", f.Name(), data, at)
		}
	}
}

// opSettle waits until a file without writers lies on the nodes.
func (m *model) opSettle() string {
	m.closeAll()
	name := m.existing()
	if name != "" {
		m.settle(m.path(name))
	}
	return name
}

// opRemount closes everything and looks at all of it after a restart.
func (m *model) opRemount() string {
	m.closeAll()
	m.stop()
	m.start(Options{})
	for name, c := range m.names {
		got, err := os.ReadFile(m.path(name))
		m.must(err)
		m.compare(name, got, c.b, 0)
	}
	seen := listRaw(m.t, m.mnt())
	if len(seen) != len(m.names)+2 {
		m.t.Errorf("names: %v", seen)
	}
	return ""
}
