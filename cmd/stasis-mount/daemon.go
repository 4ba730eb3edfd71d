package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// childVariable tells a process that it is the daemon: its third descriptor is the
// pipe on which it reports, once, how the start went.
const childVariable = "STASIS_MOUNT_CHILD"

// maxReport bounds what the parent reads from the daemon, in bytes.
const maxReport = 64 << 10

// report is what the daemon tells the process that started it.
type report struct {
	Text  string `json:"text,omitempty"`  // for the person; the mount serves
	Error string `json:"error,omitempty"` // why it does not
	Usage bool   `json:"usage,omitempty"`
}

// background starts this program again in a session of its own and waits until its
// mount serves or it says why not. The daemon's standard error leads here until it has
// opened its log.
func background(args []string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("start the daemon: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return "", fmt.Errorf("start the daemon: %w", err)
	}
	defer r.Close()
	errRead, errWrite, err := os.Pipe()
	if err != nil {
		return "", errors.Join(fmt.Errorf("start the daemon: %w", err), w.Close())
	}
	defer errRead.Close()
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stderr = errWrite
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return "", errors.Join(fmt.Errorf("start the daemon: %w", err), w.Close(), errWrite.Close())
	}
	if err := errors.Join(w.Close(), errWrite.Close()); err != nil {
		return "", fmt.Errorf("start the daemon: %w", err)
	}
	last := make(chan []byte, 1)
	go func() {
		// Ends when the daemon opens its log or ends; what can't be read is not there.
		text, _ := io.ReadAll(io.LimitReader(errRead, maxReport))
		last <- text
	}()
	said, err := io.ReadAll(io.LimitReader(r, maxReport))
	if err != nil {
		return "", fmt.Errorf("wait for the daemon: %w", err)
	}
	var rep report
	if json.Unmarshal(said, &rep) != nil {
		// It ended without a word.
		waitErr := cmd.Wait()
		return "", fmt.Errorf("the daemon ended while it started (%v): %s", waitErr, tail(<-last))
	}
	switch {
	case rep.Usage:
		return "", usageError{errors.New(rep.Error)}
	case rep.Error != "":
		return "", errors.New(rep.Error)
	}
	return rep.Text, cmd.Process.Release()
}

// tail is the first lines of a crash, which name its cause.
func tail(text []byte) string {
	lines := strings.Split(string(bytes.TrimSpace(text)), "\n")
	return strings.Join(lines[:min(len(lines), 5)], "\n")
}

// reporter is the daemon's end of the pipe, or the terminal of a mount in the
// foreground.
type reporter struct{ pipe *os.File }

// newReporter takes over what background left for it.
func newReporter() (*reporter, error) {
	if os.Getenv(childVariable) == "" {
		return &reporter{}, nil
	}
	if err := os.Unsetenv(childVariable); err != nil {
		return nil, err
	}
	syscall.CloseOnExec(3)
	return &reporter{pipe: os.NewFile(3, "report")}, nil
}

// child reports whether this process is the daemon of a parent that waits.
func (r *reporter) child() bool { return r.pipe != nil }

// send reports once. Whoever waited may be gone, which changes nothing here.
func (r *reporter) send(rep report) {
	if b, err := json.Marshal(rep); err == nil {
		_, _ = r.pipe.Write(b)
	}
	_ = r.pipe.Close()
}
