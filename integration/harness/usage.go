package harness

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process takes of its machine.
type Usage struct {
	Resident int64 // bytes in memory now
	Peak     int64 // the most there were since it began, or since ResetPeak
	Sockets  int   // open ones
	Files    int   // open regular files
}

// Usage asks the system what the peer takes.
func (p *Peer) Usage() (Usage, error) { return usageOf(p.PID()) }

// Usage asks the system what the daemon takes.
func (v *Vault) Usage() (Usage, error) { return usageOf(v.PID()) }

func usageOf(pid int) (u Usage, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	text, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return u, err
	}
	for line := range bytes.Lines(text) {
		for name, into := range map[string]*int64{"VmRSS:": &u.Resident, "VmHWM:": &u.Peak} {
			if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
				if _, err := fmt.Sscanf(string(rest), "%d kB", into); err != nil {
					return u, fmt.Errorf("%s of process %d: %w", name, pid, err)
				}
				*into <<= 10
			}
		}
	}
	files, err := os.ReadDir(filepath.Join(dir, "fd"))
	for _, f := range files {
		// One that is closed meanwhile is nothing any more.
		info, err := os.Stat(filepath.Join(dir, "fd", f.Name()))
		switch {
		case err != nil:
		case info.Mode().IsRegular():
			u.Files++
		case info.Mode().Type() == os.ModeSocket:
			u.Sockets++
		}
	}
	return u, err
}

// ResetPeak has the system measure the peak from now on.
func (p *Peer) ResetPeak() error {
	return os.WriteFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "clear_refs"), []byte("5"), 0)
}

// Lines is how many lines the peer has logged since it was started last.
func (p *Peer) Lines() int {
	p.t.Helper()
	text, err := os.ReadFile(p.output("err"))
	if err != nil {
		p.t.Fatal(err)
	}
	return bytes.Count(text, []byte("\n"))
}

// goroutine begins the stack of each of them.
var goroutine = regexp.MustCompile(`(?m)^goroutine \d+ .*\[`)

// Goroutines ends the peer by SIGQUIT, which has it say where it stands, and counts its
// goroutines.
func (p *Peer) Goroutines() int {
	p.t.Helper()
	p.signal(unix.SIGQUIT)
	select {
	case <-p.ended:
	case <-time.After(endLimit):
		p.t.Fatalf("the peer has not ended %s after SIGQUIT", endLimit)
	}
	text, err := os.ReadFile(p.output("err"))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(goroutine.FindAll(text, -1))
}
