package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A system is a directory to work in and what serves it.
type system struct {
	name   string
	dir    string
	enter  []string  // the command that brings a process to where dir is seen
	daemon *exec.Cmd // nil: the kernel alone
	stderr *bytes.Buffer
	wait   []string // the command that waits until the copies are there
	leave  []string // the command that unmounts
}

// plain is the filesystem the others stand on.
func plain(base string) (*system, error) {
	dir := filepath.Join(base, "ext4")
	return &system{name: "ext4", dir: dir}, os.Mkdir(dir, 0o755)
}

// loopback mounts go-fuse's example. In a user namespace of its own the kernel gives it
// no passthrough, which leaves what every request costs that goes through a daemon.
func loopback(ctx context.Context, base, binary string, unprivileged bool) (*system, error) {
	s := &system{name: "loopback", dir: filepath.Join(base, "loopback")}
	backing := filepath.Join(base, "loopback.backing")
	args := []string{binary, "-q", s.dir, backing}
	if unprivileged {
		s.name, s.dir, backing = "loopback, no passthrough", s.dir+"-userns", backing+"-userns"
		args = []string{"unshare", "-Urm", binary, "-q", "-directmount", s.dir, backing}
	}
	for _, dir := range []string{s.dir, backing} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if err := s.start(args); err != nil {
		return nil, err
	}
	if unprivileged {
		s.enter = []string{"nsenter", "--preserve-credentials", "-U", "-m", "-t", strconv.Itoa(s.daemon.Process.Pid)}
	}
	return s, s.awaitMount(ctx)
}

// vault mounts a vault with two directory nodes, one of which can adopt bodies.
func vault(ctx context.Context, base, bin string) (*system, error) {
	s := &system{name: "stasis", dir: filepath.Join(base, "vault")}
	state := filepath.Join(base, "state")
	second := filepath.Join(base, "second")
	for _, dir := range []string{s.dir, state} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	settings := fmt.Sprintf("copies = 2\n\n[[node]]\nname = \"one\"\nkind = \"directory\"\npath = \"nodes/default\"\n\n"+
		"[[node]]\nname = \"two\"\nkind = \"directory\"\npath = %q\n", second)
	if err := os.WriteFile(filepath.Join(state, "vault.toml"), []byte(settings), 0o600); err != nil {
		return nil, err
	}
	if err := s.start([]string{filepath.Join(bin, "stasis-mount"), "--foreground", "--log-level", "warning", state, s.dir}); err != nil {
		return nil, err
	}
	s.wait = []string{filepath.Join(bin, "stasis"), "wait", "--timeout", waitTimeout.String(), s.dir}
	s.leave = []string{filepath.Join(bin, "stasis"), "umount", s.dir}
	return s, s.awaitMount(ctx)
}

func (s *system) start(args []string) error { return s.startTo(nil, args) }

// startTo is start with the standard output going to a file.
func (s *system) startTo(out *os.File, args []string) error {
	s.stderr = &bytes.Buffer{}
	s.daemon = exec.Command(args[0], args[1:]...)
	s.daemon.Stderr = s.stderr
	if out != nil {
		s.daemon.Stdout = out
	}
	// A group of its own: an interrupt at the terminal is ours to pass on, after the unmount.
	s.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.daemon.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	return nil
}

// awaitMount returns when the daemon serves.
func (s *system) awaitMount(ctx context.Context) error {
	deadline := time.Now().Add(mountTimeout)
	for {
		seen, err := s.inside(ctx, "stat", "-f", "-c", "%T", s.dir)
		if err == nil && strings.HasPrefix(seen, "fuse") {
			return nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%s does not serve %s: %s", s.name, s.dir, s.stderr), s.close())
		}
		time.Sleep(pollEvery)
	}
}

// inside runs a command where the system's directory is seen and gives what it printed.
func (s *system) inside(ctx context.Context, args ...string) (string, error) {
	args = append(s.enter[:len(s.enter):len(s.enter)], args...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w: %s", s.name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// settle ends what the system still does for the last workload and tells how long a
// vault took to have its copies.
func (s *system) settle(ctx context.Context, waits bool) (float64, error) {
	seconds := 0.0
	if waits && s.wait != nil {
		start := time.Now()
		if out, err := exec.CommandContext(ctx, s.wait[0], s.wait[1:]...).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%s: wait: %w: %s", s.name, err, out)
		}
		seconds = time.Since(start).Seconds()
	}
	s.awaitIdle(ctx)
	syscall.Sync()
	return seconds, nil
}

// awaitIdle returns when the daemon has nothing more to do in the background.
func (s *system) awaitIdle(ctx context.Context) {
	if s.daemon == nil {
		return
	}
	deadline := time.Now().Add(idleTimeout)
	for last := s.cpu(); ctx.Err() == nil && time.Now().Before(deadline); {
		time.Sleep(idleSpan)
		now := s.cpu()
		if float64(now-last) < idleShare*float64(idleSpan) {
			return
		}
		last = now
	}
}

// cpu is the time that the daemon has spent on a core.
func (s *system) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.daemon.Process.Pid))
	if err != nil {
		return 0
	}
	// The name in brackets may hold anything; user and system time are fields 14 and 15.
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	fields := strings.Fields(string(rest))
	total := time.Duration(0)
	for _, i := range []int{11, 12} {
		if i < len(fields) {
			ticks, _ := strconv.ParseInt(fields[i], 10, 64)
			total += time.Duration(ticks) * clockTick
		}
	}
	return total
}

// close unmounts and ends the daemon; nothing is left mounted or running.
func (s *system) close() error {
	if s.daemon == nil {
		return nil
	}
	var err error
	patience := endTimeout
	if s.leave != nil {
		patience = mountTimeout
		if out, e := exec.Command(s.leave[0], s.leave[1:]...).CombinedOutput(); e != nil {
			err = fmt.Errorf("%s: unmount: %w: %s", s.name, e, out)
		}
	} else {
		err = s.daemon.Process.Signal(syscall.SIGTERM)
	}
	done := make(chan struct{})
	go func() {
		_ = s.daemon.Wait() // how it ended says nothing: it was told to
		close(done)
	}()
	select {
	case <-done:
		return err
	case <-time.After(patience):
	}
	if s.leave != nil {
		err = errors.Join(err, fmt.Errorf("%s did not end: %s", s.name, s.stderr))
	}
	// The example goes on serving as long as another program's mount namespace has a copy
	// of its mount.
	err = errors.Join(err, s.daemon.Process.Kill())
	<-done
	if len(s.enter) == 0 {
		_ = syscall.Unmount(s.dir, syscall.MNT_DETACH) // it may be unmounted already
	}
	return err
}
