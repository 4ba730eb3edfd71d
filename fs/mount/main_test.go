package mount

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// mapperVariable makes the test binary a program that uses a mapping. A test must not
// do that itself: a page fault stops a thread where the Go runtime does not expect it,
// and the mount that would answer is in the same process.
const mapperVariable = "STASIS_TEST_MAPPER"

func TestMain(m *testing.M) {
	if os.Getenv(mapperVariable) == "" {
		os.Exit(m.Run())
	}
	if err := mapper(os.NewFile(3, "file")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// mapper maps a file, closes it, writes what it sees to standard output, and stores
// what it reads from standard input, 8 bytes of offset first.
func mapper(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	p, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if _, err := os.Stdout.Write(p); err != nil {
		return err
	}
	in, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	copy(p[binary.BigEndian.Uint64(in):], in[8:])
	// Half of the time the kernel is left to write it back by itself.
	if binary.BigEndian.Uint64(in)%2 == 0 {
		if err := unix.Msync(p, unix.MS_SYNC); err != nil {
			return err
		}
	}
	return unix.Munmap(p)
}

// storeMapped runs mapper on a file and gives what it saw.
func storeMapped(f *os.File, p []byte, off int) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), mapperVariable+"=1")
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	seen := make([]byte, info.Size())
	if _, err := io.ReadFull(out, seen); err != nil {
		return nil, err
	}
	if _, err := in.Write(append(binary.BigEndian.AppendUint64(nil, uint64(off)), p...)); err != nil {
		return nil, err
	}
	if err := in.Close(); err != nil {
		return nil, err
	}
	return seen, cmd.Wait()
}
