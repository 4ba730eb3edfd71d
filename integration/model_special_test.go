package integration

import (
	ossignal "os/signal"
	"path"
	"syscall"

	"golang.org/x/sys/unix"
)

// specialOps are about what is neither file, directory nor symlink, and about the process
// itself.
var specialOps = map[string]func(s *side, op modelOp) outcome{
	"mknod": func(s *side, op modelOp) outcome {
		return failing(unix.Mknod(s.path(op.Path), s.makeMode(op), int(op.Rdev)))
	},
	// A socket that listens for as long as its slot is taken.
	"bind": func(s *side, op modelOp) outcome {
		if _, open := s.files[op.Slot]; open {
			return outcome{text: "slot taken"}
		}
		return s.atSocket(op, func(fd int, at unix.Sockaddr) (bool, error) {
			if err := unix.Bind(fd, at); err != nil {
				return false, err
			}
			s.files[op.Slot] = fd
			return true, unix.Listen(fd, 1)
		})
	},
	"connect": func(s *side, op modelOp) outcome {
		return s.atSocket(op, func(fd int, at unix.Sockaddr) (bool, error) { return false, unix.Connect(fd, at) })
	},
	"umask": func(_ *side, op modelOp) outcome {
		unix.Umask(int(op.Mode))
		return outcome{}
	},
	// The largest file that the process may write.
	"limit": func(_ *side, op modelOp) outcome { return failing(limitFiles(uint64(op.Size))) },
}

// limitFiles sets RLIMIT_FSIZE.
func limitFiles(bytes uint64) error {
	ossignal.Ignore(syscall.SIGXFSZ) // which would end the process
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = min(bytes, limit.Max)
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &limit)
}

// atSocket runs do with a socket and an address, which has room for 107 bytes and so goes
// over the open directory. do says whether it keeps the socket.
func (s *side) atSocket(op modelOp, do func(fd int, at unix.Sockaddr) (bool, error)) outcome {
	dir, name := path.Split(s.path(op.Path))
	if len(name) > 80 {
		return outcome{text: "too long for a socket"}
	}
	parent, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return outcome{err: err}
	}
	defer unix.Close(parent)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return outcome{err: err}
	}
	keeps, err := do(fd, &unix.SockaddrUnix{Name: procPath(parent) + "/" + name})
	if !keeps {
		_ = unix.Close(fd)
	}
	return outcome{err: err}
}
