package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Command is a program to run.
type Command struct {
	Args  []string
	Dir   string        // where; "" is here
	Env   []string      // added to this process's
	Stdin string        // what it reads
	Limit time.Duration // how long it may take; 0 is commandLimit
}

// Result is what became of a command.
type Result struct {
	Command string
	Stdout  string
	Stderr  string
	Code    int // -1: killed by a signal, or never started
	Took    time.Duration
}

func (r Result) String() string {
	return fmt.Sprintf("%s\nexit code %d after %s\nstdout: %s\nstderr: %s", r.Command, r.Code, r.Took.Round(time.Millisecond), r.Stdout, r.Stderr)
}

// Run runs a command to its end. A command that takes longer than its limit fails the test.
func Run(t testing.TB, c Command) Result {
	t.Helper()
	r, err := c.run()
	if err != nil {
		t.Fatalf("%v\n%v", err, r)
	}
	if r.Took > slowCommand {
		t.Logf("%s for %s", r.Took.Round(time.Millisecond), r.Command)
	}
	return r
}

// run may be called from any goroutine.
func (c Command) run() (Result, error) {
	limit := c.Limit
	if limit == 0 {
		limit = commandLimit
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdin = c.Dir, append(os.Environ(), c.Env...), strings.NewReader(c.Stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// A daemon that kept our pipes must not keep us.
	cmd.WaitDelay = time.Second
	start := time.Now()
	err := cmd.Run()
	r := Result{Command: strings.Join(c.Args, " "), Stdout: stdout.String(), Stderr: stderr.String(), Code: -1, Took: time.Since(start)}
	if cmd.ProcessState != nil {
		r.Code = cmd.ProcessState.ExitCode()
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return r, fmt.Errorf("the command did not end within %s", limit)
	case err == nil || errors.As(err, &exit):
		return r, nil
	}
	return r, err
}

// Must runs a program that has to succeed and gives what it printed.
func Must(t testing.TB, args ...string) string {
	t.Helper()
	r := Run(t, Command{Args: args})
	if r.Code != 0 {
		t.Fatal(r)
	}
	return r.Stdout
}

// Eventually polls until done says true; what done says beside is shown if it never does.
func Eventually(t testing.TB, within time.Duration, what string, done func() (bool, string)) {
	t.Helper()
	end := time.Now().Add(within)
	for {
		ok, seen := done()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s; last seen: %s", what, within, seen)
		}
		time.Sleep(pollStep)
	}
}
