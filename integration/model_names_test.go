package integration

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// nameOps are what a program does to names and attributes.
var nameOps = map[string]func(s *side, op modelOp) outcome{
	"open": func(s *side, op modelOp) outcome {
		if _, open := s.files[op.Slot]; open {
			return outcome{text: "slot taken"}
		}
		fd, err := unix.Open(s.path(op.Path), op.Flags|unix.O_NONBLOCK|unix.O_CLOEXEC, s.makeMode(op))
		if err == nil {
			s.files[op.Slot] = fd
		}
		return outcome{err: err}
	},
	"mkdir":   func(s *side, op modelOp) outcome { return failing(unix.Mkdir(s.path(op.Path), op.Mode)) },
	"rmdir":   func(s *side, op modelOp) outcome { return failing(unix.Rmdir(s.path(op.Path))) },
	"unlink":  func(s *side, op modelOp) outcome { return failing(unix.Unlink(s.path(op.Path))) },
	"symlink": func(s *side, op modelOp) outcome { return failing(unix.Symlink(string(op.To), s.path(op.Path))) },
	"mkfifo":  func(s *side, op modelOp) outcome { return failing(unix.Mkfifo(s.path(op.Path), op.Mode)) },
	"chmod": func(s *side, op modelOp) outcome {
		if op.Mode&setIDs != 0 && hasCapability(s.path(op.Path)) {
			return outcome{text: bothPrivileges}
		}
		return failing(unix.Chmod(s.path(op.Path), op.Mode))
	},
	"chown": func(s *side, op modelOp) outcome { return failing(unix.Lchown(s.path(op.Path), op.UID, op.GID)) },
	"truncate": func(s *side, op modelOp) outcome {
		return failing(unix.Truncate(s.path(op.Path), op.Size))
	},
	"link": func(s *side, op modelOp) outcome {
		return failing(unix.Linkat(unix.AT_FDCWD, s.path(op.Path), unix.AT_FDCWD, s.path(op.To), op.Flags))
	},
	"rename": func(s *side, op modelOp) outcome {
		return failing(unix.Renameat2(unix.AT_FDCWD, s.path(op.Path), unix.AT_FDCWD, s.path(op.To), uint(op.Flags)))
	},
	// What a program asks for by the ids that it acts with.
	"access": func(s *side, op modelOp) outcome {
		return failing(unix.Faccessat(unix.AT_FDCWD, s.path(op.Path), op.Mode, unix.AT_EACCESS))
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
		return outcome{err: err, text: modified(&st) + " " + op.setAtime(&st)}
	},
	"setxattr": func(s *side, op modelOp) outcome {
		return failing(unix.Lsetxattr(s.path(op.Path), string(op.To), op.value(), op.Flags))
	},
	"setcap": func(s *side, op modelOp) outcome {
		var st unix.Stat_t
		if unix.Lstat(s.path(op.Path), &st) == nil && st.Mode&setIDs != 0 {
			return outcome{text: bothPrivileges}
		}
		return failing(unix.Lsetxattr(s.path(op.Path), string(op.To), op.value(), op.Flags))
	},
	"getxattr": func(s *side, op modelOp) outcome {
		buf := make([]byte, op.Size)
		n, err := unix.Lgetxattr(s.path(op.Path), string(op.To), buf)
		if len(buf) == 0 {
			return outcome{err: err, n: n}
		}
		return outcome{err: err, n: n, data: buf[:max(n, 0)]}
	},
	"removexattr": func(s *side, op modelOp) outcome { return failing(unix.Lremovexattr(s.path(op.Path), string(op.To))) },
	"listxattr": func(s *side, op modelOp) outcome {
		text, err := xattrs(s.path(op.Path))
		return outcome{err: err, text: text}
	},
}

// A write by root takes capabilities away and leaves set-user-id and set-group-id. FUSE is
// told of the former by the same request as of a chown(2) of neither owner, which takes
// both: where a file has both, both go.
const (
	setIDs         = unix.S_ISUID | unix.S_ISGID
	bothPrivileges = "capabilities, and set-user-id or set-group-id"
)

// makeMode is the mode to make a file with. What a write by somebody outside the group does to
// set-group-id where the group may not execute, FUSE leaves as it is and ext4 clears: no
// file gets to be so, neither here nor by a list, a umask or chmod.
func (s *side) makeMode(op modelOp) uint32 {
	if _, err := unix.Getxattr(path.Dir(s.path(op.Path)), defaultACL, nil); err == nil {
		return op.Mode &^ unix.S_ISGID
	}
	return op.Mode
}

func hasCapability(file string) bool {
	_, err := unix.Getxattr(file, "security.capability", nil)
	return err == nil
}

// value is that of an attribute.
func (op modelOp) value() []byte {
	if op.Value != "" {
		return []byte(op.Value)
	}
	return harness.Bytes(op.Seed, int(op.Size))
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

// list names what is in a directory, in order, with types.
func (s *side) list(dir rawText) (string, error) {
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
