package body

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// Data gives the ranges of a body, rounded out to whole blocks and cut at size,
// that may hold anything but zeros: those of the map, or for a whole body those that
// the filesystem says are no holes.
func (b *Body) Data(size int64) ([]Span, error) {
	if !b.whole {
		return b.dirty(size), nil
	}
	if 0 < size && size <= b.dense {
		return []Span{{0, size}}, nil
	}
	var spans []Span
	for at := int64(0); at < size; {
		from, to, err := b.NextData(at)
		if err != nil {
			return nil, err
		}
		spans = addBlocks(spans, from, to, size)
		at = to
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

func (b *Body) dirty(size int64) []Span {
	var spans []Span
	units := (size + Unit - 1) / Unit
	for u := int64(0); u < units; {
		n, held := b.held.Run(u, units)
		if held {
			spans = addBlocks(spans, u*Unit, (u+n)*Unit, size)
		}
		u += n
	}
	return spans
}

// addBlocks adds [from, to), rounded out to blocks and cut at size, to spans that
// lie before it.
func addBlocks(spans []Span, from, to, size int64) []Span {
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
