package ledger

import (
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"syscall"
)

// memFiles is a directory in memory that knows what was synced. crash gives what
// a power cut may leave: of each write since the file's last sync any of its sectors,
// of the changes of names since the directory's last sync any first part.
type memFiles struct {
	mu       sync.Mutex
	names    map[string]*memNode // as programs see it
	durable  map[string]*memNode // as after the last SyncDir
	changes  []func(map[string]*memNode)
	capacity int64 // bytes for all files; 0 means no bound
	// before is asked ahead of each operation; an error fails it with nothing done.
	before func(op, name string) error
}

type memNode struct {
	data    []byte // as programs see it
	durable []byte
	pending []memWrite
}

// memWrite is a write, or a change of size where data is nil.
type memWrite struct {
	at   int64
	data []byte
}

const memSector = 512 // bytes that a disk writes whole or not at all

func newMemFiles() *memFiles {
	return &memFiles{names: map[string]*memNode{}, durable: map[string]*memNode{}}
}

// crash gives what is there after a power cut now.
func (m *memFiles) crash(rng *rand.Rand) *memFiles {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.crashLocked(rng)
}

func (m *memFiles) crashLocked(rng *rand.Rand) *memFiles {
	names := map[string]*memNode{}
	for name, n := range m.durable {
		names[name] = n
	}
	if len(m.changes) > 0 {
		for _, c := range m.changes[:rng.IntN(len(m.changes)+1)] {
			c(names)
		}
	}
	after := newMemFiles()
	after.capacity = m.capacity
	copies := map[*memNode]*memNode{}
	for name, n := range names {
		if copies[n] == nil {
			data := n.crash(rng)
			copies[n] = &memNode{data: data, durable: clone(data)}
		}
		after.names[name], after.durable[name] = copies[n], copies[n]
	}
	return after
}

func (n *memNode) crash(rng *rand.Rand) []byte {
	data := clone(n.durable)
	// A run of luck and a run of misfortune are both likelier than a fair coin would have it.
	odds := rng.Float64()
	for _, w := range n.pending {
		if w.data == nil {
			if rng.Float64() < odds {
				data = resize(data, w.at)
			}
			continue
		}
		for at := w.at; at < w.at+int64(len(w.data)); {
			end := min((at/memSector+1)*memSector, w.at+int64(len(w.data)))
			if rng.Float64() < odds {
				data = resize(data, max(end, int64(len(data))))
				copy(data[at:end], w.data[at-w.at:])
			}
			at = end
		}
	}
	return data
}

func clone(b []byte) []byte { return append([]byte{}, b...) }

func resize(b []byte, size int64) []byte {
	if int64(len(b)) >= size {
		return b[:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

func (m *memFiles) ask(op, name string) error {
	if m.before == nil {
		return nil
	}
	return m.before(op, name)
}

// change does something to the names, durable at the next SyncDir.
func (m *memFiles) change(c func(map[string]*memNode)) {
	c(m.names)
	m.changes = append(m.changes, c)
}

func (m *memFiles) Create(name string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ask("create", name); err != nil {
		return nil, err
	}
	if m.names[name] != nil {
		return nil, fs.ErrExist
	}
	n := &memNode{}
	m.change(func(names map[string]*memNode) { names[name] = n })
	return &memFile{m: m, n: n, name: name}, nil
}

func (m *memFiles) Open(name string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ask("open", name); err != nil {
		return nil, err
	}
	if m.names[name] == nil {
		return nil, fs.ErrNotExist
	}
	return &memFile{m: m, n: m.names[name], name: name}, nil
}

func (m *memFiles) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ask("rename", from); err != nil {
		return err
	}
	if m.names[from] == nil {
		return fs.ErrNotExist
	}
	m.change(func(names map[string]*memNode) {
		names[to] = names[from]
		delete(names, from)
	})
	return nil
}

func (m *memFiles) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ask("remove", name); err != nil {
		return err
	}
	if m.names[name] == nil {
		return fs.ErrNotExist
	}
	m.change(func(names map[string]*memNode) { delete(names, name) })
	return nil
}

func (m *memFiles) List() (names []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ask("list", ""); err != nil {
		return nil, err
	}
	for name := range m.names {
		names = append(names, name)
	}
	return names, nil
}

func (m *memFiles) SyncDir() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ask("syncdir", ""); err != nil {
		return err
	}
	for _, c := range m.changes {
		c(m.durable)
	}
	m.changes = nil
	return nil
}

func (m *memFiles) used() (n int64) {
	seen := map[*memNode]bool{}
	for _, f := range m.names {
		if !seen[f] {
			seen[f] = true
			n += int64(len(f.data))
		}
	}
	return n
}

func (m *memFiles) Free() (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ask("free", ""); err != nil {
		return 0, err
	}
	if m.capacity == 0 {
		return 1 << 40, nil
	}
	return max(0, m.capacity-m.used()), nil
}

// room fails where the files would outgrow the capacity.
func (m *memFiles) room(more int64) error {
	if m.capacity > 0 && more > 0 && m.used()+more > m.capacity {
		return syscall.ENOSPC
	}
	return nil
}

type memFile struct {
	m      *memFiles
	n      *memNode
	name   string
	closed bool
}

func (f *memFile) begin(op string) error {
	if f.closed {
		return fs.ErrClosed
	}
	return f.m.ask(op, f.name)
}

func (f *memFile) ReadAt(b []byte, at int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.begin("read"); err != nil {
		return 0, err
	}
	if at >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.n.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, at int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.begin("write"); err != nil {
		// Nothing may have come to the file, half, or all; of a record's header nothing.
		part := len(b) * ((len(b)/recordAlign + 2) % 3) / 2
		f.n.write(b[:part], at)
		return part, err
	}
	if err := f.m.room(at + int64(len(b)) - int64(len(f.n.data))); err != nil {
		return 0, err
	}
	f.n.write(b, at)
	return len(b), nil
}

func (n *memNode) write(b []byte, at int64) {
	if len(b) == 0 {
		return
	}
	n.pending = append(n.pending, memWrite{at, clone(b)})
	n.data = resize(n.data, max(int64(len(n.data)), at+int64(len(b))))
	copy(n.data[at:], b)
}

func (f *memFile) Datasync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.begin("datasync"); err != nil {
		// What was to be written is dropped, and the next sync will not tell.
		f.n.pending = nil
		return err
	}
	f.n.durable = clone(f.n.data)
	f.n.pending = nil
	return nil
}

func (f *memFile) Allocate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.begin("allocate"); err != nil {
		return err
	}
	more := size - int64(len(f.n.data))
	if more <= 0 {
		return nil
	}
	if err := f.m.room(more); err != nil {
		return err
	}
	f.n.size(size)
	return nil
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.begin("truncate"); err != nil {
		return err
	}
	f.n.size(size)
	return nil
}

func (n *memNode) size(size int64) {
	n.pending = append(n.pending, memWrite{at: size})
	n.data = resize(clone(n.data), size)
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.begin("size"); err != nil {
		return 0, err
	}
	return int64(len(f.n.data)), nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	f.closed = true
	return f.m.ask("close", f.name)
}
