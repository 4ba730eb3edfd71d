package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// modelOp is one thing a program does to a filesystem. Paths count from the root of the
// side that it is done to; fields that the kind has no use for are zero.
type modelOp struct {
	Kind   string
	Path   string   `json:",omitempty"`
	To     string   `json:",omitempty"` // a second path, a link's target, an attribute's name
	Slot   int      `json:",omitempty"` // of the open files
	Slot2  int      `json:",omitempty"`
	Flags  int      `json:",omitempty"`
	Mode   uint32   `json:",omitempty"`
	UID    int      `json:",omitempty"`
	GID    int      `json:",omitempty"`
	Offset int64    `json:",omitempty"`
	Size   int64    `json:",omitempty"`
	Seed   uint64   `json:",omitempty"` // of the bytes written
	Atime  [2]int64 `json:",omitzero"`
	Mtime  [2]int64 `json:",omitzero"` // seconds and nanoseconds
}

func (op modelOp) String() string {
	text, err := json.Marshal(op)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// outcome is what a program sees of an operation.
type outcome struct {
	err  error
	n    int
	data []byte
	text string
}

func (o outcome) String() string {
	return fmt.Sprintf("error %v, n %d, %d bytes, %q", o.err, o.n, len(o.data), o.text)
}

// same says where two outcomes differ, or nothing.
func (o outcome) same(other outcome) string {
	if o.err == other.err && o.n == other.n && slices.Equal(o.data, other.data) && o.text == other.text {
		return ""
	}
	said := fmt.Sprintf("want %v\n got %v", o, other)
	for i := range min(len(o.data), len(other.data)) {
		if o.data[i] != other.data[i] {
			return fmt.Sprintf("%s\nthe first byte that differs is at %d", said, i)
		}
	}
	return said
}

// side is one of the two directories that are compared, with the files open in it.
type side struct {
	root  string
	files map[int]int // descriptor by slot
	lose  string      // the kind of operation that is claimed and not done, to test the test
}

func (s *side) path(p string) string {
	if p == "." || strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") {
		return s.root + "/" + p // not cleaned: it asks for a directory
	}
	return filepath.Join(s.root, p)
}

func (s *side) closeAll() {
	for slot, fd := range s.files {
		_ = unix.Close(fd) // of a mount that was killed it fails
		delete(s.files, slot)
	}
}

// longAgo is the time in seconds below which a time was set by a test, not by a clock.
const longAgo = 1_500_000_000

func modelTime(t unix.Timespec) string {
	if t.Sec < longAgo {
		return fmt.Sprintf("%d.%09d", t.Sec, t.Nsec)
	}
	return "recent"
}

// attributes are what must be equal of two inodes. The size of a directory is its
// filesystem's business.
func attributes(st *unix.Stat_t) string {
	size := st.Size
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		size = 0
	}
	return fmt.Sprintf("mode %o size %d links %d owner %d:%d modified %s", st.Mode, size, st.Nlink, st.Uid, st.Gid, modelTime(st.Mtim))
}

func statted(err error, st *unix.Stat_t) outcome {
	if err != nil {
		return outcome{err: err}
	}
	return outcome{text: attributes(st)}
}

// do does an operation.
func (s *side) do(op modelOp) outcome {
	if op.Kind == s.lose {
		return outcome{n: int(op.Size)}
	}
	if do, ok := pathOps[op.Kind]; ok {
		return do(s, op)
	}
	do, ok := fileOps[op.Kind]
	if !ok {
		return outcome{text: "no such operation: " + op.Kind}
	}
	fd, open := s.files[op.Slot]
	if !open {
		return outcome{text: "not open"}
	}
	return do(s, fd, op)
}

func failing(err error) outcome { return outcome{err: err} }

