package integration

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tamperVariable tells a test process to change the programs in the directory it names, by
// every way that there is, and to print what came of each.
const tamperVariable = "STASIS_TEST_TAMPER"

// hurryVariable names the ways, if not all of them are to be tried, without a word of what came
// of it, on the victims that there are.
const hurryVariable = "STASIS_TEST_TAMPER_WAYS"

// cacheTime is longer than the kernel may go on showing what is about to change by itself.
const cacheTime = 2 * time.Second

// rootsHandles are the kinds of victims that root has open for the user, by handleWays.
var (
	rootsHandles = []string{"suid", "all"}
	handleWays   = []string{"by root's handle to write", "by root's handle to copy", "by root's handle to cut", "by root's handle to room"}
)

// opened is open for a way that needs it.
func opened(path string, flags int, do func(fd int) error) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(do(fd), unix.Close(fd))
}

// all writes everything.
func all(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, off)
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// copyAll copies from one descriptor to another with what the system has for it.
func copyAll(from, to int, n int) error {
	in, out := int64(0), int64(0)
	for n > 0 {
		k, err := unix.CopyFileRange(from, &in, to, &out, n, 0)
		if err != nil {
			return err
		}
		if k == 0 {
			break
		}
		n -= k
	}
	return nil
}

// tampering is what a way changes: a program, by the content of another.
type tampering struct {
	path, source string
	content      []byte
}

// withSource opens both.
func (a tampering) withSource(do func(from, to int) error) error {
	return opened(a.source, unix.O_RDONLY, func(from int) error {
		return opened(a.path, unix.O_WRONLY, func(to int) error { return do(from, to) })
	})
}

// room is a way by fallocate.
func room(mode uint32, off, n int64) func(tampering) error {
	return func(a tampering) error {
		return opened(a.path, unix.O_RDWR, func(fd int) error { return unix.Fallocate(fd, mode, off, n) })
	}
}

