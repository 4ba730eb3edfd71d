package integration

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// contentOps are what a program does to a file in one go.
var contentOps = map[string]func(s *side, op modelOp) outcome{
	"readfile": func(s *side, op modelOp) outcome {
		fd, err := unix.Open(s.path(op.Path), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return outcome{err: err}
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return outcome{err: err}
		}
		if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size > wholeSize {
			text, err := sparseDigest(fd, st.Size)
			return outcome{err: err, text: text}
		}
		data, err := readAll(fd)
		return outcome{err: err, data: data}
	},
	// A change of a few bytes within one unit of 4 KiB, which is done or not.
	"patch": func(s *side, op modelOp) outcome {
		fd, err := unix.Open(s.path(op.Path), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return outcome{err: err}
		}
		n, err := unix.Pwrite(fd, harness.Bytes(op.Seed, int(op.Size)), op.Offset)
		if closeErr := unix.Close(fd); err == nil {
			err = closeErr
		}
		return outcome{err: err, n: n}
	},
	"writefile": func(s *side, op modelOp) outcome {
		fd, err := unix.Open(s.path(op.Path), unix.O_WRONLY|unix.O_CREAT|unix.O_NONBLOCK|unix.O_CLOEXEC|op.Flags, s.makeMode(op))
		if err != nil {
			return outcome{err: err}
		}
		n, err := unix.Write(fd, harness.Bytes(op.Seed, int(op.Size)))
		if closeErr := unix.Close(fd); err == nil {
			err = closeErr
		}
		return outcome{err: err, n: n}
	},
}

// openOps are the operations on open files.
var openOps = map[string]func(s *side, fd int, op modelOp) outcome{
	"close": func(s *side, fd int, op modelOp) outcome {
		delete(s.files, op.Slot)
		return failing(unix.Close(fd))
	},
	"dup": func(s *side, fd int, op modelOp) outcome {
		if _, open := s.files[op.Slot2]; open {
			return outcome{text: "slot taken"}
		}
		other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			s.files[op.Slot2] = other
		}
		return outcome{err: err}
	},
	"write": func(_ *side, fd int, op modelOp) outcome {
		if isDirect(fd) {
			at, err := unix.Seek(fd, 0, unix.SEEK_CUR)
			if err != nil || at%directUnit != 0 {
				return outcome{text: "not aligned"}
			}
		}
		n, err := unix.Write(fd, op.bytesFor(fd))
		return outcome{err: err, n: n}
	},
	"pwrite": func(_ *side, fd int, op modelOp) outcome {
		n, err := unix.Pwrite(fd, op.bytesFor(fd), op.offsetFor(fd))
		return outcome{err: err, n: n}
	},
	"read": func(_ *side, fd int, op modelOp) outcome {
		if isDirect(fd) {
			at, err := unix.Seek(fd, 0, unix.SEEK_CUR)
			if err != nil || at%directUnit != 0 {
				return outcome{text: "not aligned"}
			}
		}
		buf := op.bufferFor(fd)
		n, err := unix.Read(fd, buf)
		return outcome{err: err, n: n, data: buf[:max(n, 0)]}
	},
	"pread": func(_ *side, fd int, op modelOp) outcome {
		buf := op.bufferFor(fd)
		n, err := unix.Pread(fd, buf, op.offsetFor(fd))
		return outcome{err: err, n: n, data: buf[:max(n, 0)]}
	},
	// Several buffers at once; an offset of -1 is the descriptor's own.
	"preadv": func(_ *side, fd int, op modelOp) outcome {
		if isDirect(fd) {
			return outcome{text: "direct"}
		}
		buf := make([]byte, op.Size)
		n, err := unix.Preadv2(fd, inParts(buf), op.Offset, 0)
		return outcome{err: err, n: n, data: buf[:max(n, 0)]}
	},
	"pwritev": func(_ *side, fd int, op modelOp) outcome {
		if isDirect(fd) {
			return outcome{text: "direct"}
		}
		n, err := unix.Pwritev2(fd, inParts(harness.Bytes(op.Seed, int(op.Size))), op.Offset, op.Flags)
		return outcome{err: err, n: n}
	},
	"copyrange": copyRange,
	// Past RLIMIT_FSIZE ext4 refuses it after it has cleared set-user-id; FUSE does before.
	"fallocate": func(_ *side, fd int, op modelOp) outcome {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil || uint64(op.Offset+op.Size) > limit.Cur {
			return outcome{err: err, text: "past the limit"}
		}
		return failing(unix.Fallocate(fd, uint32(op.Flags), op.Offset, op.Size))
	},
	"seek": func(_ *side, fd int, op modelOp) outcome {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return outcome{text: "a directory, whose offsets are its filesystem's business"}
		}
		at, err := unix.Seek(fd, op.Offset, op.Flags)
		return outcome{err: err, n: int(at)}
	},
	"ftruncate": func(_ *side, fd int, op modelOp) outcome { return failing(unix.Ftruncate(fd, op.Size)) },
	"fsync":     func(_ *side, fd int, _ modelOp) outcome { return failing(unix.Fsync(fd)) },
	"fdatasync": func(_ *side, fd int, _ modelOp) outcome { return failing(unix.Fdatasync(fd)) },
	"fchmod": func(_ *side, fd int, op modelOp) outcome {
		if op.Mode&setIDs != 0 && hasCapability(procPath(fd)) {
			return outcome{text: bothPrivileges}
		}
		return failing(unix.Fchmod(fd, op.Mode))
	},
	"fchown": func(_ *side, fd int, op modelOp) outcome { return failing(unix.Fchown(fd, op.UID, op.GID)) },
	"fstat": func(_ *side, fd int, _ modelOp) outcome {
		var st unix.Stat_t
		return statted(unix.Fstat(fd, &st), &st)
	},
	"linkfile": func(s *side, fd int, op modelOp) outcome {
		return failing(unix.Linkat(fd, "", unix.AT_FDCWD, s.path(op.Path), unix.AT_EMPTY_PATH))
	},
	// As programs do who may not use AT_EMPTY_PATH.
	"linkproc": func(s *side, fd int, op modelOp) outcome {
		return failing(unix.Linkat(unix.AT_FDCWD, procPath(fd), unix.AT_FDCWD, s.path(op.Path), unix.AT_SYMLINK_FOLLOW))
	},
	"futimens": func(_ *side, fd int, op modelOp) outcome {
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, procPath(fd), op.times(), 0); err != nil {
			return outcome{err: err}
		}
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		return outcome{err: err, text: modified(&st) + " " + op.setAtime(&st)}
	},
	"fsetxattr": func(_ *side, fd int, op modelOp) outcome {
		return failing(unix.Fsetxattr(fd, string(op.To), op.value(), op.Flags))
	},
	"store": storeMapped,
	"map":   mapFile,
}

