package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

const (
	// wholeSize is the size, in bytes, up to which a file is read whole. Larger ones are
	// sparse, and only what is not a hole is read.
	wholeSize = 16 << 20
	// holeUnit is what both filesystems keep data in, in bytes.
	holeUnit = 4096
	// wholeExtent is what a vault keeps at rest whole, or as a hole, in bytes.
	wholeExtent = 1 << 20
	// holeWhole is the size, in bytes, up to which a hole is read whole, and holeEdge how
	// much is read at both ends of a larger one.
	holeWhole = 4 << 20
	holeEdge  = 64 << 10
)

// holeOps are about where a file has data.
var holeOps = map[string]func(s *side, op modelOp) outcome{
	// Holes may be told in more than one way, but read as zeros, and what is not zero is in
	// none.
	"holes": func(s *side, op modelOp) outcome {
		fd, size, out := s.openRegular(op, unix.O_RDONLY)
		if fd < 0 {
			return out
		}
		defer unix.Close(fd)
		text, err := holesAreZeros(fd, size)
		return outcome{err: err, text: text}
	},
	// Where extents are whole and synced there is one way to tell it.
	"sparse": func(s *side, op modelOp) outcome {
		fd, _, out := s.openRegular(op, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC)
		if fd < 0 {
			return out
		}
		defer unix.Close(fd)
		n := 0
		for at := op.Offset; at <= op.Offset2; at = 8*at + wholeExtent {
			wrote, err := unix.Pwrite(fd, harness.Bytes(op.Seed, wholeExtent), at)
			if n += wrote; err != nil {
				return outcome{err: err, n: n}
			}
		}
		if err := unix.Fsync(fd); err != nil {
			return outcome{err: err}
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return outcome{err: err}
		}
		parts, err := segments(fd, st.Size)
		return outcome{err: err, n: n, text: fmt.Sprint(parts)}
	},
}

// openRegular opens a regular file; without one the descriptor is -1, with what to say.
func (s *side) openRegular(op modelOp, flags int) (fd int, size int64, out outcome) {
	fd, err := unix.Open(s.path(op.Path), flags|unix.O_NONBLOCK|unix.O_CLOEXEC, s.makeMode(op))
	if err != nil {
		return -1, 0, outcome{err: err}
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		return -1, 0, outcome{err: err, text: "not a regular file"}
	}
	return fd, st.Size, outcome{}
}

// segments gives where a file has data, from and to.
func segments(fd int, size int64) (parts [][2]int64, err error) {
	for at := int64(0); at < size; {
		from, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return parts, nil
		}
		if err != nil {
			return nil, fmt.Errorf("SEEK_DATA %d: %w", at, err)
		}
		to, err := unix.Seek(fd, from, unix.SEEK_HOLE)
		if err != nil {
			return nil, fmt.Errorf("SEEK_HOLE %d: %w", from, err)
		}
		if from < at || to <= from || to > size {
			return nil, fmt.Errorf("data after %d is from %d to %d in a file of %d", at, from, to, size)
		}
		parts, at = append(parts, [2]int64{from, to}), to
	}
	return parts, nil
}

// holesAreZeros reads what SEEK_DATA passes over, of large holes the ends.
func holesAreZeros(fd int, size int64) (string, error) {
	parts, err := segments(fd, size)
	if err != nil {
		return err.Error(), nil
	}
	from := int64(0)
	for _, p := range append(parts, [2]int64{size, size}) {
		pieces := [][2]int64{{from, p[0]}}
		if p[0]-from > holeWhole {
			pieces = [][2]int64{{from, from + holeEdge}, {p[0] - holeEdge, p[0]}}
		}
		for _, piece := range pieces {
			buf := make([]byte, piece[1]-piece[0])
			n, err := unix.Pread(fd, buf, piece[0])
			if err != nil {
				return "", err
			}
			if n < len(buf) || !isZero(buf) {
				return fmt.Sprintf("what SEEK_DATA passes over from %d to %d is not zero", piece[0], piece[1]), nil
			}
		}
		from = p[1]
	}
	// Past the end there is neither.
	for _, whence := range []int{unix.SEEK_DATA, unix.SEEK_HOLE} {
		if _, err := unix.Seek(fd, size, whence); err != unix.ENXIO {
			return fmt.Sprintf("a seek %d at the end: %v", whence, err), nil
		}
	}
	return "consistent", nil
}

func isZero(p []byte) bool { return len(bytes.Trim(p, "\x00")) == 0 }

// sparseDigest describes the content of a file by those units that are not zero, and reads
// no holes.
func sparseDigest(fd int, size int64) (string, error) {
	parts, err := segments(fd, size)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	buf := make([]byte, holeEdge)
	next := int64(0)
	for _, p := range parts {
		for at := max(next, p[0]/holeUnit*holeUnit); at < p[1]; at += holeEdge {
			n, err := unix.Pread(fd, buf, at)
			if err != nil {
				return "", err
			}
			for i := 0; i < n; i += holeUnit {
				unit := buf[i:min(i+holeUnit, n)]
				if !isZero(unit) {
					_ = binary.Write(sum, binary.LittleEndian, at+int64(i)) // never fails
					sum.Write(unit)
				}
			}
			next = at + holeEdge
		}
	}
	return fmt.Sprintf("%d %x", size, sum.Sum(nil)), nil
}