// ways are how content or size change, or might.
var ways = map[string]func(a tampering) error{
	"write": func(a tampering) error {
		return opened(a.path, unix.O_WRONLY, func(fd int) error { return all(fd, a.content, 0) })
	},
	"one byte": func(a tampering) error {
		return opened(a.path, unix.O_WRONLY, func(fd int) error { return all(fd, a.content[:1], 5000) })
	},
	"vector": func(a tampering) error {
		return opened(a.path, unix.O_WRONLY, func(fd int) error { _, err := unix.Pwritev(fd, [][]byte{a.content}, 0); return err })
	},
	"append": func(a tampering) error {
		return opened(a.path, unix.O_WRONLY|unix.O_APPEND, func(fd int) error { return all(fd, a.content[:10], 0) })
	},
	"direct": func(a tampering) error {
		return opened(a.path, unix.O_WRONLY|unix.O_DIRECT, func(fd int) error {
			buf := make([]byte, 8192)
			off := 4096 - int(uintptr(unsafe.Pointer(&buf[0]))%4096)
			return all(fd, buf[off%4096:][:4096], 0)
		})
	},
	"truncate":  func(a tampering) error { return unix.Truncate(a.path, 5000) },
	"lengthen":  func(a tampering) error { return unix.Truncate(a.path, 5000000) },
	"same size": func(a tampering) error { return unix.Truncate(a.path, int64(len(a.content))) },
	"ftruncate": func(a tampering) error {
		return opened(a.path, unix.O_WRONLY, func(fd int) error { return unix.Ftruncate(fd, 5000) })
	},
	"open to cut": func(a tampering) error {
		return opened(a.path, unix.O_WRONLY|unix.O_TRUNC, func(int) error { return nil })
	},
	"open to read and cut": func(a tampering) error {
		return opened(a.path, unix.O_RDONLY|unix.O_TRUNC, func(int) error { return nil })
	},
	"cut and write": func(a tampering) error {
		return opened(a.path, unix.O_WRONLY|unix.O_TRUNC, func(fd int) error { return all(fd, a.content, 0) })
	},
	"open to write": func(a tampering) error {
		return opened(a.path, unix.O_RDWR, func(int) error { return nil })
	},
	"copy": func(a tampering) error {
		return a.withSource(func(from, to int) error { return copyAll(from, to, len(a.content)) })
	},
	"copy a part": func(a tampering) error {
		return a.withSource(func(from, to int) error {
			in, out := int64(100), int64(100)
			_, err := unix.CopyFileRange(from, &in, to, &out, 5000, 0)
			return err
		})
	},
	"copy nothing": func(a tampering) error {
		return a.withSource(func(from, to int) error {
			in, out := int64(len(a.content)), int64(0)
			_, err := unix.CopyFileRange(from, &in, to, &out, 5000, 0)
			return err
		})
	},
	"sendfile": func(a tampering) error {
		return a.withSource(func(from, to int) error { _, err := unix.Sendfile(to, from, nil, len(a.content)); return err })
	},
	"splice": func(a tampering) error {
		return a.withSource(func(from, to int) error {
			p := make([]int, 2)
			if err := unix.Pipe2(p, unix.O_CLOEXEC); err != nil {
				return err
			}
			_, err := unix.Splice(from, nil, p[1], nil, 4096, 0)
			if err == nil {
				_, err = unix.Splice(p[0], nil, to, nil, 4096, 0)
			}
			return errors.Join(err, unix.Close(p[0]), unix.Close(p[1]))
		})
	},
	"mapped store": func(a tampering) error {
		return opened(a.path, unix.O_RDWR, func(fd int) error {
			p, err := unix.Mmap(fd, 0, len(a.content), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			copy(p, a.content)
			return errors.Join(unix.Msync(p, unix.MS_SYNC), unix.Munmap(p))
		})
	},
	"make room":            room(0, 0, 4096),
	"make room behind":     room(0, 0, 5000000),
	"keep the size":        room(unix.FALLOC_FL_KEEP_SIZE, 0, 5000000),
	"punch":                room(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096),
	"zero":                 room(unix.FALLOC_FL_ZERO_RANGE, 0, 4096),
	"zero behind":          room(unix.FALLOC_FL_ZERO_RANGE, 4096, 5000000),
	"zero, keep":           room(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096),
	"punch without keep":   room(unix.FALLOC_FL_PUNCH_HOLE, 0, 4096),
	"room in a wrong mode": room(1<<12, 0, 4096),
	"exchange": func(a tampering) error {
		return unix.Renameat2(unix.AT_FDCWD, a.path+".other", unix.AT_FDCWD, a.path, unix.RENAME_EXCHANGE)
	},
	"rename over": func(a tampering) error { return os.Rename(a.path+".other", a.path) },
	"chmod":       func(a tampering) error { return unix.Chmod(a.path, 0o6777) },
	"touch":       func(a tampering) error { return unix.Utimes(a.path, nil) },
	"set an attribute": func(a tampering) error {
		return unix.Setxattr(a.path, "user.x", []byte("y"), 0)
	},
	"remove capabilities": func(a tampering) error { return unix.Removexattr(a.path, "security.capability") },
	"chown to itself":     func(a tampering) error { return unix.Chown(a.path, nobody, nobody) },
}

// tamperWays are all of them.
func tamperWays() []string { return append(slices.Sorted(maps.Keys(ways)), handleWays...) }

// tamper does all that to the victims in a directory and prints what came of it, at once and
// when what the kernel remembers for a moment is forgotten.
func tamper(dir string) int {
	unix.Umask(0)
	source := filepath.Join(dir, "source")
	content, err := os.ReadFile(source)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if only := os.Getenv(hurryVariable); only != "" {
		return hurry(dir, tampering{source: source, content: content}, strings.Split(only, ","))
	}
	paths := map[string]string{}
	try := func(kind, way string, do func(a tampering) error) {
		path := filepath.Join(dir, kind+"."+way)
		describeVictim(path) // the kernel remembers it from now on
		came := cameOf(do(tampering{path, source, content}))
		fmt.Printf("%s, %s, at once: %s, %s\n", kind, way, came, describeVictim(path))
		paths[kind+", "+way] = path
	}
	for kind := range victims {
		for way, do := range ways {
			try(kind, way, do)
		}
	}
	handed := 3
	for _, kind := range rootsHandles {
		for _, way := range handleWays {
			fd := handed
			handed++
			try(kind, way, func(a tampering) error {
				do := map[string]func() error{
					handleWays[0]: func() error { return all(fd, a.content, 0) },
					handleWays[1]: func() error {
						return opened(a.source, unix.O_RDONLY, func(from int) error { return copyAll(from, fd, len(a.content)) })
					},
					handleWays[2]: func() error { return unix.Ftruncate(fd, 5000) },
					handleWays[3]: func() error { return unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 0, 4096) },
				}[way]
				return do()
			})
		}
	}
	time.Sleep(cacheTime)
	for what, path := range paths {
		fmt.Printf("%s, later: %s\n", what, describeVictim(path))
	}
	return 0
}

// hurry changes victims by some ways, as fast as it goes, several at a time.
func hurry(dir string, a tampering, only []string) int {
	var all sync.WaitGroup
	for _, way := range only {
		all.Go(func() {
			paths, err := filepath.Glob(filepath.Join(dir, "*."+way))
			if err != nil {
				return // the pattern is well formed
			}
			for _, path := range paths {
				a := a
				a.path = path
				_ = ways[way](a) // the daemon may be killed
			}
		})
	}
	all.Wait()
	return 0
}
