package container

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"
)

// lossyFile is a file in memory that knows what was synced. It dies at a chosen
// operation; survivor then gives what a power cut may leave: all that was synced, and
// of what came after any part, by seed, in sectors of 512 bytes.
type lossyFile struct {
	mu     sync.Mutex
	data   []byte // as the system shows it
	synced []byte
	after  []op // since the sync
	ops    int  // done in all
	dieAt  int  // the operation at which it dies; 0: never
	dead   bool
	// fail is asked before each operation; an error is what it gives, and it does nothing.
	fail  func(kind string, off, n int64) error
	avail int64
}

// op is a write, or a change of the size if p is nil.
type op struct {
	off, size int64
	p         []byte
}

var (
	errDead  = errors.New("the power is gone")
	errDying = errors.New("the power goes") // the operation may still be done in part
)

func newLossy(data []byte) *lossyFile {
	return &lossyFile{data: append([]byte(nil), data...), synced: append([]byte(nil), data...), avail: 1 << 40}
}

// step counts an operation that changes the file. With mu held.
func (f *lossyFile) step(kind string, off, n int64) error {
	if f.dead {
		return errDead
	}
	f.ops++
	if f.ops == f.dieAt {
		f.dead = true
		return errDying
	}
	if f.fail != nil {
		return f.fail(kind, off, n)
	}
	return nil
}

func apply(data []byte, o op) []byte {
	if o.p == nil {
		return resize(data, o.size)
	}
	if end := o.off + int64(len(o.p)); end > int64(len(data)) {
		data = resize(data, end)
	}
	copy(data[o.off:], o.p)
	return data
}

func resize(data []byte, n int64) []byte {
	if n <= int64(len(data)) {
		return data[:n:n]
	}
	return append(data, make([]byte, n-int64(len(data)))...)
}

func (f *lossyFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return 0, errDead
	}
	if f.fail != nil {
		if err := f.fail("read", off, int64(len(p))); err != nil {
			return 0, err
		}
	}
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *lossyFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.step("write", off, int64(len(p)))
	if err != nil && err != errDying {
		return 0, err
	}
	o := op{off: off, p: append([]byte(nil), p...)}
	f.after = append(f.after, o)
	f.data = apply(f.data, o)
	return len(p), err
}

func (f *lossyFile) change(kind string, off, n int64, o op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.step(kind, off, n)
	if err != nil && err != errDying {
		return err
	}
	f.after = append(f.after, o)
	f.data = apply(f.data, o)
	return err
}

func (f *lossyFile) Truncate(size int64) error {
	return f.change("truncate", 0, size, op{size: size})
}

func (f *lossyFile) Punch(off, n int64) error {
	return f.change("punch", off, n, op{off: off, p: make([]byte, n)})
}

func (f *lossyFile) Allocate(off, n int64) error {
	f.mu.Lock()
	size := max(int64(len(f.data)), off+n)
	f.mu.Unlock()
	return f.change("allocate", off, n, op{size: size})
}

func (f *lossyFile) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step("sync", 0, 0); err != nil {
		return err
	}
	for _, o := range f.after {
		f.synced = apply(f.synced, o)
	}
	f.after = nil
	return nil
}

func (f *lossyFile) Size() (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.data)), nil
}

func (f *lossyFile) Allocated() (int64, error)         { return f.Size() }
func (f *lossyFile) Avail() (int64, error)             { return f.avail, nil }
func (f *lossyFile) NextData(off int64) (int64, error) { return off, nil }
func (f *lossyFile) DropCache(int64, int64)            {}
func (f *lossyFile) Close() error                      { return nil }

// survivor is what a power cut leaves.
func (f *lossyFile) survivor(rng *rand.Rand) *lossyFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	data := append([]byte(nil), f.synced...)
	keep := rng.Float64() // how much of it came through
	for _, o := range f.after {
		if o.p == nil {
			if rng.Float64() < keep {
				data = apply(data, o)
			}
			continue
		}
		for len(o.p) > 0 {
			n := min(512, len(o.p))
			if rng.Float64() < keep {
				data = apply(data, op{off: o.off, p: o.p[:n]})
			}
			o.off, o.p = o.off+int64(n), o.p[n:]
		}
	}
	return newLossy(data)
}

// killed is what is left when the process dies and the machine does not.
func (f *lossyFile) killed() *lossyFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	return newLossy(f.data)
}

var _ file = (*lossyFile)(nil)
