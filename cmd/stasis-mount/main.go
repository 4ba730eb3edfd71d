package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"stasis/cmd/internal/build"
	"stasis/cmd/internal/terminal"
)

// The exit codes that scripts rely on.
const (
	exitFailed = 1
	exitUsage  = 2
)

// defaultPath is where programs are looked for if nobody says, as mount(8) does not.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	err := mountAndServe(args)
	if err == nil {
		return 0
	}
	// Nobody is left to be told if even this can't be written.
	_, _ = fmt.Fprintln(os.Stderr, "stasis-mount: "+terminal.Lines(err.Error()))
	var slip usageError
	if errors.As(err, &slip) {
		return exitUsage
	}
	return exitFailed
}

// mountAndServe is the whole program, in one of three parts: what the person starts,
// the daemon that this starts, or both in one in the foreground.
func mountAndServe(args []string) error {
	if os.Getenv("PATH") == "" {
		if err := os.Setenv("PATH", defaultPath); err != nil {
			return err
		}
	}
	rep, err := newReporter()
	if err != nil {
		return err
	}
	if rep.child() {
		return daemonMain(args, rep)
	}
	o, err := parseArgs(args)
	switch {
	case err != nil:
		return err
	case o.help:
		return printLine(help())
	case o.version:
		return printLine(build.String("stasis-mount"))
	case o.foreground:
		return serve(o, printText)
	}
	text, err := background(args)
	if err != nil || text == "" {
		return err
	}
	return printText(text)
}

// printText prints what a daemon says.
func printText(text string) error { return printLine(terminal.Lines(text)) }

// daemonMain reports to the process that waits: what to print, or why it failed.
func daemonMain(args []string, rep *reporter) error {
	o, err := parseArgs(args)
	served := false
	if err == nil {
		err = serve(o, func(text string) error {
			served = true
			rep.send(report{Text: text})
			return nil
		})
	}
	if err == nil || served {
		return err // the log has it
	}
	var slip usageError
	rep.send(report{Error: err.Error(), Usage: errors.As(err, &slip)})
	return nil
}

func help() string {
	var o options
	var level string
	var opts []string
	return usage + strings.TrimRight(newFlags(&o, &level, &opts).FlagUsages(), "\n")
}

func printLine(text string) error {
	_, err := fmt.Println(text)
	return err
}
