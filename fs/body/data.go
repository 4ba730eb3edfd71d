package body

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// Content is what a body has of a file, in spans of whole blocks that are cut at the size
// and don't touch one another.
type Content struct {
	// Data may hold anything but zeros.
	Data []Span
	// Holes are zeros, and the body holds all of them. A whole body does not tell them.
	Holes []Span
	// Bare are zeros as far as the body holds them, which is in part.
	Bare []Span
}

// Content tells what the body has of a file of some size: by the map, and by what the
// filesystem says is no hole.
func (b *Body) Content(size int64) (c Content, err error) {
	switch {
	case !b.whole && !b.holed:
		b.eachHeld(size, func(from, to int64) error {
			c.Data = AddBlocks(c.Data, from, to, size)
			return nil
		})
		return c, nil
	case b.whole && 0 < size && size <= b.dense:
		c.Data = []Span{{0, size}}
		return c, nil
	case b.whole:
		c.Data, err = b.dataIn(nil, 0, size, size, new(Span))
		return c, err
	}
	var touched, held []Span
	var last Span
	err = b.eachHeld(size, func(from, to int64) (err error) {
		touched = AddBlocks(touched, from, to, size)
		if first, end := roundIn(from, to, size); first < end {
			held = append(held, Span{first, end - first})
		}
		c.Data, err = b.dataIn(c.Data, from, to, size, &last)
		return err
	})
	c.Holes = Subtract(held, c.Data)
	c.Bare = Subtract(Subtract(touched, c.Data), held)
	return c, err
}

// eachHeld runs fn over the runs of bytes that a sparse body holds, as far as size.
func (b *Body) eachHeld(size int64, fn func(from, to int64) error) error {
	units := (size + Unit - 1) / Unit
	for u := int64(0); u < units; {
		n, held := b.held.Run(u, units)
		if held {
			if err := fn(u*Unit, min((u+n)*Unit, size)); err != nil {
				return err
			}
		}
		u += n
	}
	return nil
}

// dataIn adds the blocks with data in [from, to) to spans that lie before. last is the run of
// data that was found last, which may go on.
func (b *Body) dataIn(spans []Span, from, to, size int64, last *Span) ([]Span, error) {
	for from < to {
		if from >= last.Offset+last.Length {
			first, end, err := b.NextData(from)
			if err != nil {
				return nil, err
			}
			*last = Span{first, end - first}
		}
		first, end := max(from, last.Offset), min(to, last.Offset+last.Length)
		if first >= to {
			break
		}
		spans = AddBlocks(spans, first, end, size)
		from = end
	}
	return spans, nil
}

// NextData gives the first run of bytes from off on, [from, to), that the filesystem
// does not hold for a hole; both lie past every file if there is none.
func (b *Body) NextData(off int64) (from, to int64, err error) {
	f, err := b.file()
	if err != nil {
		return 0, 0, err
	}
	return nextData(f, off)
}

func nextData(f *os.File, off int64) (from, to int64, err error) {
	from, err = unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch err {
	case nil:
	case unix.ENXIO:
		return math.MaxInt64, math.MaxInt64, nil
	case unix.EINVAL, unix.EOPNOTSUPP:
		return off, math.MaxInt64, nil // a filesystem that knows no holes
	default:
		return 0, 0, &os.PathError{Op: "seek data", Path: f.Name(), Err: err}
	}
	if to, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
		return 0, 0, &os.PathError{Op: "seek hole", Path: f.Name(), Err: err}
	}
	return from, to, nil
}

// ClearUnheld makes zeros of what the file of a sparse body has where the body holds
// nothing. A write that a crash cut off may have left bytes there that are in no map: they
// would come to light where the file is taken for what it holds.
func (b *Body) ClearUnheld() error {
	size, err := b.Size()
	if b.whole || err != nil {
		return err
	}
	for at := int64(0); at < size; {
		from, to, err := b.NextData(at)
		if err != nil {
			return err
		}
		for at, to = from, min(to, size); at < to; {
			n, held := b.Held(at/Unit*Unit, to)
			n -= at % Unit
			if !held {
				if err := b.zero(at, n); err != nil {
					return err
				}
			}
			at += n
		}
	}
	return nil
}

// zero makes a range of the file read as zeros.
func (b *Body) zero(off, n int64) error {
	err := b.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return b.overwrite(off, off+n)
	}
	return err
}

// Span is a run of bytes of a body.
type Span struct{ Offset, Length int64 }

// AddBlocks adds [from, to), rounded out to blocks and cut at size, to spans that
// lie before it.
func AddBlocks(spans []Span, from, to, size int64) []Span {
	from = from / store.BlockSize * store.BlockSize
	if to = min(to, size); to < size {
		to = min((to+store.BlockSize-1)/store.BlockSize*store.BlockSize, size)
	}
	if to <= from {
		return spans
	}
	if n := len(spans); n > 0 && spans[n-1].Offset+spans[n-1].Length >= from {
		spans[n-1].Length = max(spans[n-1].Length, to-spans[n-1].Offset)
		return spans
	}
	return append(spans, Span{from, to - from})
}

// roundIn gives the whole blocks in [from, to); the last of a file may be cut at its size.
func roundIn(from, to, size int64) (first, end int64) {
	first = (from + store.BlockSize - 1) / store.BlockSize * store.BlockSize
	if end = to; to < size {
		end = to / store.BlockSize * store.BlockSize
	}
	return first, end
}

// Subtract gives what is in the spans of a and in none of b. Each is in order and without
// overlaps.
func Subtract(a, b []Span) (out []Span) {
	for _, s := range a {
		end := s.Offset + s.Length
		for len(b) > 0 && b[0].Offset+b[0].Length <= s.Offset {
			b = b[1:]
		}
		at := s.Offset
		for i := 0; i < len(b) && b[i].Offset < end; i++ {
			if b[i].Offset > at {
				out = append(out, Span{at, b[i].Offset - at})
			}
			at = b[i].Offset + b[i].Length
		}
		if at < end {
			out = append(out, Span{at, end - at})
		}
	}
	return out
}

// Union gives what is in the spans of a or in those of b, likewise.
func Union(a, b []Span) (out []Span) {
	for len(a)+len(b) > 0 {
		if len(a) == 0 || len(b) > 0 && b[0].Offset < a[0].Offset {
			a, b = b, a
		}
		s := a[0]
		a = a[1:]
		if n := len(out); n > 0 && out[n-1].Offset+out[n-1].Length >= s.Offset {
			p := &out[n-1]
			p.Length = max(p.Length, s.Offset+s.Length-p.Offset)
			continue
		}
		out = append(out, s)
	}
	return out
}