// procPath leads to an open file whatever became of its name.
func procPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// directUnit is what O_DIRECT wants offsets, lengths and memory to be multiples of, in
// bytes.
const directUnit = 4096

func isDirect(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_DIRECT != 0
}

// bufferFor is memory for as many bytes as the operation has, rounded up where the file is
// open with O_DIRECT.
func (op modelOp) bufferFor(fd int) []byte {
	size := int(op.Size)
	if !isDirect(fd) {
		return make([]byte, size)
	}
	size = (size + directUnit - 1) / directUnit * directUnit
	buf := make([]byte, size+directUnit)
	skip := (directUnit - int(uintptr(unsafe.Pointer(unsafe.SliceData(buf)))%directUnit)) % directUnit
	return buf[skip:][:size]
}

func (op modelOp) bytesFor(fd int) []byte {
	buf := op.bufferFor(fd)
	copy(buf, harness.Bytes(op.Seed, len(buf)))
	return buf
}

func (op modelOp) offsetFor(fd int) int64 {
	if isDirect(fd) {
		return op.Offset / directUnit * directUnit
	}
	return op.Offset
}

func inParts(buf []byte) [][]byte {
	third := len(buf) / 3
	return [][]byte{buf[:third], buf[third : 2*third], buf[2*third:]}
}

// copyRange has the kernel copy between two open files, or within one; offsets of -1 are
// the descriptors' own.
func copyRange(s *side, fd int, op modelOp) outcome {
	to, open := s.files[op.Slot2]
	if !open {
		return outcome{text: "not open"}
	}
	if isDirect(fd) || isDirect(to) {
		return outcome{text: "direct"}
	}
	at := func(offset *int64) *int64 {
		if *offset < 0 {
			return nil
		}
		return offset
	}
	from, into := at(&op.Offset), at(&op.Offset2)
	// It may stop short, and where, nobody promises.
	for done := 0; ; {
		n, err := unix.CopyFileRange(fd, from, to, into, int(op.Size)-done, 0)
		if done += max(n, 0); err != nil || n == 0 || done == int(op.Size) {
			return outcome{err: err, n: done}
		}
	}
}

func readAll(fd int) ([]byte, error) {
	data := []byte{}
	buf := make([]byte, 128<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil || n == 0 {
			return data, err
		}
		data = append(data, buf[:n]...)
	}
}
