package integration

import (
	"bytes"
	"os"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// mapping is a part of a file in memory. It outlives the descriptor that it was made
// with.
type mapping struct {
	data    []byte
	from    int64
	private bool
	path    int // an O_PATH descriptor, which does not keep the file open
}

func (m *mapping) close() error {
	err := unix.Munmap(m.data)
	if closeErr := unix.Close(m.path); err == nil {
		err = closeErr
	}
	return err
}

// inside is how much of the mapping lies within the file: a touch of the rest is a
// SIGBUS.
func (m *mapping) inside() (int64, error) {
	var st unix.Stat_t
	err := unix.Fstat(m.path, &st)
	return max(0, min(st.Size-m.from, int64(len(m.data)))), err
}

// content reads what the mapping shows through another descriptor, if that may be.
func (m *mapping) content(size int64) ([]byte, error) {
	fd, err := unix.Open(procPath(m.path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, size)
	n, err := unix.Pread(fd, buf, m.from)
	return buf[:max(n, 0)], err
}

// mapFile maps a part of an open file, which may reach past its end.
func mapFile(s *side, fd int, op modelOp) outcome {
	if _, mapped := s.maps[op.Slot2]; mapped {
		return outcome{text: "slot taken"}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return outcome{err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return outcome{text: "nothing to map"}
	}
	from := op.Offset / int64(os.Getpagesize()) * int64(os.Getpagesize())
	data, err := unix.Mmap(fd, from, int(op.Size), unix.PROT_READ|unix.PROT_WRITE, op.Flags)
	if err != nil {
		return outcome{err: err}
	}
	path, err := unix.Open(procPath(fd), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Munmap(data)
		return outcome{err: err}
	}
	s.maps[op.Slot2] = &mapping{data: data, from: from, private: op.Flags == unix.MAP_PRIVATE, path: path}
	return outcome{}
}

// mapOps are the operations on mappings.
var mapOps = map[string]func(s *side, m *mapping, op modelOp) outcome{
	// What is stored in a shared mapping is read back at once, before it is synced; a
	// private one leaves the file as it is.
	"mapstore": func(_ *side, m *mapping, op modelOp) outcome {
		inside, err := m.inside()
		if err != nil || op.Offset >= inside {
			return outcome{err: err, text: "past the end"}
		}
		before, err := m.content(inside)
		if err != nil && err != unix.EACCES {
			return outcome{err: err}
		}
		part := m.data[op.Offset:min(op.Offset+op.Size, inside)]
		copy(part, harness.Bytes(op.Seed, len(part)))
		after, err := m.content(inside)
		if err != nil && err != unix.EACCES {
			return outcome{err: err}
		}
		if m.private {
			return outcome{n: len(part), data: m.data[:inside:inside], text: sameOrNot(before, after)}
		}
		if err == nil {
			return outcome{err: unix.Msync(m.data, unix.MS_SYNC), n: len(part), text: sameOrNot(m.data[:inside], after)}
		}
		return outcome{err: unix.Msync(m.data, unix.MS_SYNC), n: len(part)}
	},
	"mapread": func(_ *side, m *mapping, _ modelOp) outcome {
		inside, err := m.inside()
		return outcome{err: err, data: bytes.Clone(m.data[:inside])}
	},
	"unmap": func(s *side, m *mapping, op modelOp) outcome {
		delete(s.maps, op.Slot2)
		return failing(m.close())
	},
}

func sameOrNot(a, b []byte) string {
	if bytes.Equal(a, b) {
		return "same"
	}
	return "not the same"
}

// storeMapped writes through a shared mapping, within what the file has.
func storeMapped(_ *side, fd int, op modelOp) outcome {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return outcome{err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || op.Offset >= st.Size || op.Size == 0 {
		return outcome{text: "nothing to map"}
	}
	page := int64(os.Getpagesize())
	from := op.Offset / page * page
	to := min(op.Offset+op.Size, st.Size)
	m, err := unix.Mmap(fd, from, int(to-from), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return outcome{err: err}
	}
	copy(m[op.Offset-from:], harness.Bytes(op.Seed, int(to-op.Offset)))
	err = unix.Msync(m, unix.MS_SYNC)
	if unmapErr := unix.Munmap(m); err == nil {
		err = unmapErr
	}
	return outcome{err: err}
}