// pathOps are the operations on names.
var pathOps = map[string]func(s *side, op modelOp) outcome{
	"open": func(s *side, op modelOp) outcome {
		if _, open := s.files[op.Slot]; open {
			return outcome{text: "slot taken"}
		}
		fd, err := unix.Open(s.path(op.Path), op.Flags|unix.O_NONBLOCK|unix.O_CLOEXEC, op.Mode)
		if err == nil {
			s.files[op.Slot] = fd
		}
		return outcome{err: err}
	},
	"mkdir":   func(s *side, op modelOp) outcome { return failing(unix.Mkdir(s.path(op.Path), op.Mode)) },
	"rmdir":   func(s *side, op modelOp) outcome { return failing(unix.Rmdir(s.path(op.Path))) },
	"unlink":  func(s *side, op modelOp) outcome { return failing(unix.Unlink(s.path(op.Path))) },
	"symlink": func(s *side, op modelOp) outcome { return failing(unix.Symlink(op.To, s.path(op.Path))) },
	"mkfifo":  func(s *side, op modelOp) outcome { return failing(unix.Mkfifo(s.path(op.Path), op.Mode)) },
	"chmod":   func(s *side, op modelOp) outcome { return failing(unix.Chmod(s.path(op.Path), op.Mode)) },
	"chown":   func(s *side, op modelOp) outcome { return failing(unix.Lchown(s.path(op.Path), op.UID, op.GID)) },
	"truncate": func(s *side, op modelOp) outcome {
		return failing(unix.Truncate(s.path(op.Path), op.Size))
	},
	"link": func(s *side, op modelOp) outcome {
		return failing(unix.Linkat(unix.AT_FDCWD, s.path(op.Path), unix.AT_FDCWD, s.path(op.To), op.Flags))
	},
	"rename": func(s *side, op modelOp) outcome {
		return failing(unix.Renameat2(unix.AT_FDCWD, s.path(op.Path), unix.AT_FDCWD, s.path(op.To), uint(op.Flags)))
	},
	"stat": func(s *side, op modelOp) outcome {
		var st unix.Stat_t
		return statted(unix.Lstat(s.path(op.Path), &st), &st)
	},
	"readlink": func(s *side, op modelOp) outcome {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlink(s.path(op.Path), buf)
		return outcome{err: err, text: string(buf[:max(n, 0)])}
	},
	"readdir": func(s *side, op modelOp) outcome {
		text, err := s.list(op.Path)
		return outcome{err: err, text: text}
	},
	"utimens": func(s *side, op modelOp) outcome {
		err := unix.UtimesNanoAt(unix.AT_FDCWD, s.path(op.Path), op.times(), unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return outcome{err: err}
		}
		var st unix.Stat_t
		err = unix.Lstat(s.path(op.Path), &st)
		return outcome{err: err, text: modelTime(st.Mtim) + " " + op.setAtime(&st)}
	},
	"setxattr": func(s *side, op modelOp) outcome {
		return failing(unix.Lsetxattr(s.path(op.Path), op.To, harness.Bytes(op.Seed, int(op.Size)), op.Flags))
	},
	"getxattr": func(s *side, op modelOp) outcome {
		buf := make([]byte, op.Size)
		n, err := unix.Lgetxattr(s.path(op.Path), op.To, buf)
		if len(buf) == 0 {
			return outcome{err: err, n: n}
		}
		return outcome{err: err, n: n, data: buf[:max(n, 0)]}
	},
	"removexattr": func(s *side, op modelOp) outcome { return failing(unix.Lremovexattr(s.path(op.Path), op.To)) },
	"listxattr": func(s *side, op modelOp) outcome {
		text, err := xattrs(s.path(op.Path))
		return outcome{err: err, text: text}
	},
	"readfile": func(s *side, op modelOp) outcome {
		fd, err := unix.Open(s.path(op.Path), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return outcome{err: err}
		}
		data, err := readAll(fd)
		_ = unix.Close(fd)
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
		fd, err := unix.Open(s.path(op.Path), unix.O_WRONLY|unix.O_CREAT|unix.O_NONBLOCK|unix.O_CLOEXEC|op.Flags, op.Mode)
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

// fileOps are the operations on open files.
var fileOps = map[string]func(s *side, fd int, op modelOp) outcome{
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
		n, err := unix.Write(fd, harness.Bytes(op.Seed, int(op.Size)))
		return outcome{err: err, n: n}
	},
	"pwrite": func(_ *side, fd int, op modelOp) outcome {
		n, err := unix.Pwrite(fd, harness.Bytes(op.Seed, int(op.Size)), op.Offset)
		return outcome{err: err, n: n}
	},
	"read": func(_ *side, fd int, op modelOp) outcome {
		buf := make([]byte, op.Size)
		n, err := unix.Read(fd, buf)
		return outcome{err: err, n: n, data: buf[:max(n, 0)]}
	},
	"pread": func(_ *side, fd int, op modelOp) outcome {
		buf := make([]byte, op.Size)
		n, err := unix.Pread(fd, buf, op.Offset)
		return outcome{err: err, n: n, data: buf[:max(n, 0)]}
	},
	"seek": func(_ *side, fd int, op modelOp) outcome {
		at, err := unix.Seek(fd, op.Offset, op.Flags)
		return outcome{err: err, n: int(at)}
	},
	"ftruncate": func(_ *side, fd int, op modelOp) outcome { return failing(unix.Ftruncate(fd, op.Size)) },
	"fallocate": func(_ *side, fd int, op modelOp) outcome {
		return failing(unix.Fallocate(fd, uint32(op.Flags), op.Offset, op.Size))
	},
	"fsync":     func(_ *side, fd int, _ modelOp) outcome { return failing(unix.Fsync(fd)) },
	"fdatasync": func(_ *side, fd int, _ modelOp) outcome { return failing(unix.Fdatasync(fd)) },
	"fchmod":    func(_ *side, fd int, op modelOp) outcome { return failing(unix.Fchmod(fd, op.Mode)) },
	"fchown":    func(_ *side, fd int, op modelOp) outcome { return failing(unix.Fchown(fd, op.UID, op.GID)) },
	"fstat": func(_ *side, fd int, _ modelOp) outcome {
		var st unix.Stat_t
		return statted(unix.Fstat(fd, &st), &st)
	},
	"linkfile": func(s *side, fd int, op modelOp) outcome {
		return failing(unix.Linkat(fd, "", unix.AT_FDCWD, s.path(op.Path), unix.AT_EMPTY_PATH))
	},
	"store": storeMapped,
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

func (op modelOp) times() []unix.Timespec {
	return []unix.Timespec{{Sec: op.Atime[0], Nsec: op.Atime[1]}, {Sec: op.Mtime[0], Nsec: op.Mtime[1]}}
}

// setAtime is the time of access where the operation set it; else it is the mount's
// business when a read changes it.
func (op modelOp) setAtime(st *unix.Stat_t) string {
	if op.Atime[1] == unix.UTIME_OMIT || op.Atime[1] == unix.UTIME_NOW {
		return "-"
	}
	return modelTime(st.Atim)
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

// list names what is in a directory, in order, with types.
func (s *side) list(dir string) (string, error) {
	entries, err := os.ReadDir(s.path(dir))
	if err != nil {
		return "", errnoOf(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, fmt.Sprintf("%s %s", e.Name(), e.Type()))
	}
	slices.Sort(names)
	return strings.Join(names, "\n"), nil
}

// xattrs gives the extended attributes of a path in order.
func xattrs(path string) (string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return "", err
	}
	all := []string{}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", err
		}
		all = append(all, fmt.Sprintf("%s=%x", name, value[:n]))
	}
	slices.Sort(all)
	return strings.Join(all, " "), nil
}
