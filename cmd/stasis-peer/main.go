package main

import (
	"errors"
	"fmt"
	"os"

	"stasis/cmd/internal/build"
	"stasis/cmd/internal/terminal"
)

// The exit codes that scripts rely on.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	o, err := parseArgs(args)
	switch {
	case err != nil:
	case o.help:
		err = printLine(help())
	case o.version:
		err = printLine(build.String("stasis-peer"))
	default:
		err = serve(o)
	}
	if err == nil {
		return 0
	}
	// Nobody is left to be told if even this can't be written.
	_, _ = fmt.Fprintln(os.Stderr, "stasis-peer: "+terminal.Lines(err.Error()))
	var slip usageError
	if errors.As(err, &slip) {
		return exitUsage
	}
	return exitFailed
}

func printLine(text string) error {
	_, err := fmt.Println(text)
	return err
}
